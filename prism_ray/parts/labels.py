"""Soft labels in files, with the key (image, epoch); each has the parameters of its view, or a bit of them.

An encoding (prism_ray.encodings) decides how the logits are stored. With relabel.view_parameters = drawn a
row has its image and one bit, the parity of the view's parameters. The reader draws the views again, and the
bits tell whether they are those that the teachers saw: another numpy may draw others.

A part contains one group of images over a range of epochs, in order. Its row groups contain whole epochs,
together about 4,096 rows. So a student can read one epoch after another in little memory and with any batch
size, and a small group does not need a row group (with its header) for each epoch.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from prism_ray.encodings import LabelEncoding, find_encoding
from prism_ray.errors import StoreError
from prism_ray.parquet import ParquetReader
from prism_ray.parts.redraw import DrawnViews
from prism_ray.parts.rows import RowLayout, open_rows
from prism_ray.parts.view_columns import NAMES, concatenate, read_views, view_arrays, view_types
from prism_ray.parts.views import MixUpViews, Views
from prism_ray.plan import Plan
from prism_ray.store import layout
from prism_ray.store.commits import Commit, PartFile
from prism_ray.store.files import StoreFiles
from prism_ray.store.remedy import damaged

_FP16 = find_encoding("fp16")


@dataclass(frozen=True)
class EpochLabels:
    """The views of one epoch and their soft labels."""

    epoch: int
    views: Views
    logits: npt.NDArray[np.float16]  # B, C
    kept: npt.NDArray[np.bool_] | None = None  # B, C: which logits are stored; None: all


@dataclass(frozen=True)
class LabelForm:
    """The sizes and counts that the labels of a set must have."""

    num_images: int  # of the set
    num_classes: int
    size: int  # pixels of a side
    encoding: LabelEncoding = _FP16
    has_shares: bool = False  # the views are MixUpViews
    drawn: DrawnViews | None = None  # draws the views again if the files leave them out

    @classmethod
    def of(cls, plan: Plan, image_set: str) -> Self:
        """Return the form of the labels of an image set of a run."""
        return cls(
            plan.num_images(image_set),
            plan.facts.num_classes,
            plan.config.data.image_size,
            find_encoding(plan.config.relabel.encoding),
            has_shares=plan.config.relabel.mixup_alpha > 0.0,
            drawn=None if plan.config.relabel.stores_views else DrawnViews(plan),
        )

    @property
    def views(self) -> type[Views]:
        """The kind of views that the labels have."""
        return MixUpViews if self.has_shares else Views

    @property
    def schema(self) -> pa.Schema:
        """The columns of the files."""
        types = view_types(self.views, all_parameters=self.drawn is None)
        return _schema(types, self.num_classes, self.encoding)

    @property
    def full_schema(self) -> pa.Schema:
        """The columns of files that have all parameters of the views."""
        return _schema(view_types(self.views), self.num_classes, self.encoding)

    def read_views(self, table: pa.Table, epoch: int, unit_id: str) -> Views:
        """Return the views of a unit's rows of one epoch; raises ValueError if they cannot be drawn again."""
        return read_views(table, self.views, self.drawn, unit_id, epoch)

    def max_bytes(self, num_rows: int) -> int:
        """Return the most bytes of `num_rows` unpacked rows."""
        return num_rows * (_VIEW_BYTES + self.encoding.max_bytes_per_view(self.num_classes))

    @property
    def max_row_group_bytes(self) -> int:
        """Most bytes of an unpacked row group."""
        return self.max_bytes(max(_ROWS_PER_ROW_GROUP, self.num_images))

    def validate(self, labels: EpochLabels) -> None:
        """Raise ValueError if a view is not inside its image or occurs twice, or a logit is not finite."""
        views = labels.views
        for what in ("crop", "box"):
            for first, extent in (("top", "height"), ("left", "width")):
                begin, length = getattr(views, f"{what}_{first}"), getattr(views, f"{what}_{extent}")
                least = 1 if what == "crop" else 0
                if (begin < 0).any() or (length < least).any() or (begin + length > self.size).any():
                    raise ValueError(f"a view has a {what} that is not inside its image")
        if isinstance(views, MixUpViews) and not ((views.own_share >= 0) & (views.own_share <= 1)).all():
            raise ValueError("a view has a share of its own image that is not between 0 and 1")
        if (views.augment_seed < 0).any():
            raise ValueError("a view has a negative seed")
        if len(np.unique(views.label << 32 | views.ipc_index)) != len(views):
            raise ValueError("an image has two views")
        if not np.isfinite(labels.logits).all():
            raise ValueError("a logit is not finite")


