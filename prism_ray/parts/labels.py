"""Soft labels in files: keyed by (image, epoch), each with the parameters of its view.

How the logits themselves stand in a file is the business of an encoding (prism_ray.encodings).

A part holds one group of images over a range of epochs in order. Its row groups hold whole epochs, as few
as make about 4,096 rows, so that a student can read epoch after epoch in little memory and in whatever
batches it likes, and small groups do not pay for a row group's header in each epoch.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from prism_ray.encodings import ENCODINGS, LabelEncoding
from prism_ray.errors import StoreError
from prism_ray.parquet import ParquetReader
from prism_ray.parts.rows import RowLayout, open_rows
from prism_ray.plan import Plan
from prism_ray.store.commits import Commit, PartFile
from prism_ray.store.files import StoreFiles
from prism_ray.store.remedy import damaged

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_FP16 = ENCODINGS["fp16"]


@dataclass(frozen=True)
class Views:
    """How each image of a group is shown in one epoch; every field is an array of B.

    The stored image goes through RandAugment with the generators seeded by `augment_seed` (0: it does not);
    then its left and right halves change places if `swap_columns`, its upper and lower ones if `swap_rows`.
    A view is the crop (in pixels) of what has become of it, resized to the full size and mirrored if `flip`;
    then the box (pixels of the view) is overwritten with the same box of the partner's view of the same
    epoch. Without CutMix the box is empty.
    """

    label: Ints
    ipc_index: Ints
    crop_top: Ints
    crop_left: Ints
    crop_height: Ints
    crop_width: Ints
    flip: Flags
    partner_label: Ints
    partner_ipc_index: Ints
    box_top: Ints
    box_left: Ints
    box_height: Ints
    box_width: Ints
    swap_columns: Flags
    swap_rows: Flags
    augment_seed: Ints

    def __len__(self) -> int:
        return len(self.label)


@dataclass(frozen=True)
class EpochLabels:
    """One epoch of one group: the views and their soft labels."""

    epoch: int
    views: Views
    logits: npt.NDArray[np.float16]  # B, C


@dataclass(frozen=True)
class LabelForm:
    """What the labels of a set must be."""

    num_images: int  # of the set
    num_classes: int
    size: int  # pixels of a side
    encoding: LabelEncoding = _FP16

    @classmethod
    def of(cls, plan: Plan, image_set: str) -> Self:
        """Return the form of the labels of an image set of a run."""
        return cls(
            plan.num_images(image_set),
            plan.facts.num_classes,
            plan.config.data.image_size,
            ENCODINGS[plan.config.relabel.encoding],
        )

    @property
    def schema(self) -> pa.Schema:
        """Columns of a file: epoch, view, logits."""
        return label_schema(self.num_classes, self.encoding)

    def max_bytes(self, num_rows: int) -> int:
        """Return the bytes of rows, unpacked."""
        return num_rows * (_VIEW_BYTES + self.encoding.max_bytes_per_view(self.num_classes))

    @property
    def max_row_group_bytes(self) -> int:
        """Bytes of a row group, unpacked."""
        return self.max_bytes(max(_ROWS_PER_ROW_GROUP, self.num_images))

    def validate(self, labels: EpochLabels) -> None:
        """Raise ValueError if a view reaches beyond its image or comes twice, or a logit is not finite."""
        views = labels.views
        for what in ("crop", "box"):
            for first, extent in (("top", "height"), ("left", "width")):
                begin, length = getattr(views, f"{what}_{first}"), getattr(views, f"{what}_{extent}")
                least = 1 if what == "crop" else 0
                if (begin < 0).any() or (length < least).any() or (begin + length > self.size).any():
                    raise ValueError(f"a view has a {what} that is not inside its image")
        if (views.augment_seed < 0).any():
            raise ValueError("a view has a negative seed")
        if len(np.unique(views.label << 32 | views.ipc_index)) != len(views):
            raise ValueError("an image has two views")
        if not np.isfinite(labels.logits).all():
            raise ValueError("a logit is not finite")


LABEL_OPTIONS: dict[str, Any] = {"compression": "zstd", "use_dictionary": False}  # how the file is written
_ROWS_PER_ROW_GROUP = 4096
_FLAGS = ("flip", "swap_columns", "swap_rows")
_KEYS = ("label", "ipc_index", "partner_label", "partner_ipc_index")
_SEEDS = ("augment_seed",)
_VIEW_BYTES = 512  # of a row beside its logits, with room for pages


_EPOCHS = pa.schema([("epoch", pa.int32())])


def _type_of(name: str) -> pa.DataType:
    if name in _FLAGS:
        return pa.bool_()
    if name in _SEEDS:
        return pa.int64()
    return pa.int32() if name in _KEYS else pa.int16()  # int16: pixels


def label_schema(num_classes: int, encoding: LabelEncoding = _FP16) -> pa.Schema:
    """Return the columns of a file: epoch, view, logits as encoded."""
    views = [(field.name, _type_of(field.name)) for field in fields(Views)]
    return pa.schema([("epoch", pa.int32()), *views, *encoding.fields(num_classes)])


def label_rows(plan: Plan, image_set: str) -> RowLayout:
    """Return how the label files of a set are written."""
    form = LabelForm.of(plan, image_set)
    return RowLayout(form.schema, {}, LABEL_OPTIONS, form.max_row_group_bytes)


def encode_labels(epochs: Sequence[EpochLabels], encoding: LabelEncoding = _FP16) -> bytes:
    """Return the Parquet file of a group's labels in a range of epochs."""
    schema = label_schema(epochs[0].logits.shape[1], encoding)
    num_images = len(epochs[0].views)
    step = max(1, _ROWS_PER_ROW_GROUP // num_images)
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, schema, **LABEL_OPTIONS) as writer:
        for first in range(0, len(epochs), step):
            table = _to_table(epochs[first : first + step], schema, encoding)
            writer.write_table(table, row_group_size=len(table))
    return sink.getvalue()


