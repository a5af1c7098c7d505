"""How numbers are stored: n float16 values of each view as float16, or as integers with a scale per view."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from prism_ray.encodings.base import Logits

if TYPE_CHECKING:
    import pyarrow as pa

Bytes = npt.NDArray[np.uint8]

UNPACKED_BYTES = 16  # at most, of a value in a list: its own, its index in the list, and pages
_MAX_HALF = 65504.0  # of float16


class Values(ABC):
    """The columns that contain n float16 values of each of B views."""

    @abstractmethod
    def fields(self, name: str, count: int) -> "list[pa.Field]":
        """Return the names and types of the columns of `count` values per view."""

    @abstractmethod
    def encode(self, values: Logits) -> "list[pa.Array]":
        """Return the columns of `values` (B, n)."""

    @abstractmethod
    def decode(self, table: "pa.Table", name: str, count: int) -> Logits:
        """Return the values (B, n) of a table with the columns."""

    @abstractmethod
    def recipe(self, name: str, count: int) -> str:
        """Return a Python expression for the values (n,) of `row`, a dict of the columns of one view."""

    @abstractmethod
    def num_bytes(self, count: int) -> float:
        """Return the bytes of `count` values of a view."""

    @abstractmethod
    def max_error(self, lowest: float, highest: float) -> float:
        """Return the largest error of a value, if those of its view are between two values."""


class Float16(Values):
    """One column: a list of n float16 values, unchanged."""

    def fields(self, name: str, count: int) -> "list[pa.Field]":
        import pyarrow as pa

        return [pa.field(name, pa.list_(pa.float16(), count))]

    def encode(self, values: Logits) -> "list[pa.Array]":
        return [to_lists(values)]

    def decode(self, table: "pa.Table", name: str, count: int) -> Logits:
        return from_lists(table, name, count).astype(np.float16, copy=False)

    def recipe(self, name: str, count: int) -> str:
        return f'np.array(row["{name}"], np.float32)'

    def num_bytes(self, count: int) -> float:
        return 2 * count

    def max_error(self, lowest: float, highest: float) -> float:
        return 0.0


class Integers(Values):
    """Three columns: a list of integers q of 4 or 8 bits, and the view's lowest value and step, in float16.

    A value is lowest + q step. Two integers of 4 bits share a byte; the first is in its lower half.
    """

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._levels: int = 2**bits - 1

    def fields(self, name: str, count: int) -> "list[pa.Field]":
        import pyarrow as pa

        return [
            pa.field(name, pa.list_(pa.uint8(), self._num_packed(count))),
            pa.field(f"{name}_lowest", pa.float16()),
            pa.field(f"{name}_step", pa.float16()),
        ]

    def encode(self, values: Logits) -> "list[pa.Array]":
        import pyarrow as pa

        wide = values.astype(np.float64)
        lowest, highest = wide.min(axis=1), wide.max(axis=1)
        # Rounded up, so that the highest value is not beyond the last level.
        step = (highest - lowest) / self._levels
        half = step.astype(np.float16)
        half = np.where(half < step, np.nextafter(half, np.float16(np.inf)), half)
        divisor = np.where(half > 0.0, half, 1.0).astype(np.float64)
        levels = np.rint((wide - lowest[:, None]) / divisor[:, None])
        packed = self._pack(np.clip(levels, 0, self._levels).astype(np.uint8))
        return [to_lists(packed), pa.array(lowest.astype(np.float16)), pa.array(half)]

    def decode(self, table: "pa.Table", name: str, count: int) -> Logits:
        packed = from_lists(table, name, self._num_packed(count)).astype(np.uint8, copy=False)
        levels = self._unpack(packed, count)
        lowest, step = (
            table[f"{name}_{what}"].to_numpy().astype(np.float64)[:, None] for what in ("lowest", "step")
        )
        if not (np.isfinite(lowest).all() and np.isfinite(step).all() and (step >= 0.0).all()):
            raise ValueError(f"{name} has a lowest value or a step that is not finite, or a negative step")
        values: Logits = np.clip(lowest + levels * step, -_MAX_HALF, _MAX_HALF).astype(np.float16)
        return values

    def recipe(self, name: str, count: int) -> str:
        q = f'np.array(row["{name}"], np.float32)'
        if self._bits == 4:
            q = f"np.stack([{q} % 16, {q} // 16], 1).reshape(-1)[:{count}]"
        return f'(row["{name}_lowest"] + {q} * row["{name}_step"]).astype(np.float16)'

    def num_bytes(self, count: int) -> float:
        return self._num_packed(count) + 4

    def max_error(self, lowest: float, highest: float) -> float:
        # Half a step, which is rounded up to float16; then the sum is rounded to float16.
        half_step: float = 0.5 * (highest - lowest) / self._levels
        return half_step * (1.0 + 2.0**-10) + max(abs(lowest), abs(highest)) * 2.0**-11 + 2.0**-24

    def _num_packed(self, count: int) -> int:
        return -(-count * self._bits // 8)

    def _pack(self, levels: Bytes) -> Bytes:
        if self._bits == 8:
            return levels
        even = np.pad(levels, ((0, 0), (0, levels.shape[1] % 2)))
        return (even[:, 0::2] | even[:, 1::2] << 4).astype(np.uint8, copy=False)

    def _unpack(self, packed: Bytes, count: int) -> Bytes:
        if self._bits == 8:
            return packed
        return np.stack([packed & 15, packed >> 4], axis=2).reshape(len(packed), -1)[:, :count]


VALUES = {"fp16": Float16(), "int8": Integers(8), "int4": Integers(4)}


def to_lists(values: npt.NDArray[np.generic]) -> "pa.Array":
    """Return the rows of `values` (B, n) as a column of lists."""
    import pyarrow as pa

    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def from_lists(table: "pa.Table", name: str, count: int) -> npt.NDArray[np.generic]:
    """Return a column of lists of `count` values as (B, n)."""
    found = table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    values: npt.NDArray[np.generic] = found.reshape(len(table), count)
    return values
