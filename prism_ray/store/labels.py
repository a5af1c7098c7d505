"""The label codec: float16 logits keyed by (image, epoch), each with the parameters of its view.

A part holds one group of images over a range of epochs in order. Its row groups hold whole epochs, as few
as make about 4,096 rows, so that a student can read epoch after epoch in little memory and in whatever
batches it likes, and small groups do not pay for a row group's header in each epoch.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from prism_ray.errors import StoreError
from prism_ray.store.commits import Commit, PartFile, check_part
from prism_ray.store.files import StoreFiles

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


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


_ROWS_PER_ROW_GROUP = 4096
_FLAGS = ("flip", "swap_columns", "swap_rows")
_KEYS = ("label", "ipc_index", "partner_label", "partner_ipc_index")
_SEEDS = ("augment_seed",)


def _type_of(name: str) -> pa.DataType:
    if name in _FLAGS:
        return pa.bool_()
    if name in _SEEDS:
        return pa.int64()
    return pa.int32() if name in _KEYS else pa.int16()  # int16: pixels


def encode_labels(epochs: Sequence[EpochLabels]) -> bytes:
    """Return the Parquet file of a group's labels in a range of epochs."""
    num_classes = epochs[0].logits.shape[1]
    schema = pa.schema(
        [("epoch", pa.int32())]
        + [(field.name, _type_of(field.name)) for field in fields(Views)]
        + [("logits", pa.list_(pa.float16(), num_classes))]
    )
    num_images = len(epochs[0].views)
    step = max(1, _ROWS_PER_ROW_GROUP // num_images)
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, schema, compression="zstd", use_dictionary=False) as writer:
        for first in range(0, len(epochs), step):
            table = _to_table(epochs[first : first + step], schema)
            writer.write_table(table, row_group_size=len(table))
    return sink.getvalue()


def _to_table(epochs: Sequence[EpochLabels], schema: pa.Schema) -> pa.Table:
    epoch_column = np.repeat([labels.epoch for labels in epochs], [len(labels.views) for labels in epochs])
    columns = [pa.array(epoch_column.astype(np.int32))]
    for field in fields(Views):
        values = np.concatenate([getattr(labels.views, field.name) for labels in epochs])
        columns.append(pa.array(values).cast(_type_of(field.name)))
    logits = np.concatenate([labels.logits for labels in epochs])
    columns.append(pa.FixedSizeListArray.from_arrays(pa.array(logits.reshape(-1)), logits.shape[1]))
    return pa.Table.from_arrays(columns, schema=schema)


class LabelReader:
    """Reads the labels of an image set epoch by epoch from the parts that commits name."""

    def __init__(self, files: StoreFiles, commits: Sequence[Commit]) -> None:
        """Open the parts; raises StoreError if one is damaged."""
        self._parts = [_PartReader(files, part) for commit in commits for part in commit.files]
        self._location = files.location

    def epoch(self, epoch: int) -> EpochLabels:
        """Return the labels of every image of the set in one epoch.

        Raises StoreError if there are none, or if a part is damaged.
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

    def __init__(self, files: StoreFiles, part: PartFile) -> None:
        self._where = f"{files.location}/{part.name}"
        try:
            check_part(files, part)
            self._parquet = pq.ParquetFile(files.open(part.name))
            self._epochs = [self._bounds(number) for number in range(self._parquet.num_row_groups)]
        except (StoreError, pa.ArrowException, OSError, LookupError, AttributeError) as error:
            raise self._damaged(error) from error
        self._held: tuple[int, pa.Table] | None = None

    def _bounds(self, row_group: int) -> tuple[int, int]:
        """First and last epoch of a row group, from the footer's statistics."""
        column = self._parquet.schema_arrow.get_field_index("epoch")
        statistics = self._parquet.metadata.row_group(row_group).column(column).statistics
        return statistics.min, statistics.max

    def epoch(self, epoch: int) -> EpochLabels | None:
        """Return the part's labels of an epoch, None if it has none."""
        for row_group, (first, last) in enumerate(self._epochs):
            if first <= epoch <= last:
                table = self._read(row_group)
                try:
                    return self._decode(epoch, table.filter(pc.equal(table["epoch"], epoch)))
                except (pa.ArrowException, LookupError) as error:
                    raise self._damaged(error) from error
        self._held = None  # a student reads epochs in order: this part is not needed for now
        return None

    def _read(self, row_group: int) -> pa.Table:
        if self._held is None or self._held[0] != row_group:
            try:
                self._held = (row_group, self._parquet.read_row_group(row_group))
            except (pa.ArrowException, OSError) as error:
                raise self._damaged(error) from error
        return self._held[1]

    @staticmethod
    def _decode(epoch: int, table: pa.Table) -> EpochLabels:
        views = {
            field.name: table[field.name].to_numpy().astype(np.bool_ if field.name in _FLAGS else np.int64)
            for field in fields(Views)
        }
        logits = table["logits"].combine_chunks()
        values = logits.flatten().to_numpy(zero_copy_only=False)
        return EpochLabels(epoch, Views(**views), values.reshape(len(table), -1))

    def _damaged(self, why: object) -> StoreError:
        return StoreError(f"{self._where} is damaged: {why}; run `prism-ray verify`")
