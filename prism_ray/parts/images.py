"""Image parts: lossless PNG in the Hugging Face image layout, one Parquet file per batch.

The PNGs are in the Parquet file, or they are separate files in class folders and the Parquet file has their
names. A commit names all of them, the Parquet file first.

Nothing in the files is trusted: rows, columns and pixels are compared with the run before they are unpacked.
"""

import io
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from prism_ray.config import ImageFiles
from prism_ray.parts.png import decode_png, encode_png
from prism_ray.parts.rows import RowLayout, open_rows
from prism_ray.plan import Plan
from prism_ray.stages.formation import Slot
from prism_ray.stages.recover import RecoverUnit, image_file, image_part
from prism_ray.store import layout
from prism_ray.store.commits import Commit, PartFile, read_part, write_part
from prism_ray.store.elsewhere import own_name
from prism_ray.store.files import StoreFiles
from prism_ray.store.remedy import damaged

IMAGE_SCHEMA = pa.schema(
    [
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("label", pa.int64()),
        ("ipc_index", pa.int32()),
        ("batch", pa.string()),
        ("teachers", pa.list_(pa.string())),
        ("num_iterations", pa.int32()),
        ("seed", pa.int64()),
        ("loss_ce", pa.float32()),
        ("loss_bn", pa.float32()),
    ]
)
IMAGE_OPTIONS: dict[str, Any] = {  # of pyarrow.parquet.write_table
    "compression": {"image.bytes": "none", "image.path": "zstd"}
    | {name: "zstd" for name in IMAGE_SCHEMA.names if name not in ("image", "teachers")}
    | {"teachers.list.element": "zstd"},
    "use_dictionary": ["batch", "label"],
}
DRAWS = "prism_ray.draws"
CURVE = "prism_ray.curve"
OF_A_BATCH = (DRAWS, CURVE)  # metadata of a batch's file; a merged file has an object of them, by batch

Cell = dict[str, Any]  # of column `image`: bytes of the PNG, and its path

_KEYS = pa.schema([IMAGE_SCHEMA.field(name) for name in ("image", "label", "ipc_index")])
_FILES_AT_ONCE = 8  # PNG files that are written or read at a time
_ROW_BYTES = 2**14  # of a row without its image: the names of a hundred teachers
_PNG_BYTES = 2**12  # of a PNG without its pixels
_METADATA_BYTES = 2**24  # of a file: the names of 20,000 classes, the draws of 4,000 iterations


@dataclass(frozen=True)
class ImageForm:
    """The sizes and counts that the images of a set must have."""

    channels: int
    size: int  # pixels of a side
    max_images: int  # in a batch
    num_classes: int
    ipc: int

    @classmethod
    def of(cls, plan: Plan, image_set: str) -> Self:
        """Return the form of an image set of a run."""
        config = plan.config.image_sets[image_set]
        return cls(
            channels=plan.facts.channels,
            size=plan.config.data.image_size,
            max_images=config.images_per_batch,
            num_classes=plan.facts.num_classes,
            ipc=config.ipc,
        )

    @property
    def max_png_bytes(self) -> int:
        """Most bytes of an image: the PNG of noise is a little larger than the pixels."""
        return 2 * self.channels * self.size**2 + _PNG_BYTES

    @property
    def max_part_bytes(self) -> int:
        """Most bytes of a batch's file, packed or unpacked."""
        return self.max_images * (self.max_png_bytes + _ROW_BYTES) + _METADATA_BYTES


@dataclass(frozen=True)
class BatchLosses:
    """The losses of an optimised batch: those of its last iteration, and the curve as a JSON object."""

    ce: float
    bn: float  # mean of R_m, weighted by the votes
    curve: dict[str, Any]  # the fields of recover.curve.LossCurve


@dataclass(frozen=True)
class StoredImages:
    """Images read back from parts, in the order of the slots."""

    slots: tuple[Slot, ...]
    images: npt.NDArray[np.uint8]  # B, channels, H, W


def write_images(
    files: StoreFiles,
    unit: RecoverUnit,
    images: npt.NDArray[np.uint8],
    class_names: Sequence[str],
    kind: ImageFiles,
    losses: BatchLosses | None = None,
) -> tuple[PartFile, ...]:
    """Write the files of a batch; return them as the commit names them.

    `images` is uint8 (B, channels, H, W) in the order of the unit's slots, with 1 channel (grey) or 3 (RGB).
    A selection has no losses.
    """

    def write_png(slot: Slot, image: npt.NDArray[np.uint8]) -> PartFile:
        return write_part(files, partial(image_file, unit, slot), encode_png(image))

    pngs: tuple[PartFile, ...] = ()
    if kind == "png":
        with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
            pngs = tuple(pool.map(write_png, unit.slots, images))
    data = encode_images(unit, images, class_names, losses, pngs)
    return write_part(files, partial(image_part, unit), data, len(unit.slots)), *pngs


