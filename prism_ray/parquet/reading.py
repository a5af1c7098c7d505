"""The columns wanted of a Parquet file, and no more than they can hold.

A few kilobytes can unpack to gigabytes: by compression, by runs, and by a dictionary that holds a long value
once for all rows. All three are looked at before anything is unpacked to its full size.
"""

from collections.abc import Iterable
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from prism_ray.parquet.pages import PageHeaders

_PLACE_BYTES = 8  # of a text or a list in a column, beside what it holds


class ParquetReader:
    """A file that is open for reading at any place, and the columns of it that are wanted."""

    def __init__(self, source: IO[bytes], schema: pa.Schema) -> None:
        """Raises ValueError if it is no Parquet file, or has not the columns of `schema` with their types."""
        self._source = source
        self._schema = schema
        self._headers = PageHeaders(source)
        try:
            self._parquet = self._open()
            held = self._parquet.schema_arrow
        except (pa.ArrowException, OSError, LookupError) as error:
            raise ValueError(f"no Parquet file: {str(error).strip()}") from None
        for field in schema:
            places = held.get_all_field_indices(field.name)
            if len(places) != 1 or held.field(places[0]).type != field.type:
                found = [str(held.field(place).type) for place in places] or ["missing"]
                raise ValueError(f"column {field.name} is {' and '.join(found)}, not {field.type}")

    def _open(self, read_dictionary: list[str] | None = None) -> pq.ParquetFile:
        """Open the file with checksums, where it has any, and so that only this thread touches it.

        Threads of Arrow's let go of a Python file a little after the read, and a process that ends in between
        is aborted or hangs (apache/arrow, issues 34314 and 50482). They are two: those that fetch ahead
        (`pre_buffer`), and those that decode columns (`use_threads` of a read).
        """
        return pq.ParquetFile(
            self._source, read_dictionary=read_dictionary, page_checksum_verification=True, pre_buffer=False
        )

    @property
    def num_rows(self) -> int:
        return int(self._parquet.metadata.num_rows)

    @property
    def num_row_groups(self) -> int:
        return int(self._parquet.num_row_groups)

    @property
    def group_rows(self) -> list[int]:
        """Rows of each row group."""
        metadata = self._parquet.metadata
        return [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]

    def read(self, row_groups: Iterable[int], max_bytes: int) -> pa.Table:
        """Return the columns of some row groups, with the file's metadata.

        Raises ValueError if they cannot be read, or have more than `max_bytes` when they are unpacked.
        """
        wanted = list(row_groups)
        columns = self._headers.columns(wanted, self._schema.names)
        if sum(column.num_bytes for column in columns) > max_bytes:
            raise _too_large(max_bytes)
        dictionaries = {column.path for column in columns if column.is_text and column.in_dictionary}
        try:
            parquet = self._parquet
            if dictionaries:
                parquet = self._open(read_dictionary=sorted(dictionaries))
            tables = [
                parquet.read_row_group(number, columns=self._schema.names, use_threads=False)
                for number in wanted
            ]
            chunks = (chunk for table in tables for column in table.columns for chunk in column.chunks)
            if sum(map(_unpacked_bytes, chunks)) > max_bytes:
                raise _too_large(max_bytes)
            schema = self._schema.with_metadata(self._parquet.schema_arrow.metadata)
            return pa.concat_tables([schema.empty_table(), *(_in_full(table, schema) for table in tables)])
        except (pa.ArrowException, OSError, LookupError) as error:
            raise ValueError(str(error).strip()) from None


def read_table(source: IO[bytes], schema: pa.Schema, max_bytes: int, num_rows: int | None = None) -> pa.Table:
    """Return the columns of `schema` of a whole file, with the file's metadata.

    Raises ValueError if they are not there, have more than `max_bytes` when they are unpacked, or not
    `num_rows` rows.
    """
    reader = ParquetReader(source, schema)
    if num_rows is not None and reader.num_rows != num_rows:
        raise ValueError(f"{reader.num_rows} rows, not {num_rows}")
    return reader.read(range(reader.num_row_groups), max_bytes)


def _in_full(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table with its dictionaries written out."""
    return pa.Table.from_arrays([table[field.name].cast(field.type) for field in schema], schema=schema)


def _unpacked_bytes(array: pa.Array) -> int:
    """Return the bytes of an array once its dictionaries are written out."""
    if pa.types.is_dictionary(array.type):
        lengths = pc.binary_length(array.dictionary).take(array.indices)
        return int(pc.sum(lengths).as_py() or 0) + _PLACE_BYTES * len(array)
    if pa.types.is_struct(array.type):
        return sum(map(_unpacked_bytes, array.flatten()))
    if pa.types.is_list(array.type):
        return _PLACE_BYTES * len(array) + _unpacked_bytes(array.flatten())
    return int(array.nbytes)


def _too_large(max_bytes: int) -> ValueError:
    return ValueError(f"it unpacks to more than the {max_bytes:,} bytes that it can have")
