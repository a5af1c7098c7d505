"""Images as PNG files in class folders: the same pixels, under the same protocol, read by everyone."""

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
from torchvision.datasets import ImageFolder

from prism_ray.config import ImageFiles
from prism_ray.errors import StoreError
from prism_ray.parts.images import BatchLosses, ImageForm, read_batch, read_images, write_images
from prism_ray.run import Run, read_progress
from prism_ray.run.dataset import export_dataset
from prism_ray.run.export import export_folder
from prism_ray.stages.recover import RecoverUnit
from prism_ray.store import Commit, StoreFiles, layout, read_commit, revoke, write_commit
from prism_ray.store.gc import find_orphans

SET = "distilled"


@pytest.fixture
def run(make_run: Callable[..., Run]) -> Run:
    """3 classes, IPC 4, a batch for each IPC index."""
    return make_run(recover__ipc=4)


def pixels_of(unit: RecoverUnit, channels: int = 1) -> npt.NDArray[np.uint8]:
    rng = np.random.default_rng(unit.seed % 2**32)
    return rng.integers(0, 256, (len(unit.slots), channels, 8, 8), dtype=np.uint8)


def do(files: StoreFiles, run: Run, unit: RecoverUnit, kind: ImageFiles) -> Commit:
    """Write and commit a batch."""
    channels = run.facts.channels
    parts = write_images(
        files, unit, pixels_of(unit, channels), run.facts.class_names, kind, BatchLosses(0.5, 0.25, {})
    )
    commit = Commit(unit.id, run.fingerprint_of(unit.id), parts, {}, 1.0, "here", "now")
    assert write_commit(files, commit)
    return commit


def do_all(files: StoreFiles, run: Run, kind: ImageFiles = "png", image_set: str = SET) -> list[Commit]:
    return [do(files, run, unit, kind) for unit in run.plan.units("recover", image_set)]


def form_of(run: Run) -> ImageForm:
    return ImageForm.of(run.plan, SET)


def test_every_file_is_named_by_the_commit_the_parquet_file_first(files: StoreFiles, run: Run) -> None:
    """Catches a PNG that nothing vouches for, and figures that take it for the file of rows."""
    commit, *_ = do_all(files, run)
    assert [part.name for part in commit.files] == [
        "images/part-i00000-c00000-0.parquet",
        "images/00000/00000-0.png",
        "images/00001/00000-0.png",
        "images/00002/00000-0.png",
    ]
    assert [part.num_rows for part in commit.files] == [3, None, None, None]
    for part in commit.files:
        assert files.size(part.name) == part.num_bytes
    control = do(files, run, next(run.plan.units("recover", "random-real")), "png")
    assert control.files[1].name == "sets/random-real/images/00000/00000-0.png"


@pytest.mark.parametrize("channels", [1, 3])
def test_the_pixels_are_those_of_the_other_way(
    files: StoreFiles, tmp_path: Path, run: Run, channels: int
) -> None:
    """Catches another encoding, images that change places, and history that is lost."""
    run = replace(run, facts=replace(run.facts, channels=channels))
    other = StoreFiles(str(tmp_path / "other"))
    png, parquet = do_all(files, run, "png"), do_all(other, run, "parquet")
    one, two = read_images(files, png, form_of(run)), read_images(other, parquet, form_of(run))
    assert one.slots == two.slots
    assert np.array_equal(one.images, two.images)
    assert np.array_equal(one.images[:3], pixels_of(next(run.plan.units("recover", SET)), channels))
    for mine, theirs in zip(png, parquet, strict=True):
        rows, _ = read_batch(files, mine, form_of(run), with_history=True)
        expected, _ = read_batch(other, theirs, form_of(run), with_history=True)
        assert rows.equals(expected, check_metadata=True)


def test_the_index_is_plain_parquet_without_pixels(files: StoreFiles, run: Run) -> None:
    """Catches images that are kept twice, or a path from which nobody finds the file."""
    commit, *_ = do_all(files, run)
    rows = pq.read_table(io.BytesIO(files.read(commit.files[0].name))).to_pylist()
    assert [row["image"] for row in rows] == [{"bytes": None, "path": part.name} for part in commit.files[1:]]
    assert [(row["label"], row["ipc_index"], row["loss_ce"]) for row in rows] == [
        (label, 0, 0.5) for label in range(3)
    ]


def test_torchvision_reads_the_folder_as_it_is(local: StoreFiles, run: Run) -> None:
    """Catches Parquet files, or whatever else lies there, taken for a class or an image."""
    do_all(local, run)
    found = ImageFolder(str(Path(local.location) / "images"))
    assert found.classes == ["00000", "00001", "00002"]
    assert len(found) == 12
    stored = read_images(
        local, [read_commit(local, unit_id) for unit_id in run.plan.unit_ids("recover", SET)], form_of(run)
    )
    pixels = dict(zip(stored.slots, stored.images, strict=True))
    slots = sorted(pixels)
    for slot, (image, label) in zip(slots, found, strict=True):
        assert label == slot.label
        assert np.array_equal(np.asarray(image)[..., 0], pixels[slot][0])


