"""Merging small parts: fewer files, the same images and labels, and no gap while it goes on."""

import io
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from prism_ray.errors import StoreError
from prism_ray.parts.images import ImageForm, encode_images, read_images
from prism_ray.parts.labels import EpochLabels, LabelForm, LabelReader, encode_labels
from prism_ray.parts.views import Views
from prism_ray.run import Run, read_progress, save_run
from prism_ray.run.compact import compact
from prism_ray.run.dataset import export_dataset
from prism_ray.run.export import export_folder
from prism_ray.run.sets import commits_of_set
from prism_ray.stages.formation import Slot
from prism_ray.stages.recover import RecoverUnit, image_part
from prism_ray.stages.relabel import RelabelUnit, label_part
from prism_ray.store import Commit, StoreFiles, layout, read_commit, revoke, write_commit, write_part
from prism_ray.store.gc import find_orphans

LARGE = 10**6


@pytest.fixture
def run(make_run: Callable[..., Run]) -> Run:
    """3 classes, 8 x 8 grey pixels, IPC 2: 4 batches of each set in 2 groups, 4 epochs in units of 2."""
    return make_run(recover__images_per_batch=2, relabel__images_per_group=4)


@pytest.fixture
def filled(files: StoreFiles, run: Run) -> StoreFiles:
    """All images and labels of the run, of random pixels and logits."""
    save_run(files, run)
    rng = np.random.default_rng(0)
    for unit in [*run.plan.units("recover"), *run.plan.units("relabel")]:
        if isinstance(unit, RecoverUnit):
            pixels = rng.integers(0, 256, (len(unit.slots), 1, 8, 8), np.uint8)
            data, num_rows = encode_images(unit, pixels, run.facts.class_names), len(unit.slots)
            part = write_part(files, lambda k, unit=unit: image_part(unit, k), data, num_rows)
        else:
            assert isinstance(unit, RelabelUnit)
            slots = list(run.plan.formation(unit.image_set).group_slots(unit.group))
            epochs = range(unit.first_epoch, unit.first_epoch + unit.num_epochs)
            data = encode_labels([labels_of(slots, epoch, rng) for epoch in epochs])
            num_rows = len(slots) * unit.num_epochs
            part = write_part(files, lambda k, unit=unit: label_part(unit, k), data, num_rows)
        write_commit(files, Commit(unit.id, run.fingerprint_of(unit.id), (part,), {"a": 1}, 1.0, "x", "now"))
    return files


def labels_of(slots: Sequence[Slot], epoch: int, rng: np.random.Generator) -> EpochLabels:
    columns: dict[str, Any] = {field.name: np.zeros(len(slots), np.int64) for field in fields(Views)}
    columns |= {name: rng.random(len(slots)) < 0.5 for name in ("flip", "swap_columns", "swap_rows")}
    columns["crop_height"], columns["crop_width"] = rng.integers(1, 9, (2, len(slots)))
    columns["label"] = np.array([slot.label for slot in slots])
    columns["ipc_index"] = np.array([slot.ipc_index for slot in slots])
    return EpochLabels(epoch, Views(**columns), rng.normal(size=(len(slots), 3)).astype(np.float16))


def held(files: StoreFiles, run: Run) -> list[Any]:
    """All that the readers get out of a store, as plain data."""
    found: list[Any] = []
    for name in run.plan.image_sets:
        stored = read_images(files, commits_of_set(files, run, name), ImageForm.of(run.plan, name))
        found += [stored.slots, stored.images.tolist()]
        commits = [read_commit(files, unit.id) for unit in run.plan.units("relabel", name)]
        labels = LabelReader(files, commits, LabelForm.of(run.plan, name))
        for epoch in range(4):
            read = labels.epoch(epoch)
            found += [read.logits.tolist(), *(getattr(read.views, f.name).tolist() for f in fields(Views))]
    return found


def names(files: StoreFiles) -> set[str]:
    return {name for folder in layout.part_folders() for name, _ in files.list(folder)}


def pngs(data: bytes) -> list[bytes]:
    return [row["bytes"] for row in pq.read_table(io.BytesIO(data))["image"].to_pylist()]


