"""The stores of a report, open for reading, each with a short name that is its own on the page."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from prism_ray.errors import StoreError, UsageError
from prism_ray.run import Run, RunProgress, read_progress
from prism_ray.store import Commit, PartFile, StoreFiles, read_commit, read_part
from prism_ray.store.records import MAX_RECORD_BYTES, decode_record

_AT_ONCE = 16  # files that are read at a time
_MAX_NOTES = 20

Record = TypeVar("Record")


@dataclass
class Opened:
    """A store with its run, and notes on what could not be read or was left out."""

    name: str
    files: StoreFiles
    run: Run
    progress: RunProgress
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Keep a note for the page, each only once, and not too many."""
        if text not in self.notes and len(self.notes) < _MAX_NOTES:
            self.notes.append(text)

    def commits(self, unit_ids: Sequence[str]) -> list[Commit]:
        """Return the commits of those units that are done; one that cannot be read is noted."""
        known = self.progress.commits

        def read(unit_id: str) -> Commit | None:
            try:
                return known.get(unit_id) or read_commit(self.files, unit_id)
            except StoreError as error:
                self.note(error.problem)
                return None

        done = [unit_id for unit_id in unit_ids if unit_id in self.progress.done]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return [commit for commit in pool.map(read, done) if commit is not None]

    def card(self, kind: type[Record], part: PartFile) -> Record | None:
        """Return a small JSON file of a unit as a record; one that cannot be read is noted."""
        try:
            data = read_part(self.files, part, MAX_RECORD_BYTES)
            return decode_record(kind, data, f"{self.files.location}/{part.name}")
        except StoreError as error:
            self.note(error.problem)
        except ValueError as error:
            self.note(f"{self.files.location}/{part.name} is damaged: {error}")
        return None

    def cards(self, kind: type[Record], parts: Sequence[PartFile]) -> list[Record | None]:
        """Return several small JSON files as records, in order."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(lambda part: self.card(kind, part), parts))


def open_all(stores: Sequence[tuple[StoreFiles, Run]]) -> list[Opened]:
    """Read the progress of the runs; raises UsageError if a store is given twice."""
    locations = [files.location for files, _ in stores]
    for location, count in Counter(locations).items():
        if count > 1:
            raise UsageError(f"{location!r} is given twice; remove one")
    names = short_names(locations)
    return [
        Opened(name, files, run, read_progress(files, run))
        for name, (files, run) in zip(names, stores, strict=True)
    ]


def short_names(locations: Sequence[str]) -> list[str]:
    """Return the shortest ends of some paths or URLs that differ from each other.

    >>> short_names(["/runs/a/digits", "s3://bucket/b/digits", "/runs/c"])
    ['a/digits', 'b/digits', 'c']
    """
    parts = [location.rstrip("/").split("/") for location in locations]
    lengths = [1] * len(parts)
    while True:
        names = ["/".join(each[-length:]) for each, length in zip(parts, lengths, strict=True)]
        double = [name for name, count in Counter(names).items() if count > 1]
        longer = [
            length + 1 if name in double and length < len(each) else length
            for name, each, length in zip(names, parts, lengths, strict=True)
        ]
        if longer == lengths:
            return names
        lengths = longer


def plain(values: Any) -> Any:
    """Return plain data in which no number is infinite or not a number: those become None."""
    if isinstance(values, dict):
        return {str(key): plain(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [plain(value) for value in values]
    if isinstance(values, float) and not -1e300 < values < 1e300:
        return None
    return values
