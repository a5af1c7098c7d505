"""What a file holds beside the right bytes: each fault is named, and a bomb is not unpacked."""

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from prism_ray.errors import StoreError
from prism_ray.parts.images import BatchLosses, encode_images
from prism_ray.parts.labels import EpochLabels, encode_labels
from prism_ray.parts.views import Views
from prism_ray.run import Run
from prism_ray.run.content import find_fault
from prism_ray.stages.formation import Slot
from prism_ray.stages.recover import RecoverUnit
from prism_ray.stages.relabel import RelabelUnit
from prism_ray.stages.squeeze import weights_part
from prism_ray.store import Commit, StoreFiles, write_part

Change = Callable[[list[dict[str, Any]]], None]


@pytest.fixture
def run(make_run: Callable[..., Run]) -> Run:
    """3 classes, 8 x 8 grey pixels, IPC 2, 4 epochs in units of 2, all images in one group."""
    return make_run()


@pytest.fixture
def images(run: Run) -> RecoverUnit:
    return next(run.plan.units("recover", "distilled"))


@pytest.fixture
def labels(run: Run) -> RelabelUnit:
    return next(run.plan.units("relabel", "distilled"))


def image_part(run: Run, unit: RecoverUnit) -> bytes:
    pixels = np.zeros((len(unit.slots), 1, 8, 8), np.uint8)
    return encode_images(unit, pixels, run.facts.class_names, BatchLosses(0.5, 0.25, {}))


def epochs_of(slots: Sequence[Slot], epochs: Sequence[int], num_classes: int = 3) -> list[EpochLabels]:
    columns: dict[str, Any] = {field.name: np.zeros(len(slots), np.int64) for field in fields(Views)}
    columns |= {name: np.zeros(len(slots), np.bool_) for name in ("flip", "swap_columns", "swap_rows")}
    columns["crop_height"] = columns["crop_width"] = np.full(len(slots), 8)
    columns["label"] = np.array([slot.label for slot in slots])
    columns["ipc_index"] = np.array([slot.ipc_index for slot in slots])
    logits = np.zeros((len(slots), num_classes), np.float16)
    return [EpochLabels(epoch, Views(**columns), logits) for epoch in epochs]


def fault_of(
    files: StoreFiles, run: Run, unit: RecoverUnit | RelabelUnit, data: bytes, num_rows: int | None = None
) -> str | None:
    """Commit `data` as the unit's file and look into it."""
    if num_rows is None:
        num_rows = pq.ParquetFile(io.BytesIO(data)).metadata.num_rows
    part = write_part(files, lambda attempt: f"images/{attempt}", data, num_rows)
    try:
        return find_fault(files, run, unit, Commit(unit.id, "f", (part,), {}, 1.0, "here", "now"))
    except StoreError as error:
        return str(error)


def with_images(data: bytes, change: Change) -> bytes:
    """Change the rows of an image part."""
    table = pq.read_table(io.BytesIO(data))
    rows = table.to_pylist()
    change(rows)
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, table.schema), sink)
    return sink.getvalue()


def png(size: int, mode: str = "L") -> bytes:
    sink = io.BytesIO()
    Image.new(mode, (size, size)).save(sink, format="PNG")
    return sink.getvalue()