_ROWS_PER_ROW_GROUP = 4096
_MAX_KEPT_BYTES = 2**30
_VIEW_BYTES = 512  # of a row without its logits, with its share of the pages
_EPOCH = pa.field("epoch", pa.int32())


def _schema(views: Mapping[str, pa.DataType], num_classes: int, encoding: LabelEncoding) -> pa.Schema:
    """Return the columns of a file: epoch, view, logits as encoded."""
    return pa.schema([_EPOCH, *views.items(), *encoding.fields(num_classes)])


def label_options(schema: pa.Schema) -> dict[str, Any]:
    """Return the options of a ParquetWriter.

    Logits are not packed: that would spare a tenth or less, and how much could not be forecast. Integers of
    an encoding are in a dictionary, because Parquet has no plain integers of less than 4 bytes; there one of
    1,000 classes takes 10 bits.
    """
    packed = {_EPOCH.name, *NAMES}
    compression, in_dictionary = {}, []
    for column in schema:
        is_list = pa.types.is_fixed_size_list(column.type)
        path = f"{column.name}.list.element" if is_list else column.name
        compression[path] = "zstd" if column.name in packed else "none"
        if is_list and pa.types.is_integer(column.type.value_type):
            in_dictionary.append(path)
    return {"compression": compression, "use_dictionary": in_dictionary or False}


def label_rows(plan: Plan, image_set: str) -> RowLayout:
    """Return the way in which `compact` writes the label files of a set."""
    form = LabelForm.of(plan, image_set)
    return RowLayout(form.schema, {}, label_options(form.schema), form.max_row_group_bytes)


def epochs_per_row_group(num_images: int) -> int:
    """Return how many epochs of a group of `num_images` a row group has."""
    return max(1, _ROWS_PER_ROW_GROUP // num_images)


def encode_labels(
    epochs: Sequence[EpochLabels], encoding: LabelEncoding = _FP16, *, has_views: bool = True
) -> bytes:
    """Return the Parquet file of a group's labels in a range of epochs.

    Without `has_views` it leaves out the parameters of the views, which the reader must draw again.
    """
    types = view_types(type(epochs[0].views), all_parameters=has_views)
    schema = _schema(types, epochs[0].logits.shape[1], encoding)
    step = epochs_per_row_group(len(epochs[0].views))
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, schema, **label_options(schema)) as writer:
        for first in range(0, len(epochs), step):
            table = _to_table(epochs[first : first + step], schema, types, encoding)
            writer.write_table(table, row_group_size=len(table))
    return sink.getvalue()


def _to_table(
    epochs: Sequence[EpochLabels],
    schema: pa.Schema,
    types: Mapping[str, pa.DataType],
    encoding: LabelEncoding,
) -> pa.Table:
    views = concatenate([labels.views for labels in epochs])
    numbers = np.repeat([labels.epoch for labels in epochs], [len(labels.views) for labels in epochs])
    logits = np.concatenate([labels.logits for labels in epochs])
    columns = [pa.array(numbers.astype(np.int32)), *view_arrays(views, types), *encoding.encode(logits)]
    return pa.Table.from_arrays(columns, schema=schema)


def with_views(table: pa.Table, form: LabelForm, unit_id: str) -> pa.Table:
    """Return rows of a unit with all columns of their views, in the schema `form.full_schema`.

    Raises ValueError as `decode_epoch`.
    """
    if form.drawn is None:
        return table
    epochs = pc.unique(table[_EPOCH.name]).to_pylist()
    rows = [table.filter(pc.equal(table[_EPOCH.name], epoch)) for epoch in epochs]
    views = concatenate([form.read_views(*each, unit_id) for each in zip(rows, epochs, strict=True)])
    encoded = [table[field.name] for field in form.encoding.fields(form.num_classes)]
    columns = [table[_EPOCH.name], *view_arrays(views, view_types(form.views)), *encoded]
    return pa.Table.from_arrays(columns, schema=form.full_schema)