def encode_images(
    unit: RecoverUnit,
    images: npt.NDArray[np.uint8],
    class_names: Sequence[str],
    losses: BatchLosses | None = None,
    pngs: Sequence[PartFile] = (),
) -> bytes:
    """Return the Parquet file of a batch, see `write_images`; it contains the images or the names of `pngs`.

    Column `teachers` has all teachers that supervised the batch. The draws and the curve are in the file's
    metadata as JSON, with the keys prism_ray.draws and prism_ray.curve.
    """
    num_images, teachers = len(unit.slots), unit.teachers
    if pngs:
        cells: list[Cell] = [{"bytes": None, "path": png.name} for png in pngs]
    else:
        cells = [_cell(slot, encode_png(image)) for slot, image in zip(unit.slots, images, strict=True)]
    rows = {
        "image": cells,
        "label": [slot.label for slot in unit.slots],
        "ipc_index": [slot.ipc_index for slot in unit.slots],
        "batch": [unit.key] * num_images,
        "teachers": [list(teachers)] * num_images,
        "num_iterations": list(unit.iterations),
        "seed": [unit.seed] * num_images,
        "loss_ce": [losses and losses.ce] * num_images,
        "loss_bn": [losses and losses.bn] * num_images,
    }
    index_of = {name: index for index, name in enumerate(teachers)}
    draws = {"teachers": teachers, "draws": [[index_of[name] for name in draw] for draw in unit.draws]}
    metadata = describe_columns(class_names) | {DRAWS: json.dumps(draws)}
    if losses is not None:
        metadata[CURVE] = json.dumps(losses.curve, separators=(",", ":"))
    table = pa.table(rows, schema=IMAGE_SCHEMA.with_metadata(metadata))
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=1000, **IMAGE_OPTIONS)
    return sink.getvalue()


def _cell(slot: Slot, png: bytes) -> Cell:
    return {"bytes": png, "path": f"{slot.label:05d}/{slot.ipc_index:05d}.png"}


def read_batch(
    files: StoreFiles, commit: Commit, form: ImageForm, *, with_history: bool = False
) -> tuple[pa.Table, StoredImages]:
    """Read the images of a batch, as rows that contain the PNGs and as pixels.

    The rows have image, label and IPC index; with `with_history` they have all columns. Raises StoreError
    with the file and the problem: bytes or rows are not the committed ones, or an image is not a PNG of the
    run's size.
    """
    if not commit.files:
        raise damaged(files, layout.commit(commit.unit), "it names no file")
    part, *pngs = commit.files
    try:
        if part.piece is None and part.num_bytes > form.max_part_bytes:
            raise ValueError(f"{part.num_bytes:,} bytes, and such a file has at most {form.max_part_bytes:,}")
        reader, groups = open_rows(files, part, IMAGE_SCHEMA if with_history else _KEYS, at_once=True)
        table = reader.read(groups, form.max_part_bytes)
        if table.num_rows > form.max_images:
            raise ValueError(f"{table.num_rows} rows, and a batch has at most {form.max_images}")
        slots = _slots(table, form)
        cells: list[Cell | None] = table["image"].to_pylist()
        if pngs:
            if [cell and cell["path"] for cell in cells] != [own_name(png.name) for png in pngs]:
                raise ValueError("its rows have other PNG files than its commit")
            read = partial(read_part, files, max_bytes=form.max_png_bytes)
            with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
                cells = list(map(_cell, slots, pool.map(read, pngs)))
            column = IMAGE_SCHEMA.field("image")
            table = table.set_column(0, column, pa.array(cells, column.type))
        images = np.empty((len(slots), form.channels, form.size, form.size), np.uint8)
        for slot, image, cell in zip(slots, images, cells, strict=True):
            image[:] = _decode(slot, cell, form)
    except ValueError as error:
        raise damaged(files, part.name, error) from None
    return table, StoredImages(slots, images)


def _slots(table: pa.Table, form: ImageForm) -> tuple[Slot, ...]:
    slots = tuple(map(Slot, table["label"].to_pylist(), table["ipc_index"].to_pylist()))
    for slot in slots:
        if slot.label not in range(form.num_classes) or slot.ipc_index not in range(form.ipc):
            raise ValueError(f"there is no image {slot.ipc_index} of class {slot.label}")
    return slots


def _decode(slot: Slot, cell: Cell | None, form: ImageForm) -> npt.NDArray[np.uint8]:
    where = f"image {slot.ipc_index} of class {slot.label}"
    if cell is None or cell["bytes"] is None:
        raise ValueError(f"{where} is missing")
    try:
        return decode_png(cell["bytes"], form.channels, form.size)
    except ValueError as error:
        raise ValueError(f"{where} {error}") from None


def read_images(files: StoreFiles, commits: Sequence[Commit], form: ImageForm) -> StoredImages:
    """Read the images of several batches in the order of their commits.

    Raises StoreError if a part cannot be read, or is not as its commit and the run say.
    """
    room = sum(_most_rows(commit, form) for commit in commits)
    images = np.empty((room, form.channels, form.size, form.size), np.uint8)  # filled, so there once only
    slots: list[Slot] = []
    for commit in commits:
        batch = read_batch(files, commit, form)[1]
        images[len(slots) : len(slots) + len(batch.slots)] = batch.images
        slots += batch.slots
    return StoredImages(tuple(slots), images[: len(slots)])


def _most_rows(commit: Commit, form: ImageForm) -> int:
    """Return how many images `read_batch` returns at most for a commit."""
    counts = [part.num_rows for part in commit.files[:1] if part.num_rows is not None]
    return min([form.max_images, *counts])


def image_rows(plan: Plan, image_set: str) -> RowLayout:
    """Return the way in which `compact` writes the image files of a set."""
    max_bytes = ImageForm.of(plan, image_set).max_part_bytes
    return RowLayout(IMAGE_SCHEMA, describe_columns(plan.facts.class_names), IMAGE_OPTIONS, max_bytes)


def describe_columns(class_names: Sequence[str]) -> dict[str, str]:
    """Return the metadata of a file that tell `datasets` the types of its columns and the class names."""
    features: dict[str, Any] = {
        column.name: {
            "dtype": "float32" if column.type == pa.float32() else str(column.type),
            "_type": "Value",
        }
        for column in IMAGE_SCHEMA
    }
    features |= {
        "image": {"_type": "Image"},
        "label": {"names": list(class_names), "_type": "ClassLabel"},
        "teachers": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"},
    }
    return {"huggingface": json.dumps({"info": {"features": features}})}
