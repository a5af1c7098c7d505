"""Reads some columns of a Parquet file within a limit of bytes.

A few kilobytes can unpack to gigabytes: by compression, by runs of equal values, and by a dictionary that
contains a long value once for all rows. All three are checked before anything is unpacked to its full size.
"""

from collections.abc import Iterable
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from prism_ray.parquet.pages import PageHeaders

_OFFSET_BYTES = 8  # of a text or a list in a column, in addition to its contents


class ParquetReader:
    """A reader of the requested columns of an open, seekable file."""

    def __init__(self, source: IO[bytes], schema: pa.Schema) -> None:
        """Raises ValueError if it is not a Parquet file, or lacks a column of `schema` with its type."""
        self._source = source
        self._schema = schema
        self._headers = PageHeaders(source)
        try:
            self._parquet = self._open()
            stored = self._parquet.schema_arrow
            self.num_rows: int = self._parquet.metadata.num_rows
            self.num_row_groups: int = self._parquet.num_row_groups
        except (pa.ArrowException, OSError, LookupError) as error:
            raise ValueError(f"not a Parquet file: {str(error).strip()}") from None
        for field in schema:
            types = [stored.field(index).type for index in stored.get_all_field_indices(field.name)]
            if types != [field.type]:
                found = " and ".join(map(str, types)) or "missing"
                raise ValueError(f"column {field.name} is {found}, not {field.type}")

    def _open(self, read_dictionary: list[str] | None = None) -> pq.ParquetFile:
        """Open the file; checksums are checked if it has any, and only this thread reads it.

        Threads of Arrow release a Python file a little after the read, and a process that ends in between is
        aborted or hangs (apache/arrow, issues 34314 and 50482). Two kinds do: those that fetch ahead
        (`pre_buffer`), and those that decode columns (`use_threads` of a read).
        """
        return pq.ParquetFile(
            self._source, read_dictionary=read_dictionary, page_checksum_verification=True, pre_buffer=False
        )

    @property
    def group_rows(self) -> list[int]:
        """Rows of each row group."""
        metadata = self._parquet.metadata
        return [metadata.row_group(number).num_rows for number in range(self.num_row_groups)]

    def read(self, row_groups: Iterable[int], max_bytes: int) -> pa.Table:
        """Return the columns of some row groups, with the file's metadata.

        Raises ValueError if they cannot be read, or unpack to more than `max_bytes`.
        """
        numbers, names = list(row_groups), self._schema.names
        columns = self._headers.columns(numbers, names)
        _check_size(sum(column.num_bytes for column in columns), max_bytes)
        dictionaries = {column.path for column in columns if column.is_text and column.in_dictionary}
        try:
            parquet = self._parquet
            if dictionaries:
                parquet = self._open(read_dictionary=sorted(dictionaries))
            tables = [parquet.read_row_group(n, columns=names, use_threads=False) for n in numbers]
            chunks = (chunk for table in tables for column in table.columns for chunk in column.chunks)
            _check_size(sum(map(_unpacked_bytes, chunks)), max_bytes)
            schema = self._schema.with_metadata(self._parquet.schema_arrow.metadata)
            # The cast replaces dictionaries by their values.
            in_full = (table.select(names).cast(schema) for table in tables)
            return pa.concat_tables([schema.empty_table(), *in_full])
        except (pa.ArrowException, OSError, LookupError) as error:
            raise ValueError(str(error).strip()) from None


def read_table(source: IO[bytes], schema: pa.Schema, max_bytes: int, num_rows: int | None = None) -> pa.Table:
    """Return the columns of `schema` of a whole file, with the file's metadata.

    Raises ValueError if they are missing, unpack to more than `max_bytes`, or do not have `num_rows` rows.

    >>> read_table(file, pa.schema([("path", pa.string())]), max_bytes=2**20)
    """
    reader = ParquetReader(source, schema)
    if num_rows is not None and reader.num_rows != num_rows:
        raise ValueError(f"{reader.num_rows} rows, not {num_rows}")
    return reader.read(range(reader.num_row_groups), max_bytes)


def _unpacked_bytes(array: pa.Array) -> int:
    """Return the bytes of an array with its dictionaries replaced by their values."""
    if pa.types.is_dictionary(array.type):
        lengths = pc.binary_length(array.dictionary).take(array.indices)
        return int(pc.sum(lengths).as_py() or 0) + _OFFSET_BYTES * len(array)
    if pa.types.is_struct(array.type):
        return sum(map(_unpacked_bytes, array.flatten()))
    if pa.types.is_list(array.type):
        return _OFFSET_BYTES * len(array) + _unpacked_bytes(array.flatten())
    return int(array.nbytes)


def _check_size(num_bytes: int, max_bytes: int) -> None:
    if num_bytes > max_bytes:
        raise ValueError(f"it unpacks to more than {max_bytes:,} bytes, the limit of such a file")
