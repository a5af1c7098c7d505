"""Decodes records in Thrift's compact protocol, as far as Parquet's metadata needs it: fields by number.

pyarrow decodes them too, but some damaged ones abort its process when Python reads the metadata of a column
(its accessors let a C++ exception through). Here they raise ValueError.
"""

import struct
from typing import Any

Fields = dict[int, Any]  # by their numbers in parquet.thrift

_MAX_DEPTH = 16  # twice the depth of Parquet's records
_MAX_ITEMS = 5 * 10**6  # in one record; to decode so many takes seconds


class CompactReader:
    """A decoder of the records in some bytes; raises ValueError if they are not valid."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._num_items = 0
        self.offset = 0

    def record(self, depth: int = 0) -> Fields:
        """Return the fields of the record at `offset`, and move behind it."""
        if depth > _MAX_DEPTH:
            raise ValueError("a record is nested too deeply")
        fields: Fields = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._integer()
            fields[number] = self._value(head & 15, depth)
        return fields

    def _value(self, kind: int, depth: int, in_list: bool = False) -> Any:
        self._num_items += 1
        if self._num_items > _MAX_ITEMS:
            raise ValueError("a record has too many fields")
        if kind in (1, 2):
            return self._byte() == 1 if in_list else kind == 1
        if kind == 3:
            return self._byte()
        if kind in (4, 5, 6):
            return self._integer()
        if kind == 7:
            return struct.unpack("<d", self._bytes(8))[0]
        if kind == 8:
            return self._bytes(self._varint())
        if kind in (9, 10):
            return self._list(depth)
        if kind == 12:
            return self.record(depth + 1)
        raise ValueError(f"a field has the unknown type {kind}")  # among them maps: Parquet has none

    def _list(self, depth: int) -> list[Any]:
        head = self._byte()
        length = head >> 4 if head >> 4 < 15 else self._varint()
        if length > _MAX_ITEMS:
            raise ValueError("a list is too long")
        if depth > _MAX_DEPTH:
            raise ValueError("a list is nested too deeply")
        return [self._value(head & 15, depth + 1, in_list=True) for _ in range(length)]

    def _byte(self) -> int:
        return self._bytes(1)[0]

    def _bytes(self, length: int) -> bytes:
        found = self._data[self.offset : self.offset + length]
        if len(found) != length:
            raise ValueError("a record ends too soon")
        self.offset += length
        return found

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise ValueError("a number is too long")

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