def test_what_the_codecs_write_has_no_fault(
    local: StoreFiles, run: Run, images: RecoverUnit, labels: RelabelUnit
) -> None:
    """Catches a verify that finds fault with every store."""
    slots = list(run.plan.formation("distilled").group_slots(0))
    assert len(slots) == 6
    assert fault_of(local, run, images, image_part(run, images)) is None
    assert fault_of(local, run, labels, encode_labels(epochs_of(slots, [0, 1]))) is None


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda rows: rows.pop(), "1 missing, the first is image"),
        (lambda rows: rows.append(dict(rows[0])), "1 too many, the first is image 0 of class 0"),
        (lambda rows: rows.reverse(), "their order is another"),
        (lambda rows: rows[0].update(ipc_index=1), "1 missing, .*; 1 too many, .* image 1 of class 0"),
        (lambda rows: rows[0].update(label=None), "there is no image 0 of class None"),
        (lambda rows: rows[0].update(image=None), "image 0 of class 0 is missing"),
        (lambda rows: rows[0].update(label=77), "there is no image 0 of class 77"),
        (lambda rows: rows[1]["image"].update(bytes=b"no PNG"), "image 0 of class 1 is not a complete PNG"),
        (
            lambda rows: rows[1]["image"].update(bytes=png(8)[:-25]),
            "image 0 of class 1 is not a complete PNG",
        ),
        (lambda rows: rows[1]["image"].update(bytes=png(8, "RGB")), "is RGB of 8 x 8 pixels, not L of 8 x 8"),
        (lambda rows: rows[1]["image"].update(bytes=png(9)), "is L of 9 x 9 pixels, not L of 8 x 8"),
        (lambda rows: rows[1]["image"].update(bytes=png(6000)), "is L of 6000 x 6000 pixels, not L of 8 x 8"),
    ],
)
def test_faults_of_images_are_named(
    change: Callable[[list[dict[str, Any]]], None],
    named: str,
    local: StoreFiles,
    run: Run,
    images: RecoverUnit,
) -> None:
    """Catches a class without images, an image under another's label, and one that unpacks to gigabytes."""
    data = with_images(image_part(run, images), change)
    fault = fault_of(local, run, images, data)
    assert fault is not None
    assert re.search(named, fault), fault


def test_faults_of_labels_are_named(local: StoreFiles, run: Run, labels: RelabelUnit) -> None:
    """Catches students trained on labels of other images, on NaN, or on half the epochs."""
    slots = list(run.plan.formation("distilled").group_slots(0))
    whole = epochs_of(slots, [0, 1])
    bad = whole[1].logits.copy()
    bad[2, 1] = np.nan
    for epochs, named in (
        ([whole[0]], "says that images/0 has 6 rows, and it must have 12"),
        (epochs_of(slots, [0, 1, 2]), "says that images/1 has 18 rows, and it must have 12"),
        (epochs_of(slots, [0, 2]), "epoch 1, does not contain the images of the group: 6 missing"),
        (
            epochs_of([*slots[1:], slots[1]], [0, 1]),
            "epoch 0, does not contain the images of the group: 1 missing",
        ),
        ([whole[0], replace(whole[1], logits=bad)], "a logit is not finite"),
        (epochs_of(slots, [0, 1], num_classes=4), "column logits is fixed_size_list<element: halffloat>[4]"),
    ):
        fault = fault_of(local, run, labels, encode_labels(epochs))
        assert fault is not None
        assert named in fault


def test_rows_are_those_of_the_commit(local: StoreFiles, run: Run, images: RecoverUnit) -> None:
    """Catches a commit whose count nobody checks."""
    fault = fault_of(local, run, images, image_part(run, images), num_rows=7)
    assert fault is not None
    assert fault.startswith(f"{local.location}/images/0 is damaged: 3 rows, not 7; run `prism-ray verify")


@pytest.mark.parametrize("data", [b"", b"PAR1", b"x" * 100])
def test_what_is_no_parquet_is_damaged(data: bytes, local: StoreFiles, run: Run, images: RecoverUnit) -> None:
    """Catches an error of pyarrow's that ends the verification of all else."""
    assert "images/0 is damaged" in str(fault_of(local, run, images, data, num_rows=6))


def test_other_units_have_nothing_to_look_into(local: StoreFiles, run: Run) -> None:
    """Catches teachers and students read as images."""
    unit = next(run.plan.units("squeeze"))
    part = write_part(local, lambda attempt: weights_part("a", attempt), b"x")
    assert find_fault(local, run, unit, Commit(unit.id, "f", (part,), {}, 1.0, "here", "now")) is None
