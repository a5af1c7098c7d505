"""The label codec: float16 logits keyed by (image, epoch), each with the parameters of its view.

A part holds one group of images over a range of epochs, one row group per epoch, so that a student can
read epoch after epoch in little memory and in whatever batches it likes.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from prism_ray.errors import StoreError
from prism_ray.store.commits import Commit
from prism_ray.store.files import StoreFiles

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Views:
    """How each image of a group is shown in one epoch; every field is an array of B.

    A view is the image's crop (pixels of the stored image), resized to the full size and mirrored if
    `flip`; then the box (pixels of the view) is overwritten with the same box of the partner's view of the
    same epoch. Without CutMix the box is empty.
    """

    label: Ints
    ipc_index: Ints
    crop_top: Ints
    crop_left: Ints
    crop_height: Ints
    crop_width: Ints
    flip: npt.NDArray[np.bool_]
    partner_label: Ints
    partner_ipc_index: Ints
    box_top: Ints
    box_left: Ints
    box_height: Ints
    box_width: Ints

    def __len__(self) -> int:
        return len(self.label)


@dataclass(frozen=True)
class EpochLabels:
    """One epoch of one group: the views and their soft labels."""

    epoch: int
    views: Views
    logits: npt.NDArray[np.float16]  # B, C


_KEYS = ("label", "ipc_index", "partner_label", "partner_ipc_index")


def _type_of(name: str) -> pa.DataType:
    if name == "flip":
        return pa.bool_()
    return pa.int32() if name in _KEYS else pa.int16()


def encode_labels(epochs: Sequence[EpochLabels]) -> bytes:
    """Return the Parquet file of a group's labels in a range of epochs."""
    num_classes = epochs[0].logits.shape[1]
    schema = pa.schema(
        [("epoch", pa.int32())]
        + [(field.name, _type_of(field.name)) for field in fields(Views)]
        + [("logits", pa.list_(pa.float16(), num_classes))]
    )
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, schema, compression="zstd", use_dictionary=False) as writer:
        for labels in epochs:
            columns = [pa.array(np.full(len(labels.views), labels.epoch, np.int32))]
            columns += [
                pa.array(getattr(labels.views, field.name)).cast(_type_of(field.name))
                for field in fields(Views)
            ]
            flat = pa.array(np.ascontiguousarray(labels.logits).reshape(-1))
            columns.append(pa.FixedSizeListArray.from_arrays(flat, num_classes))
            writer.write_table(pa.Table.from_arrays(columns, schema=schema), row_group_size=len(labels.views))
    return sink.getvalue()


class LabelReader:
    """Reads the labels of an image set epoch by epoch from the parts that commits name."""

    def __init__(self, files: StoreFiles, commits: Sequence[Commit]) -> None:
        """Open the parts' footers; raises StoreError if one is damaged."""
        self._location = files.location
        self._parts: list[tuple[str, pq.ParquetFile]] = []
        self._row_groups: dict[int, list[tuple[int, int]]] = {}  # epoch -> (part, row group)
        for commit in commits:
            for part in commit.files:
                try:
                    parquet = pq.ParquetFile(files.open(part.name))
                    first_epoch = int(commit.stats["first_epoch"])
                except (pa.ArrowException, OSError, KeyError) as error:
                    raise self._damaged(part.name, error) from error
                for row_group in range(parquet.metadata.num_row_groups):
                    place = (len(self._parts), row_group)
                    self._row_groups.setdefault(first_epoch + row_group, []).append(place)
                self._parts.append((part.name, parquet))

    def epoch(self, epoch: int) -> EpochLabels:
        """Return the labels of every image of the set in one epoch.

        Raises StoreError if there are none, or if a part is damaged.
        """
        parts = list(self._read(epoch))
        if not parts:
            raise StoreError(f"{self._location} has no soft labels of epoch {epoch}")
        views = {
            field.name: np.concatenate([getattr(part.views, field.name) for part in parts])
            for field in fields(Views)
        }
        return EpochLabels(epoch, Views(**views), np.concatenate([part.logits for part in parts]))

    def _read(self, epoch: int) -> Iterator[EpochLabels]:
        for part, row_group in self._row_groups.get(epoch, []):
            name, parquet = self._parts[part]
            try:
                table = parquet.read_row_group(row_group)
            except (pa.ArrowException, OSError) as error:
                raise self._damaged(name, error) from error
            epochs = table["epoch"].to_numpy()
            if not np.all(epochs == epoch):
                raise self._damaged(name, f"row group {row_group} is not of epoch {epoch} alone")
            views = {
                field.name: table[field.name]
                .to_numpy()
                .astype(np.bool_ if field.name == "flip" else np.int64)
                for field in fields(Views)
            }
            logits = table["logits"].combine_chunks()
            values = logits.flatten().to_numpy(zero_copy_only=False)
            yield EpochLabels(epoch, Views(**views), values.reshape(len(table), -1))

    def _damaged(self, name: str, why: object) -> StoreError:
        return StoreError(f"{self._location}/{name} is damaged: {why}; run `prism-ray verify`")
