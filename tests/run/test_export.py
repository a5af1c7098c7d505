"""What others get: an ImageFolder and a Hugging Face dataset folder, read by the libraries they are for."""

import json
import pathlib
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torchvision
from click.testing import CliRunner
from torchvision.datasets import ImageFolder

from prism_ray.cli import main
from prism_ray.errors import StoreError, UsageError
from prism_ray.parts.images import BatchLosses, encode_images
from prism_ray.run import Run, new_run
from prism_ray.run.dataset import export_dataset
from prism_ray.run.export import export_folder
from prism_ray.stages.formation import Slot
from prism_ray.stages.recover import RecoverUnit, image_part
from prism_ray.store import Commit, PartFile, StoreFiles, revoke, write_part
from tests.filled import finish

datasets = pytest.importorskip("datasets")


EXPECTED = [(label, index) for label in range(3) for index in range(4)]

LOSSES = BatchLosses(0.5, 0.25, {})


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
        data = encode_images(unit, images, run.facts.class_names, LOSSES)
        part = write_part(local, lambda attempt, unit=unit: image_part(unit, attempt), data, 3)
        made.append(Commit(unit.id, "f", (part,), {}, 1.0, "here", "now"))
    return made


def test_files_are_written_beside_each_other(
    run: Run, local: StoreFiles, commits: Sequence[Commit], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches 50,000 images that wait for the disk, or for the network, one after the other."""
    batch = threading.Barrier(3, timeout=20)  # broken if not all three images of a batch are written at once
    whole = StoreFiles.create

    def create(files: StoreFiles, name: str, data: bytes) -> bool:
        if name.endswith(".png"):
            batch.wait()
        return whole(files, name, data)

    monkeypatch.setattr(StoreFiles, "create", create)
    assert export_folder(local, run, "distilled", commits, StoreFiles(str(tmp_path / "out"))) == 12
    assert len(list((tmp_path / "out").rglob("*.png"))) == 12


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


def test_folders_have_the_names_of_classes_and_their_labels(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    """Catches labels of ImageFolder, which sorts folders, in place of those of the run."""
    run = make_run(recover__ipc=2)
    names = ("zebra", "a/b", "Äpfel")
    run = replace(run, facts=replace(run.facts, class_names=names))
    files = StoreFiles(str(tmp_path / "run"))
    finish(files, new_run(run.config, run.facts, 1))
    result = CliRunner().invoke(main, ["export", files.location, "--to", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "out" / "train").iterdir()) == ["00001", "zebra", "Äpfel"]
    found = eval(
        result.stdout.splitlines()[-1].strip(), {"torchvision": torchvision, "json": json, "pathlib": pathlib}
    )
    of_path = {Path(path).parent.name: label for (path, _), (_, label) in zip(found.imgs, found, strict=True)}
    assert of_path == {"zebra": 0, "00001": 1, "Äpfel": 2}


def test_an_export_is_not_mixed_with_another(make_run: Callable[..., Run], tmp_path: Path) -> None:
    """Catches files of two exports in one folder, of which a reader takes all."""
    files = StoreFiles(str(tmp_path / "run"))
    finish(files, make_run())
    for name in ("data/train-00000-of-00009.parquet", "labels/x", "train/a/00000.png", "README.md"):
        target = tmp_path / name.replace("/", "-")
        (target / name).parent.mkdir(parents=True)
        (target / name).write_bytes(b"")
        for kind in ("folder", "dataset"):
            result = CliRunner().invoke(main, ["export", files.location, "--to", str(target), "--as", kind])
            assert result.exit_code == 2
            assert f"{name} exists already; give --to a new folder" in result.output
        assert [path.name for path in target.iterdir()] == [name.split("/")[0]]


def test_a_dataset_of_unfinished_labels_is_refused(make_run: Callable[..., Run], tmp_path: Path) -> None:
    """Catches a dataset without its labels, or with some of them, in silence."""
    files = StoreFiles(str(tmp_path / "run"))
    run = make_run()
    finish(files, run)
    revoke(files, next(iter(run.plan.unit_ids("relabel"))))
    words = ["export", files.location, "--as", "dataset", "--to"]
    result = CliRunner().invoke(main, [*words, str(tmp_path / "out")])
    assert result.exit_code == 2
    assert re.search(
        r"labels of 'distilled' are not finished, 1 of 2 units .*--without-labels", result.output
    )
    assert not (tmp_path / "out").exists()
    assert CliRunner().invoke(main, [*words, str(tmp_path / "out"), "--without-labels"]).exit_code == 0


def test_options_that_do_not_fit_are_said(make_run: Callable[..., Run], tmp_path: Path) -> None:
    """Catches an option without effect."""
    files = StoreFiles(str(tmp_path / "run"))
    finish(files, make_run())
    for options, message in (
        (["--to", str(tmp_path / "x"), "--without-labels"], "--without-labels is for --as dataset"),
        ([], "either a new folder with --to, or a new repository of the Hub with --push"),
    ):
        result = CliRunner().invoke(main, ["export", files.location, *options])
        assert result.exit_code == 2
        assert message in result.output


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
