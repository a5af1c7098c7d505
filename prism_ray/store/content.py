"""What the files of a unit must hold beside the right bytes: its slots, whole images, finite labels."""

import io
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from prism_ray.errors import StoreError
from prism_ray.store.commits import Commit, read_part
from prism_ray.store.files import StoreFiles
from prism_ray.store.run import Run
from prism_ray.units import RecoverUnit, RelabelUnit, Slot, Unit


def find_fault(files: StoreFiles, run: Run, unit: Unit, commit: Commit) -> str | None:
    """Say what is wrong with what a unit's files hold, None if nothing; images and labels are looked into.

    Raises StoreError if a file cannot be read.
    """
    if not isinstance(unit, RecoverUnit | RelabelUnit):
        return None
    if len(commit.files) != 1:
        return f"its commit names {len(commit.files)} files, not 1"
    (part,) = commit.files
    try:
        table = pq.read_table(io.BytesIO(read_part(files, part)))
        if part.num_rows != table.num_rows:
            return f"{part.name} has {table.num_rows} rows, its commit says {part.num_rows}"
        if isinstance(unit, RecoverUnit):
            return _fault_of_images(run, unit, part.name, table)
        return _fault_of_labels(run, unit, part.name, table)
    except (pa.ArrowException, OSError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"{files.location}/{part.name} is damaged: {error}") from error


def _fault_of_images(run: Run, unit: RecoverUnit, name: str, table: pa.Table) -> str | None:
    rows = table.select(["image", "label", "ipc_index"]).to_pylist()
    slots = [Slot(row["label"], row["ipc_index"]) for row in rows]
    if slots != list(unit.slots):
        return f"{name} is not of the plan's images: {_difference(slots, list(unit.slots))}"
    size = run.config.data.image_size
    mode = "L" if run.facts.channels == 1 else "RGB"
    for slot, row in zip(slots, rows, strict=True):
        problem = _fault_of_png(row["image"]["bytes"], size, mode)
        if problem is not None:
            return f"{name}: image {slot.ipc_index} of class {slot.label} {problem}"
    return None


def _fault_of_png(data: bytes, size: int, mode: str) -> str | None:
    """Say what is wrong with an image; one that claims to be larger is not unpacked."""
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.size != (size, size) or image.mode != mode:
                found = f"{image.mode} of {image.width} x {image.height} pixels"
                return f"is {found}, not {mode} of {size} x {size}"
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return f"is no whole PNG: {error}"
    return None


def _fault_of_labels(run: Run, unit: RelabelUnit, name: str, table: pa.Table) -> str | None:
    expected = Counter(run.plan.group_slots(unit.image_set, unit.group))
    epochs = range(unit.first_epoch, unit.first_epoch + unit.num_epochs)
    if set(table["epoch"].unique().to_pylist()) != set(epochs):
        return f"{name} has not the epochs {epochs.start} to {epochs.stop - 1}"
    for epoch in epochs:
        rows = table.filter(pc.equal(table["epoch"], epoch))
        columns = (rows[column].to_pylist() for column in ("label", "ipc_index"))
        found = Counter(Slot(*pair) for pair in zip(*columns, strict=True))
        if found != expected:
            what = _difference(list(found.elements()), list(expected.elements()))
            return f"{name}, epoch {epoch}, is not of the group's images: {what}"
    logits = table["logits"].combine_chunks()
    num_classes = logits.type.list_size
    if num_classes != run.facts.num_classes:
        return f"{name} has logits of {num_classes} classes, not {run.facts.num_classes}"
    if not np.isfinite(logits.flatten().to_numpy(zero_copy_only=False)).all():
        return f"{name} has logits that are not finite"
    return None


def _difference(found: list[Slot], expected: list[Slot]) -> str:
    missing, extra = Counter(expected) - Counter(found), Counter(found) - Counter(expected)
    if not missing and not extra:
        return "they stand in another order"
    parts = []
    for word, slots in (("missing", missing), ("too many", extra)):
        if slots:
            slot = min(slots)
            parts.append(f"{slots.total()} {word}, the first is image {slot.ipc_index} of class {slot.label}")
    return "; ".join(parts)
