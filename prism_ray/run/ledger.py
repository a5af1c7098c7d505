"""The ledger: a summary of many commits in few files, so that a run of a million units is read in seconds.

It is only a copy: a row counts only while its commit exists with the size in the row. What is missing in the
ledger, or differs, is read from the commit itself. So a ledger that is lost, old or damaged costs only time.
It lists only the units of stages that can have a million of them (`Stage.many`).
"""

import hashlib
import io
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq

from prism_ray.errors import StoreError
from prism_ray.parquet import read_table
from prism_ray.stages import stage_of, stages
from prism_ray.store import layout
from prism_ray.store.commits import Commit, encode_commit
from prism_ray.store.files import StoreFiles

_ROWS = 5000  # in one file
_MAX_BYTES = 2**27  # of a file, unpacked: a kilobyte for each of the 100,000 rows that `compact` writes
_MIN_ROWS = 200  # fewer are not worth a file at the end of a run


def is_listed(unit_id: str) -> bool:
    """Return whether the ledger lists a unit."""
    name = stage_of(unit_id)
    return any(stage.many and stage.name == name for stage in stages())


class Entry(NamedTuple):
    """The parts of a commit that are needed to count it."""

    unit: str
    commit_bytes: int  # size of the commit itself
    fingerprint: str
    weights: str  # JSON: teacher -> SHA-256 of the weights that the unit was made with
    seconds: float
    num_rows: int  # in all its files
    num_bytes: int  # of its files; less than the sum of `sizes` if it shares them with other units
    names: list[str]  # of its files
    sizes: list[int]  # of each file in bytes

    @classmethod
    def of(cls, commit: Commit, commit_bytes: int | None = None) -> "Entry":
        """Return the entry of a commit. `commit_bytes` is its size, by default as this version writes it."""
        return cls(
            commit.unit,
            len(encode_commit(commit)) if commit_bytes is None else commit_bytes,
            commit.fingerprint,
            json.dumps(commit.weights, sort_keys=True),
            commit.seconds,
            sum(file.num_rows or 0 for file in commit.files),
            commit.num_bytes,
            [file.name for file in commit.files],
            [file.num_bytes for file in commit.files],
        )


_TYPES = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    list[str]: pa.list_(pa.string()),
    list[int]: pa.list_(pa.int64()),
}
_SCHEMA = pa.schema([(name, _TYPES[kind]) for name, kind in get_type_hints(Entry).items()])


class Ledger:
    """A writer that collects commits as they are made, and writes files of many."""

    def __init__(self, files: StoreFiles, num_rows: int = _ROWS, min_rows: int = _MIN_ROWS) -> None:
        self._files = files
        self._num_rows = num_rows
        self._min_rows = min_rows
        self._entries: list[Entry] = []
        self.names: set[str] = set()  # of the files that it wrote

    def add(self, commit: Commit, commit_bytes: int | None = None) -> None:
        """Add a commit that is in the store; see `Entry.of`."""
        if is_listed(commit.unit):
            self._entries.append(Entry.of(commit, commit_bytes))
            if len(self._entries) >= self._num_rows:
                self._write()

    def close(self) -> None:
        """Write the remaining entries, unless they are too few for a file."""
        if len(self._entries) >= self._min_rows:
            self._write()

    def _write(self) -> None:
        """Write a file whose name derives from its bytes, so that it never changes."""
        sink = io.BytesIO()
        rows = [entry._asdict() for entry in self._entries]
        pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), sink)
        with suppress(StoreError):  # the commits are enough
            name = layout.ledger(hashlib.sha256(sink.getvalue()).hexdigest()[:32])
            self._files.create(name, sink.getvalue())
            self.names.add(name)
        self._entries.clear()


def read_ledger(files: StoreFiles) -> Iterator[Entry]:
    """Yield all entries, with a few thousand in memory at a time; the rest of a damaged file is left out."""
    for name, _ in files.list(layout.LEDGER):
        with (
            suppress(StoreError, pa.ArrowException, OSError, ValueError, LookupError, TypeError),
            files.open(name) as file,
        ):
            for batch in read_table(file, _SCHEMA, _MAX_BYTES).to_batches(max_chunksize=_ROWS):
                if any(column.null_count for column in batch.columns):
                    break
                yield from map(Entry, *(column.to_pylist() for column in batch.columns))