def test_an_image_set_may_have_both(files: StoreFiles, run: Run, tmp_path: Path) -> None:
    """Catches a run that cannot go on in the other way, or an export of half of it."""
    units = list(run.plan.units("recover", SET))
    commits = [do(files, run, unit, "png" if k % 2 else "parquet") for k, unit in enumerate(units)]
    assert read_images(files, commits, form_of(run)).images.shape == (12, 1, 8, 8)
    whole = StoreFiles(str(tmp_path / "whole"))
    parquet = do_all(whole, run, "parquet")
    for kind in ("folder", "dataset"):
        mixed, plain = StoreFiles(str(tmp_path / f"{kind}-1")), StoreFiles(str(tmp_path / f"{kind}-2"))
        for store, of, target in ((files, commits, mixed), (whole, parquet, plain)):
            if kind == "folder":
                assert export_folder(store, run, SET, of, target) == 12
            else:
                assert export_dataset(store, run, SET, of, target) == 12
        written = [sorted(path.rglob("*")) for path in (tmp_path / f"{kind}-1", tmp_path / f"{kind}-2")]
        contents = [{p.name: p.read_bytes() for p in paths if p.is_file()} for paths in written]
        assert contents[0] == contents[1]


@pytest.mark.parametrize("done", [0, 1, 2, 3])
def test_an_attempt_that_was_cut_off_is_taken_over(
    files: StoreFiles, tmp_path: Path, run: Run, done: int
) -> None:
    """Catches images under two names after a kill between the first file and the commit."""
    unit = next(run.plan.units("recover", SET))
    undisturbed = do(StoreFiles(str(tmp_path / "calm")), run, unit, "png")
    for part in undisturbed.files[1 : 1 + done]:
        files.create(part.name, StoreFiles(str(tmp_path / "calm")).read(part.name))
    again = do(files, run, unit, "png")
    assert again.files == undisturbed.files
    assert sum(1 for _ in files.list("images")) == 4


def test_other_bytes_under_a_name_are_left_and_passed_over(files: StoreFiles, run: Run) -> None:
    """Catches an image written over under a commit that names it, or read in the place of the right one."""
    files.create("images/00001/00000-0.png", b"of another time")
    unit = next(run.plan.units("recover", SET))
    commit = do(files, run, unit, "png")
    assert commit.files[2].name == "images/00001/00000-1.png"
    assert np.array_equal(read_images(files, [commit], form_of(run)).images, pixels_of(unit))
    assert [orphan.name for orphan in find_orphans(files, 0.0)] == ["images/00001/00000-0.png"]


def cut(data: bytes) -> bytes:
    return data[:-20]


def flip(data: bytes) -> bytes:
    return data[:-20] + bytes([data[-20] ^ 1]) + data[-19:]


@pytest.mark.parametrize(
    ("harm", "problem", "is_seen_at_once"),
    [
        (None, "images/00001/00002-0.png is missing", True),
        (cut, "images/00001/00002-0.png has .* bytes, its commit says", True),
        (flip, "images/00001/00002-0.png has another SHA-256 than its commit says", False),
    ],
)
def test_verify_finds_a_missing_or_damaged_png(
    files: StoreFiles, run: Run, harm: Callable[[bytes], bytes] | None, problem: str, is_seen_at_once: bool
) -> None:
    """Catches an image that is gone while its batch counts as whole; and repairing that takes whole files."""
    do_all(files, run)
    assert not read_progress(files, run, deep=True).damaged
    name = "images/00001/00002-0.png"
    if harm is None:
        files.delete(name)
    else:
        files.replace(name, harm(files.read(name)))
    unit_id = "recover/distilled/i00002-c00000"
    for deep in (True, False):
        damaged = read_progress(files, run, deep=deep).damaged
        assert (list(damaged) == [unit_id]) == (deep or is_seen_at_once)
    with pytest.raises(StoreError, match=re.escape(name)):
        read_images(files, [read_commit(files, unit_id)], form_of(run))
    (found,) = read_progress(files, run, deep=True).damaged.values()
    assert re.search(problem, found)
    revoke(files, unit_id)
    assert not files.exists(name)
    assert files.exists("images/00000/00002-0.png")
    unit = next(unit for unit in run.plan.units("recover", SET) if unit.id == unit_id)
    assert do(files, run, unit, "png").files[2].name == name
    assert not read_progress(files, run, deep=True).damaged


def test_rows_and_commit_name_the_same_files(files: StoreFiles, run: Run) -> None:
    """Catches images of another batch, or none, under the rows of this one."""
    first, second, *_ = do_all(files, run)
    index, *pngs = first.files
    for parts in (
        (index, *pngs[:2]),
        (index, *pngs, pngs[0]),
        (index, *reversed(pngs)),
        (index, *second.files[1:]),
        (index, *pngs[:2], second.files[0]),
    ):
        with pytest.raises(StoreError, match="its rows have other PNG files than its commit"):
            read_batch(files, replace(first, files=parts), form_of(run))
    with pytest.raises(StoreError, match="image 0 of class 0 is missing"):
        read_batch(files, replace(first, files=(index,)), form_of(run))
    with pytest.raises(StoreError, match="names no file"):
        read_batch(files, replace(first, files=()), form_of(run))


def test_gc_leaves_what_a_commit_names(files: StoreFiles, run: Run) -> None:
    """Catches a collector that knows of Parquet files only."""
    do_all(files, run)
    assert list(find_orphans(files, 0.0)) == []
    files.delete(layout.commit("recover/distilled/i00001-c00000"))
    assert [orphan.name for orphan in find_orphans(files, 0.0)] == [
        *(f"images/{label:05d}/00001-0.png" for label in range(3)),
        "images/part-i00001-c00000-0.parquet",
    ]
