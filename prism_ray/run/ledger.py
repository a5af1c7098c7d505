"""The ledger: what many commits say, in few files, so that a run of a million is looked at in seconds.

It is a copy, never the truth: a row counts only while its commit is there, with the size it had. What the
ledger lacks, or has otherwise, is read from the commit itself, so a ledger that is lost, old or damaged costs
time and nothing else. Only units of stages that may have a million are in it (`Stage.many`).
"""

import hashlib
import io
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

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
_MIN_ROWS = 200  # a run that ends leaves fewer to the commits
_SCHEMA = pa.schema(
    [
        ("unit", pa.string()),
        ("commit_bytes", pa.int64()),
        ("fingerprint", pa.string()),
        ("weights", pa.string()),
        ("seconds", pa.float64()),
        ("num_rows", pa.int64()),
        ("num_bytes", pa.int64()),
        ("names", pa.list_(pa.string())),
        ("sizes", pa.list_(pa.int64())),
    ]
)


def is_listed(unit_id: str) -> bool:
    """Return whether the ledger lists a unit."""
    name = stage_of(unit_id)
    return any(stage.many and stage.name == name for stage in stages())


class Entry(NamedTuple):
    """What a commit says, as far as it is needed to count it."""

    unit: str
    commit_bytes: int  # size of the commit itself
    fingerprint: str
    weights: str  # JSON: teacher -> SHA-256 of the weights that the unit was done with
    seconds: float
    num_rows: int  # in all its files
    num_bytes: int  # that they take; less than `sizes` come to if it shares them with others
    names: list[str]  # of its files
    sizes: list[int]  # of each in bytes

    @classmethod
    def of(cls, commit: Commit, commit_bytes: int | None = None) -> "Entry":
        """Return the entry of a commit of `commit_bytes`; by default as many as this version writes."""
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


class Ledger:
    """Takes down commits as they are made, and writes them when there are enough."""

    def __init__(self, files: StoreFiles, num_rows: int = _ROWS, min_rows: int = _MIN_ROWS) -> None:
        self._files = files
        self._num_rows = num_rows
        self._min_rows = min_rows
        self._entries: list[Entry] = []
        self.names: set[str] = set()  # of the files that it wrote

    def add(self, commit: Commit, commit_bytes: int | None = None) -> None:
        """Take down a commit that is in the store; see `Entry.of`."""
        if not is_listed(commit.unit):
            return
        self._entries.append(Entry.of(commit, commit_bytes))
        if len(self._entries) >= self._num_rows:
            self._write()

    def close(self) -> None:
        """Write what is left, unless it is too little to be worth a file."""
        if len(self._entries) >= self._min_rows:
            self._write()

    def _write(self) -> None:
        """Write a file of its own; its name derives from its bytes, so that it never changes."""
        columns = [pa.array([getattr(entry, name) for entry in self._entries]) for name in _SCHEMA.names]
        sink = io.BytesIO()
        pq.write_table(
            pa.table([c.cast(f.type) for c, f in zip(columns, _SCHEMA, strict=True)], _SCHEMA), sink
        )
        data = sink.getvalue()
        with suppress(StoreError):  # the commits are there
            name = layout.ledger(hashlib.sha256(data).hexdigest()[:32])
            self._files.create(name, data)
            self.names.add(name)
        self._entries.clear()


def read_ledger(files: StoreFiles) -> Iterator[Entry]:
    """Yield every entry of the ledger, a few thousand in memory at a time; a damaged file ends early."""
    for name, _ in files.list(layout.LEDGER):
        try:
            yield from _read(files, name)
        except (StoreError, pa.ArrowException, OSError, ValueError, LookupError, TypeError):
            continue


def _read(files: StoreFiles, name: str) -> Iterator[Entry]:
    with files.open(name) as file:
        table = read_table(file, _SCHEMA, _MAX_BYTES)
        for batch in table.to_batches(max_chunksize=_ROWS):
            if any(column.null_count for column in batch.columns):
                return
            columns: list[list[Any]] = [column.to_pylist() for column in batch.columns]
            for row in zip(*columns, strict=True):
                yield Entry._make(row)
