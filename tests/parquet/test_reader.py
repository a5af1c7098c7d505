"""Parquet from elsewhere: what is wanted is read, what is too large when unpacked is refused before it is."""

import io
import random
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prism_ray.parquet import ParquetReader, read_table

SCHEMA = pa.schema(
    [
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("label", pa.int64()),
        ("names", pa.list_(pa.string())),
    ]
)
MIB = 2**20


def table_of(values: list[bytes | None]) -> pa.Table:
    rows = {
        "image": [{"bytes": value, "path": f"{place}.png"} for place, value in enumerate(values)],
        "label": list(range(len(values))),
        "names": [["a", "b"]] * len(values),
    }
    return pa.table(rows, schema=SCHEMA.with_metadata({"of": "whom"}))


def packed(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def read(data: bytes, max_bytes: int = MIB, num_rows: int | None = None) -> pa.Table:
    return read_table(io.BytesIO(data), SCHEMA, max_bytes, num_rows)


@pytest.mark.parametrize("use_dictionary", [True, False])
@pytest.mark.parametrize("row_group_size", [2, 100])
def test_a_table_comes_back_as_it_was(use_dictionary: bool, row_group_size: int) -> None:
    """Catches columns or metadata that are lost, and types that a dictionary changes."""
    table = table_of([b"one", None, b"one", b"two"])
    data = packed(table, use_dictionary=use_dictionary, row_group_size=row_group_size)
    found = read(data, num_rows=4)
    assert found.equals(table)
    assert found.schema.metadata[b"of"] == b"whom"
    part = read_table(io.BytesIO(data), pa.schema([SCHEMA.field("label")]), MIB)
    assert part.column_names == ["label"]
    assert read(packed(table_of([])), num_rows=0).num_rows == 0


BOMBS: dict[str, Callable[[], bytes]] = {
    "compression": lambda: packed(table_of([bytes(20 * MIB)]), compression="zstd"),
    "dictionary": lambda: packed(table_of([bytes(MIB // 2)] * 100), compression="zstd"),
    "runs": lambda: packed(pa.table({"label": pa.array(np.zeros(10**7, np.int64))}), row_group_size=10**7),
    "a list": lambda: packed(
        pa.table({"names": pa.ListArray.from_arrays([0, 10**6], pa.array(["x"] * 10**6))}), compression="zstd"
    ),
}


class NotedFile(io.BytesIO):
    """A file that notes which threads touch it."""

    def __init__(self, data: bytes, threads: set[int]) -> None:
        super().__init__(data)
        self._threads = threads

    def read(self, size: int | None = -1, /) -> bytes:
        self._threads.add(threading.get_ident())
        return super().read(size)

    def __del__(self) -> None:
        self._threads.add(threading.get_ident())


@pytest.mark.parametrize("use_dictionary", [True, False])
def test_no_thread_of_arrows_touches_a_python_file(use_dictionary: bool) -> None:
    """Catches commands that have done their work and are aborted as they end: one in thousands."""
    threads: set[int] = set()
    data = packed(table_of([b"one" * 1000] * 100), row_group_size=20, use_dictionary=use_dictionary)
    for _ in range(20):
        read_table(NotedFile(data, threads), SCHEMA, MIB)
    assert threads == {threading.get_ident()}


@pytest.mark.parametrize("make", BOMBS.values(), ids=BOMBS.keys())
def test_a_bomb_is_not_unpacked(make: Callable[[], bytes]) -> None:
    """Catches kilobytes that unpack to gigabytes: by compression, or by a value that all rows share."""
    data = make()
    assert len(data) < MIB
    held = pq.read_schema(io.BytesIO(data))
    schema = pa.schema([field for field in SCHEMA if field.name in held.names])
    source = io.BytesIO(data)
    pool = pa.system_memory_pool()  # nothing else uses it
    before, default = pool.max_memory(), pa.default_memory_pool()
    pa.set_memory_pool(pool)
    try:
        with pytest.raises(ValueError, match="unpacks to more than 1,048,576 bytes"):
            read_table(source, schema, MIB)
    finally:
        pa.set_memory_pool(default)
    assert pool.max_memory() - before < 4 * MIB


def test_what_fits_is_unpacked() -> None:
    """Catches a bound on the size of the file, or of its dictionary, in place of what it unpacks to."""
    data = packed(table_of([bytes(1000)] * 500), compression="zstd", use_dictionary=True)
    assert read(data).num_rows == 500
    with pytest.raises(ValueError, match="unpacks to more than"):
        read(data, max_bytes=MIB // 4)


def test_other_rows_than_announced_are_refused() -> None:
    """Catches a file of which a commit says something else."""
    data = packed(table_of([b"x"] * 3))
    with pytest.raises(ValueError, match=r"^3 rows, not 4$"):
        read(data, num_rows=4)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda table: table.drop_columns(["label"]), "column label is missing, not int64"),
        (
            lambda table: table.set_column(1, "label", table["label"].cast(pa.int32())),
            "column label is int32, not int64",
        ),
        (
            lambda table: table.set_column(1, "label", pa.array(["a", "b", "c"])),
            "column label is string, not int64",
        ),
        (
            lambda table: table.append_column("label", table["label"]),
            "column label is int64 and int64, not int64",
        ),
        (
            lambda table: table.set_column(0, "image", pa.array([b"", b"", b""])),
            "column image is binary, not struct<bytes: binary, path: string>",
        ),
    ],
)
def test_other_columns_are_refused(change: Callable[[pa.Table], pa.Table], problem: str) -> None:
    """Catches numbers given as text, and KeyError for a column that is not there."""
    with pytest.raises(ValueError, match=f"^{problem}$"):
        read(packed(change(table_of([b"x"] * 3))))


def test_encodings_that_hide_a_size_are_refused() -> None:
    """Catches prefixes of prefixes, whose full length no footer tells."""
    table = pa.table({"path": ["x" * 1000] * 1000})
    data = packed(table, use_dictionary=False, column_encoding={"path": "DELTA_BYTE_ARRAY"})
    with pytest.raises(ValueError, match="column path has a page of encoding 7, which hides its size"):
        read_table(io.BytesIO(data), table.schema, 10 * MIB)


@pytest.mark.parametrize("data", [b"", b"PAR1", b"x" * 100, b"PAR1" * 3, packed(table_of([b"x"]))[:-10]])
def test_what_is_no_parquet_is_refused(data: bytes) -> None:
    """Catches an error of pyarrow's own."""
    with pytest.raises(ValueError, match=r"^not a Parquet file: "):
        read(data)


def test_whatever_the_bytes_are_nothing_but_value_errors_come_out() -> None:
    """Catches one damaged byte that ends a command with an error of pyarrow's."""
    rng = random.Random(20261123)
    whole = packed(table_of([b"one", b"two", None] * 20), compression="zstd")
    for _ in range(500):
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 5)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            read(bytes(data), num_rows=60)
        except ValueError:
            continue


def test_single_row_groups_are_looked_at() -> None:
    """Catches a reader of single row groups that is told of the whole file, or of another's size."""
    table = pa.table({"x": pa.array(range(1000), pa.int64())})
    reader = ParquetReader(io.BytesIO(packed(table, row_group_size=100)), table.schema)
    assert (reader.num_rows, reader.num_row_groups) == (1000, 10)
    assert reader.read([3], 4000)["x"].to_pylist() == list(range(300, 400))
    with pytest.raises(ValueError, match="unpacks to more than"):
        reader.read(range(10), 4000)
