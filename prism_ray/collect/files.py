"""The files of this room: safetensors whose keys begin with a class, read class by class.

`00012/layer1.0.conv1/mean` is a tensor of class 12. A file of statistics holds every layer of 50 classes,
and a batch of images needs few of them; so what is not asked for is neither parsed nor copied.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import safetensors.torch
from torch import Tensor

Values = npt.NDArray[Any]

_DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "I64": np.dtype("<i8")}
_HEADER_LENGTH = 8  # bytes, little-endian, before the header


def class_key(label: int, name: str) -> str:
    """Return the key of a class's tensor."""
    return f"{label:05d}/{name}"


def encode(tensors: Mapping[str, Tensor]) -> bytes:
    """Return tensors as safetensors; the bytes do not depend on the order of the keys."""
    return safetensors.torch.save({key: value.contiguous() for key, value in tensors.items()})


class ClassFile:
    """A file of tensors by class (float32 or int64), held as bytes."""

    def __init__(self, data: bytes) -> None:
        """Raises ValueError if `data` is no such file, or has values that are not finite."""
        self._data = data
        length = int.from_bytes(data[:_HEADER_LENGTH], "little")
        self._first = _HEADER_LENGTH + length
        if not 0 < length <= len(data) - _HEADER_LENGTH:
            raise ValueError("it has no header, it was cut short")
        self._entries: dict[int, dict[str, _Entry]] = {}  # label -> name -> what the header says
        place = 0
        entries = [
            (key, _Entry.of(key, values)) for key, values in _header(data[_HEADER_LENGTH : self._first])
        ]
        for key, entry in sorted(entries, key=lambda pair: pair[1].first):
            label, _, name = key.partition("/")
            if entry.first != place or not label.isdecimal():
                raise ValueError(
                    f"the place of {key!r} is not behind the one before it, or it is of no class"
                )
            place = entry.last
            self._entries.setdefault(int(label), {})[name] = entry
        if self._first + place != len(data):
            raise ValueError("its header says another length than it has")

    def __contains__(self, label: int) -> bool:
        return label in self._entries

    def read(self, label: int) -> dict[str, Values]:
        """Return the arrays of a class by name, copied.

        Raises KeyError if the file does not have the class, ValueError if a value is not finite.
        """
        return {name: self._read(name, entry) for name, entry in self._entries[label].items()}

    def _read(self, name: str, entry: "_Entry") -> Values:
        values = np.frombuffer(self._data, entry.kind, entry.count, self._first + entry.first)
        if not np.isfinite(values).all():
            raise ValueError(f"{name} has values that are not finite")
        return values.reshape(entry.shape).copy()


@dataclass(frozen=True)
class _Entry:
    """Where a tensor lies behind the header, and what it is."""

    kind: np.dtype[Any]
    shape: tuple[int, ...]
    first: int
    last: int

    @property
    def count(self) -> int:
        return (self.last - self.first) // self.kind.itemsize

    @classmethod
    def of(cls, key: str, values: Any) -> Self:
        """Check what the header says of a tensor; raises ValueError if it makes no sense."""
        try:
            entry = cls(_DTYPES[values["dtype"]], tuple(values["shape"]), *values["data_offsets"])
            numbers = (*entry.shape, entry.first, entry.last)
            are_sizes = all(type(number) is int and number >= 0 for number in numbers)
            if are_sizes and math.prod(entry.shape) * entry.kind.itemsize == entry.last - entry.first:
                return entry
        except (LookupError, TypeError):
            pass
        raise ValueError(f"what the header says of {key!r} makes no sense")


def _header(text: bytes) -> list[tuple[str, Any]]:
    try:
        header = json.loads(text)
    except RecursionError:
        header = None
    if not isinstance(header, dict):
        raise ValueError("its header is no mapping")
    return [(key, values) for key, values in header.items() if key != "__metadata__"]
