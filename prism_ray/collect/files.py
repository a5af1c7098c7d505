"""The files of this room: safetensors whose keys begin with a class, read class by class.

`00012/layer1.0.conv1/mean` is a tensor of class 12. A file of statistics holds every layer of 50 classes,
and a batch of images needs few of them; so what is not asked for is neither parsed nor copied.
"""

import json
from collections.abc import Mapping
from typing import Any

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
        self._data = data
        self._first = _HEADER_LENGTH + int.from_bytes(data[:_HEADER_LENGTH], "little")
        header: dict[str, dict[str, Any]] = json.loads(data[_HEADER_LENGTH : self._first])
        self._entries: dict[int, dict[str, dict[str, Any]]] = {}  # label -> name -> what the header says
        for key, entry in header.items():
            label, _, name = key.partition("/")
            self._entries.setdefault(int(label), {})[name] = entry

    def __contains__(self, label: int) -> bool:
        return label in self._entries

    def read(self, label: int) -> dict[str, Values]:
        """Return the arrays of a class by name, copied; raises KeyError if the file does not have it."""
        return {name: self._read(**entry) for name, entry in self._entries[label].items()}

    def _read(self, dtype: str, shape: list[int], data_offsets: list[int]) -> Values:
        first, last = data_offsets
        kind = _DTYPES[dtype]
        count = (last - first) // kind.itemsize
        return np.frombuffer(self._data, kind, count, self._first + first).reshape(shape).copy()
