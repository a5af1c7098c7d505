"""The unpacked size of a Parquet file's columns, from the headers of their pages; nothing is unpacked for it.

The footer has sizes too, and pyarrow's metadata shows only the footer, but pyarrow unpacks what the pages
say. A file of 4 KB whose footer says 100 bytes takes 200 MiB to read, and its commit has the right SHA-256:
test_a_footer_that_lies_passes_pyarrow_and_hashing_and_is_refused_here in tests/parquet/test_pages.py.

Field numbers are those in parquet.thrift, the definition of the format.
"""

from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import IO, NamedTuple, TypeVar

from prism_ray.parquet.thrift import CompactReader, Fields

T = TypeVar("T")

_MAGIC = b"PAR1"
_MAX_FOOTER_BYTES = 2**26
_HEADER_BYTES = 2**10  # of a page; enough, unless its statistics contain a long value
_MAX_HEADER_BYTES = 2**24
_MAX_PAGES = 10**5
_MAX_VALUE_BYTES = 12  # of a number, or of an index in a dictionary and two levels of nesting

_BYTE_ARRAY = 6  # type of text and bytes
_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3  # types of pages
_IN_DICTIONARY = (2, 8)  # encodings: indices in a dictionary
# Plain, indices in a dictionary, run lengths, bits; for numbers also differences and split bytes. With other
# encodings, a text can be the end of a long text before it.
_ENCODINGS = (0, 2, 3, 4, 8)
_NUMBER_ENCODINGS = (*_ENCODINGS, 5, 9)


class Column(NamedTuple):
    """A column of one row group."""

    path: str  # with dots
    num_values: int
    num_bytes: int  # unpacked; values of text and bytes in a dictionary count once
    is_text: bool  # or bytes
    in_dictionary: bool


class PageHeaders:
    """The footer and the page headers of an open, seekable file."""

    def __init__(self, source: IO[bytes]) -> None:
        """Read the footer; raises ValueError if there is none."""
        self._source = source
        self._size = source.seek(0, 2)
        tail = self._read(max(0, self._size - 8), 8)
        length = int.from_bytes(tail[:4], "little")
        if len(tail) < 8 or tail[4:] != _MAGIC or length > min(_MAX_FOOTER_BYTES, self._size - 8):
            raise ValueError("not a Parquet file: it has no footer, perhaps because it is truncated")
        footer = CompactReader(self._read(self._size - 8 - length, length)).record()
        self.num_rows = _number(footer, 3)
        self._row_groups = _items(footer, 4, dict)

    def columns(self, row_groups: Iterable[int], names: Collection[str]) -> list[Column]:
        """Return the columns with these names, and the columns nested in them, of some row groups.

        Raises ValueError if pages are not as the footer says, or have an encoding that hides their size.
        """
        found = []
        for row_group in row_groups:
            for chunk in _items(self._row_groups[row_group], 1, dict):
                fields = _checked(chunk.get(3), dict)
                path = b".".join(_items(fields, 3, bytes)).decode()
                if path.partition(".")[0] in names:
                    if 1 in chunk:
                        raise ValueError(f"column {path} is in another file")
                    found.append(self._column(path, fields))
        return found

    def _column(self, path: str, chunk: Fields) -> Column:
        is_text = _number(chunk, 1) == _BYTE_ARRAY
        if _number(chunk, 5) == 0:  # no page is read
            return Column(path, 0, 0, is_text, in_dictionary=False)
        offset = min(_number(chunk, 9), chunk.get(11) or self._size)
        end = offset + _number(chunk, 7)
        if not 0 <= offset <= end <= self._size:
            raise ValueError(f"column {path} is not inside the file")
        num_values = num_bytes = 0
        in_dictionary = False
        for _ in range(_MAX_PAGES):
            if offset >= end:
                break
            page, length = self._page_header(offset)
            kind, unpacked, packed = _number(page, 1), _number(page, 2), _number(page, 3)
            header = _checked(page.get({_DATA: 5, _DICTIONARY: 7, _DATA_V2: 8}.get(kind, -1)), dict)
            encoding = _number(header, 4 if kind == _DATA_V2 else 2)
            if encoding not in (_ENCODINGS if is_text else _NUMBER_ENCODINGS):
                raise ValueError(f"column {path} has a page of encoding {encoding}, which hides its size")
            in_dictionary |= kind == _DICTIONARY or encoding in _IN_DICTIONARY
            num_values += 0 if kind == _DICTIONARY else _number(header, 1)
            num_bytes += unpacked
            offset += length + packed
        if offset != end or num_values != _number(chunk, 5):
            raise ValueError(f"column {path} has other pages than its footer says")
        return Column(path, num_values, num_bytes + _MAX_VALUE_BYTES * num_values, is_text, in_dictionary)

    def _page_header(self, offset: int) -> tuple[Fields, int]:
        """Return the header of the page at an offset, and its length in bytes."""
        with suppress(ValueError):
            reader = CompactReader(self._read(offset, _HEADER_BYTES))
            return reader.record(), reader.offset
        reader = CompactReader(self._read(offset, _MAX_HEADER_BYTES))
        return reader.record(), reader.offset

    def _read(self, offset: int, length: int) -> bytes:
        self._source.seek(offset)
        return self._source.read(length)


def _items(fields: Fields, number: int, kind: type[T]) -> list[T]:
    return [_checked(item, kind) for item in _checked(fields.get(number), list)]


def _number(fields: Fields, number: int) -> int:
    value = _checked(fields.get(number), int)
    if value < 0:
        raise ValueError("a number of the footer or of a page is negative")
    return value


def _checked(value: object, kind: type[T]) -> T:
    if not isinstance(value, kind):
        raise ValueError("a field of the footer or of a page is missing")
    return value
