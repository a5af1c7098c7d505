"""The rows of a unit: all of its Parquet file, or some of a file that several units share (compact.py)."""

import io
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import pyarrow as pa

from prism_ray.parquet import ParquetReader
from prism_ray.store.commits import PartFile, is_intact, read_part
from prism_ray.store.files import StoreFiles


@dataclass(frozen=True)
class RowLayout:
    """The way in which `compact` writes the Parquet files of a stage."""

    schema: pa.Schema
    metadata: dict[str, str]
    options: dict[str, Any]  # of pyarrow.parquet.ParquetWriter
    max_bytes: int  # of a row group, unpacked


def open_rows(
    files: StoreFiles, part: PartFile, schema: pa.Schema, *, at_once: bool = False, is_hashed: bool = False
) -> tuple[ParquetReader, range]:
    """Open a part; return its reader, and the numbers of the unit's row groups.

    If the file is the unit's alone, its SHA-256 is checked, with `at_once` in memory, which is faster for a
    small file; not if it was just before (`is_hashed`), because that reads the whole file. If it is shared,
    each of its pages has a checksum, which is checked when the page is read.
    Raises StoreError or ValueError if the part is damaged, or does not have the rows that its commit says.
    """
    if part.piece is None and at_once:
        reader = ParquetReader(io.BytesIO(read_part(files, part)), schema)
    elif part.piece is None and not is_hashed and not is_intact(files, part):
        raise ValueError("its SHA-256 is not that of its commit")
    else:
        reader = ParquetReader(files.open(part.name), schema)
    if part.piece is None:
        if part.num_rows not in (None, reader.num_rows):
            raise ValueError(f"{reader.num_rows} rows, not {part.num_rows}")
        return reader, range(reader.num_row_groups)
    bounds = list(accumulate(reader.group_rows, initial=0))  # first row of each row group, and the end
    first, last = part.piece.first_row, part.piece.first_row + (part.num_rows or 0)
    if first not in bounds or last not in bounds:
        raise ValueError(f"no row groups with the rows {first} to {last - 1}")
    return reader, range(bounds.index(first), bounds.index(last))