def with_a_bit_flipped(data: bytes) -> bytes:
    """Flip a bit in the third image, not in the copies of it that are statistics."""
    wanted = pngs(data)[2]
    place = data.index(wanted)
    while True:
        changed = bytearray(data)
        changed[place + len(wanted) // 2] ^= 1
        if pngs(bytes(changed)) != pngs(data):
            return bytes(changed)
        place = data.index(wanted, place + 1)


def test_few_files_hold_what_many_did(filled: StoreFiles, run: Run) -> None:
    """Catches images or labels lost, doubled or exchanged; and small parts that stay."""
    before, small = held(filled, run), names(filled)
    merged = list(compact(filled, run, LARGE))
    assert [each.num_parts for each in merged] == [4, 4, 4, 4]  # images, then labels, of two sets
    assert held(filled, run) == before
    orphans = [orphan.name for orphan in find_orphans(filled, 0.0)]
    assert set(orphans) == small
    for name in orphans:
        filled.delete(name)
    assert names(filled) == {each.name for each in merged}
    assert held(filled, run) == before
    assert list(compact(filled, run, LARGE)) == []


def test_a_merged_store_is_whole_for_verify_and_export(
    filled: StoreFiles, run: Run, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Catches a verify that finds fault with every merged unit, or an export of all of them for each."""
    before = read_progress(filled, run, deep=True)
    small, large = (StoreFiles(str(tmp_path_factory.mktemp(name))) for name in ("small", "large"))
    commits = commits_of_set(filled, run, "distilled")
    assert export_folder(filled, run, "distilled", commits, small) == 6
    list(compact(filled, run, LARGE))
    for name in [orphan.name for orphan in find_orphans(filled, 0.0)]:
        filled.delete(name)
    after = read_progress(filled, run, deep=True)
    assert (after.damaged, set(after.done), after.stages) == ({}, set(before.done), before.stages)
    commits = commits_of_set(filled, run, "distilled")
    assert export_folder(filled, run, "distilled", commits, large) == 6
    assert [(name, small.read(name)) for name, _ in small.list("train")] == [
        (name, large.read(name)) for name, _ in large.list("train")
    ]
    dataset = StoreFiles(str(tmp_path_factory.mktemp("dataset")))
    assert export_dataset(filled, run, "distilled", commits, dataset) == 6
    rows = {scope: figures.num_rows for scope, figures in after.figures.items()}
    assert rows == {scope: figures.num_rows for scope, figures in before.figures.items()}
    total = sum(size for folder in ("images", "labels", "sets") for _, size in filled.list(folder))
    assert total / 4 < sum(figures.num_bytes for figures in after.figures.values()) <= total


def test_parts_are_merged_up_to_a_size(filled: StoreFiles, run: Run) -> None:
    """Catches one file of a terabyte, and large parts written once more."""
    before = held(filled, run)
    largest = max(size for _, size in filled.list("images"))
    merged = list(compact(filled, run, 2 * largest + 100))
    assert {each.num_parts for each in merged if "images" in each.name} == {2}
    assert held(filled, run) == before
    assert not [each for each in compact(filled, run, largest) if "images" in each.name]


def test_a_merge_cut_off_anywhere_loses_nothing(filled: StoreFiles, run: Run) -> None:
    """Catches a reader that finds a gap, between the writing of a file and the last commit that names it."""
    before = held(filled, run)

    class CutOff(Exception):
        pass

    class Cut(StoreFiles):
        """Ends at the n-th write."""

        left = 0

        def replace(self, name: str, data: bytes) -> None:
            if self.left == 0:
                raise CutOff
            self.left -= 1
            super().replace(name, data)

    for number in range(5):
        cut = Cut(filled.location)
        cut.left = number
        with pytest.raises(CutOff):
            list(compact(cut, run, LARGE))
        assert held(filled, run) == before
    list(compact(filled, run, LARGE))
    assert held(filled, run) == before


def test_a_damaged_merged_file_is_found_and_its_units_done_again(filled: StoreFiles, run: Run) -> None:
    """Catches a verify that hashes the wrong bytes, and a unit set back that takes its neighbours with it."""
    merged = next(each for each in compact(filled, run, LARGE) if each.name.startswith("images/"))
    batches = [unit.id for unit in run.plan.units("recover", "distilled")]
    revoke(filled, batches[0])
    assert filled.exists(merged.name)
    assert not read_progress(filled, run, deep=True).damaged
    filled.replace(merged.name, with_a_bit_flipped(filled.read(merged.name)))
    damaged = read_progress(filled, run, deep=True).damaged
    assert set(damaged) == set(batches[1:])
    form = ImageForm.of(run.plan, "distilled")
    commits = [read_commit(filled, unit_id) for unit_id in batches[1:]]
    with pytest.raises(StoreError, match=r"damaged: .*CRC"):
        read_images(filled, commits, form)
    for unit_id in batches[1:]:
        revoke(filled, unit_id)
    assert not filled.exists(merged.name)


def test_the_ledger_is_written_anew(filled: StoreFiles, run: Run) -> None:
    """Catches a ledger of thousands of files, or one that names the parts of before."""
    for number in range(3):
        filled.create(f"{layout.LEDGER}/old-{number}.parquet", b"")
    list(compact(filled, run, LARGE))
    assert len(list(filled.list(layout.LEDGER))) <= 1
