"""The rows of a unit: all of its Parquet file, or its own of one that it shares with others (compact.py)."""

import io
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from prism_ray.parquet import ParquetReader
from prism_ray.store.commits import PartFile, check_part, read_part
from prism_ray.store.files import StoreFiles


@dataclass(frozen=True)
class RowLayout:
    """How the Parquet files of a stage are written, for `compact`."""

    schema: pa.Schema
    metadata: dict[str, str]
    options: dict[str, Any]  # of pyarrow.parquet.ParquetWriter
    max_bytes: int  # of a row group, unpacked


def open_rows(
    files: StoreFiles, part: PartFile, schema: pa.Schema, *, at_once: bool = False
) -> tuple[ParquetReader, range]:
    """Open a part; return its reader, and the numbers of the row groups that are the unit's.

    Of a file of its own the SHA-256 is checked, `at_once` in memory, which is quicker for a small one. Of a
    shared one it is not: each of its pages is held against a checksum when it is read. Raises StoreError or
    ValueError if the part is damaged, or has not the rows that its commit says.
    """
    if part.piece is not None:
        reader = ParquetReader(files.open(part.name), schema)
    elif at_once:
        reader = ParquetReader(io.BytesIO(read_part(files, part)), schema)
    else:
        check_part(files, part)
        reader = ParquetReader(files.open(part.name), schema)
    if part.piece is None:
        if part.num_rows not in (None, reader.num_rows):
            raise ValueError(f"{reader.num_rows} rows, not {part.num_rows}")
        return reader, range(reader.num_row_groups)
    begins = [0]  # of each row group, and where the last ends
    for num_rows in reader.group_rows:
        begins.append(begins[-1] + num_rows)
    first, last = part.piece.first_row, part.piece.first_row + (part.num_rows or 0)
    if first not in begins or last not in begins:
        raise ValueError(f"no row groups of the rows {first} to {last - 1}")
    return reader, range(begins.index(first), begins.index(last))