def _to_table(epochs: Sequence[EpochLabels], schema: pa.Schema, encoding: LabelEncoding) -> pa.Table:
    epoch_column = np.repeat([labels.epoch for labels in epochs], [len(labels.views) for labels in epochs])
    columns = [pa.array(epoch_column.astype(np.int32))]
    for field in fields(Views):
        values = np.concatenate([getattr(labels.views, field.name) for labels in epochs])
        columns.append(pa.array(values).cast(_type_of(field.name)))
    columns += encoding.encode(np.concatenate([labels.logits for labels in epochs]))
    return pa.Table.from_arrays(columns, schema=schema)


class LabelReader:
    """Reads the labels of an image set epoch by epoch from the parts that commits name."""

    def __init__(self, files: StoreFiles, commits: Sequence[Commit], form: LabelForm) -> None:
        """Open the parts; raises StoreError if one is damaged."""
        self._parts = [_PartReader(files, part, form) for commit in commits for part in commit.files]
        self._location = files.location

    def epoch(self, epoch: int) -> EpochLabels:
        """Return the labels of every image of the set in one epoch.

        Raises StoreError if there are none, or if a part is damaged. What views and logits say is for
        `LabelForm.validate`.
        """
        found = [labels for part in self._parts if (labels := part.epoch(epoch)) is not None]
        if not found:
            raise StoreError(f"{self._location} has no soft labels of epoch {epoch}")
        views = {
            field.name: np.concatenate([getattr(labels.views, field.name) for labels in found])
            for field in fields(Views)
        }
        return EpochLabels(epoch, Views(**views), np.concatenate([labels.logits for labels in found]))


class _PartReader:
    """One part, of which the row group read last stays in memory."""

    def __init__(self, files: StoreFiles, part: PartFile, form: LabelForm) -> None:
        self._files = files
        self._name = part.name
        self._form = form
        try:
            self._reader, groups = open_rows(files, part, form.schema)
            epochs = ParquetReader(files.open(part.name), _EPOCHS)
            self._epochs = {number: self._bounds(epochs, number) for number in groups}
        except ValueError as error:
            raise damaged(files, part.name, error) from error
        self._held: tuple[int, pa.Table] | None = None

    def _bounds(self, epochs: ParquetReader, row_group: int) -> tuple[int, int]:
        """First and last epoch of a row group."""
        found = epochs.read([row_group], self._form.max_row_group_bytes)["epoch"]
        if len(found) == 0 or found.null_count:
            raise ValueError(f"row group {row_group} is empty, or does not say of which epochs it is")
        bounds = pc.min_max(found)
        return bounds["min"].as_py(), bounds["max"].as_py()

    def epoch(self, epoch: int) -> EpochLabels | None:
        """Return the part's labels of an epoch, None if it has none."""
        for row_group, (first, last) in self._epochs.items():
            if first <= epoch <= last:
                try:
                    return decode_epoch(epoch, self._read(row_group), self._form)
                except (ValueError, pa.ArrowException, OSError) as error:
                    raise damaged(self._files, self._name, error) from error
        self._held = None  # a student reads epochs in order: this part is not needed for now
        return None

    def _read(self, row_group: int) -> pa.Table:
        if self._held is None or self._held[0] != row_group:
            self._held = (row_group, self._reader.read([row_group], self._form.max_row_group_bytes))
        return self._held[1]


def read_labels(files: StoreFiles, part: PartFile, form: LabelForm, num_rows: int) -> pa.Table:
    """Return the rows of a whole part that must have `num_rows`; raises StoreError, or ValueError."""
    reader, groups = open_rows(files, part, form.schema)
    return reader.read(groups, form.max_bytes(num_rows))


def decode_epoch(epoch: int, table: pa.Table, form: LabelForm) -> EpochLabels:
    """Return the labels of one epoch among those of a table; raises ValueError if some are missing."""
    table = table.filter(pc.equal(table["epoch"], epoch))
    if any(column.null_count for column in table.columns):
        raise ValueError(f"epoch {epoch} is not filled in")
    views = {
        field.name: table[field.name].to_numpy().astype(np.bool_ if field.name in _FLAGS else np.int64)
        for field in fields(Views)
    }
    return EpochLabels(epoch, Views(**views), form.encoding.decode(table, form.num_classes))
