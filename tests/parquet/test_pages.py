"""What columns unpack to, from the headers of their pages: as pyarrow wrote them, and where a footer lies."""

import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prism_ray.parquet import read_table
from prism_ray.parquet.pages import PageHeaders
from prism_ray.store import PartFile, StoreFiles, read_part

MIB = 2**20
MAX_BYTES = MIB  # what the file may unpack to
SIZE = 100 * MAX_BYTES  # what it does unpack to
SAID = 100  # what its footer says

# Checks a file as one would with pyarrow alone, and reads it; prints the footer's sum and the peaks in bytes.
PYARROW_ALONE = """
import json, sys
import pyarrow.parquet as pq

def peak():
    return int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0]) * 1024

parquet = pq.ParquetFile(sys.argv[1], page_checksum_verification=True, pre_buffer=False)
groups = [parquet.metadata.row_group(number) for number in range(parquet.metadata.num_row_groups)]
said = sum(
    group.column(number).total_uncompressed_size for group in groups for number in range(group.num_columns)
)
before = peak()
rows = parquet.read(use_threads=False).num_rows
print(json.dumps([said, rows, before, peak()]))
"""


def varint(number: int, num_bytes: int = 0) -> bytes:
    """Return a number as Thrift packs it, filled up with zeros to `num_bytes`."""
    left, found = 2 * number, b""
    while left or len(found) < num_bytes or not found:
        more = left >> 7 or len(found) + 1 < num_bytes
        found, left = found + bytes([left & 127 | (128 if more else 0)]), left >> 7
    return found


def file_of_a_lying_footer() -> bytes:
    """Return a file of one value of SIZE zeros whose footer says that it unpacks to SAID bytes."""
    sink = io.BytesIO()
    table = pa.table({"image": pa.array([bytes(SIZE)], pa.binary())})
    pq.write_table(table, sink, compression="zstd", use_dictionary=False, write_statistics=False)
    data = sink.getvalue()
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    said = varint(pq.ParquetFile(io.BytesIO(data)).metadata.row_group(0).column(0).total_uncompressed_size)
    return data[:footer] + data[footer:].replace(said, varint(SAID, len(said)))


def test_a_footer_that_lies_passes_pyarrow_and_hashing_and_is_refused_here(tmp_path: Path) -> None:
    """Catches a reader that believes the footer: it is why the headers of pages are read at all.

    The file comes in a store from elsewhere, whose commit has its SHA-256. Its footer says 100 bytes, so it
    passes a check of pyarrow's metadata against 1 MiB; reading it takes more than a hundred times that.
    """
    data = file_of_a_lying_footer()
    assert len(data) < MAX_BYTES // 100
    (tmp_path / "part.parquet").write_bytes(data)
    part = PartFile("part.parquet", len(data), hashlib.sha256(data).hexdigest(), num_rows=1)
    held = read_part(StoreFiles(str(tmp_path)), part)  # hashing has nothing against it

    command = [sys.executable, "-c", PYARROW_ALONE, str(tmp_path / "part.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said, rows, before, after = json.loads(done.stdout)
    assert (said, rows) == (SAID, 1)
    assert after - before > 100 * MAX_BYTES

    schema = pa.schema([("image", pa.binary())])
    allocated = pa.total_allocated_bytes()
    with pytest.raises(ValueError, match="unpacks to more than 1,048,576 bytes"):
        read_table(io.BytesIO(held), schema, MAX_BYTES, num_rows=1)
    assert pa.total_allocated_bytes() == allocated


@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_the_columns_are_those_that_pyarrow_wrote(tmp_path: Path, compression: str, version: str) -> None:
    """Catches pages of the second version, or several in a column, that are not counted."""
    rows = 50_000
    table = pa.table(
        {"x": pa.array(range(rows), pa.int64()), "s": [f"{number % 7}" for number in range(rows)]}
    )
    path = f"{tmp_path}/x.parquet"
    pq.write_table(
        table,
        path,
        compression=compression,
        data_page_version=version,
        data_page_size=2**14,
        row_group_size=20_000,
        use_dictionary=["s"],
    )
    with open(path, "rb") as file:
        headers = PageHeaders(file)
        assert headers.num_rows == rows
        numbers, texts = headers.columns([2], ["x"]), headers.columns(range(3), ["s"])
    assert [(c.path, c.num_values, c.is_text, c.in_dictionary) for c in numbers] == [
        ("x", 10_000, False, False)
    ]
    assert numbers[0].num_bytes >= 80_000
    assert [(c.num_values, c.is_text, c.in_dictionary) for c in texts] == [
        (count, True, True) for count in (20_000, 20_000, 10_000)
    ]
