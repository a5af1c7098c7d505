"""What others get: an ImageFolder and a Hugging Face dataset folder, read by the libraries they are for."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import ImageFolder

from prism_ray.errors import StoreError, UsageError
from prism_ray.parts.images import encode_images
from prism_ray.run import Run
from prism_ray.run.export import export_dataset, export_folder
from prism_ray.stages.formation import Slot
from prism_ray.stages.recover import RecoverUnit, image_part
from prism_ray.store import Commit, PartFile, StoreFiles, write_part

datasets = pytest.importorskip("datasets")


EXPECTED = [(label, index) for label in range(3) for index in range(4)]


@pytest.fixture
def run(make_run: Callable[..., Run]) -> Run:
    return make_run(recover__ipc=4)


@pytest.fixture
def commits(run: Run, local: StoreFiles) -> Sequence[Commit]:
    """Four batches of three images in a store; image (label, k) is grey of value 50 * label + k."""
    made = []
    for index in range(4):
        slots = tuple(Slot(label, index) for label in range(3))
        draw = ("a", "b")[: 1 + index % 2]
        unit = RecoverUnit("distilled", f"i{index:05d}", slots, (9, 9, 9), (draw,), index)
        images = np.stack([np.full((1, 8, 8), 50 * label + index, np.uint8) for label in range(3)])
        data = encode_images(unit, images, run.facts.class_names, 0.5, 0.25)
        part = write_part(local, lambda attempt, unit=unit: image_part(unit, attempt), data, 3)
        made.append(Commit(unit.id, "f", (part,), {}, 1.0, "here", "now"))
    return made


def test_a_folder_is_torchvisions(
    run: Run, local: StoreFiles, commits: Sequence[Commit], tmp_path: Path
) -> None:
    """Catches labels that change places because folders are sorted as text, and pixels that change."""
    target = StoreFiles(str(tmp_path / "out"))
    assert export_folder(local, run, "distilled", commits, target) == 12
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["classes.json", "train"]
    found = ImageFolder(str(tmp_path / "out" / "train"))
    assert len(found) == 12
    for number, (image, label) in enumerate(found):
        assert label == number // 4
        assert np.asarray(image)[0, 0, 0] == 50 * label + number % 4


@pytest.mark.parametrize(("max_bytes", "num_files"), [(10**9, 1), (1, 4)])
def test_a_dataset_folder_is_loaded_as_it_is(
    max_bytes: int, num_files: int, run: Run, local: StoreFiles, commits: Sequence[Commit], tmp_path: Path
) -> None:
    """Catches files that `datasets` does not find, features that are lost, or rows that are."""
    target = StoreFiles(str(tmp_path / "out"))
    assert export_dataset(local, run, "distilled", commits, target, max_bytes) == 12
    names = [path.name for path in sorted((tmp_path / "out" / "data").iterdir())]
    assert names == [f"train-{number:05d}-of-{num_files:05d}.parquet" for number in range(num_files)]
    found = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert list(found) == ["train"]
    rows = found["train"]
    assert rows.features["label"].names == list(run.facts.class_names)
    assert rows.num_rows == 12
    assert sorted((row["label"], row["ipc_index"]) for row in rows) == [
        (c, k) for c in range(3) for k in range(4)
    ]
    for row in rows:
        assert np.asarray(row["image"])[0, 0] == 50 * row["label"] + row["ipc_index"]
        assert row["teachers"] == ["a", "b"][: 1 + row["ipc_index"] % 2]
    assert "12 images distilled from digits" in (tmp_path / "out" / "README.md").read_text()


def test_nothing_is_written_over(
    run: Run, local: StoreFiles, commits: Sequence[Commit], tmp_path: Path
) -> None:
    """Catches two data sets mixed up in one folder."""
    target = StoreFiles(str(tmp_path / "out"))
    export_folder(local, run, "distilled", commits, target)
    with pytest.raises(UsageError, match=r"classes\.json exists already; give --to"):
        export_folder(local, run, "distilled", commits, target)


def test_a_damaged_part_is_named(
    run: Run, local: StoreFiles, commits: Sequence[Commit], tmp_path: Path
) -> None:
    """Catches an export of what a commit does not name."""
    part: PartFile = commits[2].files[0]
    local.replace(part.name, b"x" * part.num_bytes)
    with pytest.raises(StoreError, match="SHA-256"):
        export_folder(local, run, "distilled", commits, StoreFiles(str(tmp_path / "out")))