class LabelReader:
    """A reader of the labels of an image set, epoch by epoch, from the parts that commits name."""

    def __init__(
        self, files: StoreFiles, commits: Sequence[Commit], form: LabelForm, *, again: bool = False
    ) -> None:
        """Open the parts; raises StoreError if one is damaged.

        With `again` the epochs will be read several times: labels are kept as they are stored, if they are
        at most a GiB in all.
        """
        parts = [(commit.unit, part) for commit in commits for part in commit.files]
        keep = again and sum(part.num_bytes for _, part in parts) <= _MAX_KEPT_BYTES
        self._parts = [_PartReader(files, unit_id, part, form, keep=keep) for unit_id, part in parts]
        self._files, self._form = files, form

    def sound_epoch(self, epoch: int, image_set: str) -> EpochLabels:
        """Return the labels of an epoch of `image_set`, whose values are checked.

        Raises StoreError as `epoch`, and if `LabelForm.validate` refuses the labels.
        """
        found = self.epoch(epoch)
        try:
            self._form.validate(found)
        except ValueError as error:
            where = f"{layout.COMMITS}/relabel/{image_set}"
            raise damaged(self._files, where, f"epoch {epoch}: {error}") from None
        return found

    def epoch(self, epoch: int) -> EpochLabels:
        """Return the labels of every image of the set in one epoch.

        Raises StoreError if there are none, or if a part is damaged. `sound_epoch` checks the values too.
        """
        found = [labels for part in self._parts if (labels := part.epoch(epoch)) is not None]
        if not found:
            raise StoreError(f"{self._files.location} has no soft labels of epoch {epoch}")
        return join_labels(found)


def join_labels(parts: Sequence[EpochLabels]) -> EpochLabels:
    """Return the labels of one epoch of all groups; `parts` are those of each group."""
    kept = [labels.kept for labels in parts if labels.kept is not None]
    return EpochLabels(
        parts[0].epoch,
        concatenate([labels.views for labels in parts]),
        np.concatenate([labels.logits for labels in parts]),
        np.concatenate(kept) if kept else None,
    )


class _PartReader:
    """A reader of one part, which keeps the last row group in memory, or all of them.

    The file is open only while epochs of the part are read. A run has a part for each group and range of
    epochs, and an open file of S3 keeps 50 MB in memory: 7.5 GB for 50 groups of three ranges.
    """

    def __init__(
        self, files: StoreFiles, unit_id: str, part: PartFile, form: LabelForm, *, keep: bool
    ) -> None:
        self._files = files
        self._unit_id = unit_id
        self._name = part.name
        self._form = form
        self._keep = keep
        self._tables: dict[int, pa.Table] = {}  # by row group
        self._reader: ParquetReader | None = None
        try:
            _, groups = open_rows(files, part, form.schema)
            epochs = ParquetReader(files.open(part.name), pa.schema([_EPOCH]))
            self._epochs = {number: self._bounds(epochs, number) for number in groups}
        except ValueError as error:
            raise damaged(files, part.name, error) from error

    def _bounds(self, epochs: ParquetReader, row_group: int) -> tuple[int, int]:
        """Return the first and last epoch of a row group."""
        found = epochs.read([row_group], self._form.max_row_group_bytes)["epoch"]
        if len(found) == 0 or found.null_count:
            raise ValueError(f"row group {row_group} is empty or lacks epochs")
        bounds = pc.min_max(found)
        return bounds["min"].as_py(), bounds["max"].as_py()

    def epoch(self, epoch: int) -> EpochLabels | None:
        """Return the part's labels of an epoch, None if it has none."""
        for row_group, (first, last) in self._epochs.items():
            if first <= epoch <= last:
                try:
                    if row_group not in self._tables:
                        self._forget()
                        if self._reader is None:
                            self._reader = ParquetReader(self._files.open(self._name), self._form.schema)
                        table = self._reader.read([row_group], self._form.max_row_group_bytes)
                        self._tables[row_group] = table
                    return decode_epoch(epoch, self._tables[row_group], self._form, self._unit_id)
                except (ValueError, pa.ArrowException, OSError) as error:
                    raise damaged(self._files, self._name, error) from error
        self._forget()  # epochs are read in order, so this part is not needed now
        self._reader = None
        return None

    def _forget(self) -> None:
        if not self._keep:
            self._tables.clear()


def decode_epoch(epoch: int, table: pa.Table, form: LabelForm, unit_id: str) -> EpochLabels:
    """Return the labels of one epoch among those of a unit's table.

    Raises ValueError if values are missing, or if the views are to be drawn again and become others.
    """
    table = table.filter(pc.equal(table["epoch"], epoch))
    if any(column.null_count for column in table.columns):
        raise ValueError(f"epoch {epoch} has missing values")
    decoded = form.encoding.decode(table, form.num_classes)
    return EpochLabels(epoch, form.read_views(table, epoch, unit_id), decoded.logits, decoded.kept)
