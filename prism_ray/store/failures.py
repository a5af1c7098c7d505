"""Failures: a record of each failed attempt, and of each unit that was set aside.

Later calls leave out a unit that is set aside, until a user sets it back to pending with `retry`. If the
store was the cause (full, unreachable, a damaged part), the next call tries the unit again, because the cause
may be gone.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

from prism_ray.errors import StoreError
from prism_ray.store import layout
from prism_ray.store.files import StoreFiles
from prism_ray.store.records import FORMAT, read_record

_MAX_TEXT = 100_000  # characters of a message or a traceback that are kept


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Failure:
    """A failed attempt at a unit."""

    unit_id: str  # id of the unit
    error: str  # class name
    message: str  # of the error; the middle of a long one is cut
    traceback: str  # of the error; the middle of a long one is cut
    host: str  # machine of the attempt
    failed_at: str = field(default_factory=_now)  # UTC, ISO 8601
    format: int = FORMAT  # version of the meaning of these keys

    @property
    def first_line(self) -> str:
        """The first line of the message."""
        return self.message.strip().partition("\n")[0]


def record_failure(files: StoreFiles, failure: Failure) -> None:
    """Record a failed attempt, under the unit's next free number."""
    number = 1
    while not files.create(layout.failure(failure.unit_id, number), _to_json(failure)):
        number += 1


def set_aside(files: StoreFiles, failure: Failure) -> None:
    """Set a unit aside; `failure` is its last one."""
    files.create(layout.aside(failure.unit_id), _to_json(failure))


def units_set_aside(files: StoreFiles) -> list[str]:
    """Return the ids of the units that are set aside, in sorted order."""
    return [name[len(layout.ASIDE) + 1 : -len(".json")] for name, _ in files.list(layout.ASIDE)]


def retry_after_store_errors(files: StoreFiles) -> list[str]:
    """Set the units that were set aside because of the store back to pending; return their ids."""
    unit_ids = list(store_errors_set_aside(files))
    retry(files, unit_ids)
    return unit_ids


def store_errors_set_aside(files: StoreFiles) -> dict[str, str]:
    """Return the units that were set aside because of the store, with the cause; the next call tries them."""
    found = {}
    for unit_id in units_set_aside(files):
        try:
            record = read_record(files, layout.aside(unit_id), Failure)
        except StoreError as error:  # its record is damaged
            found[unit_id] = error.problem
        else:
            if record.error == StoreError.__name__:
                found[unit_id] = record.message
    return found


def retry(files: StoreFiles, unit_ids: Iterable[str]) -> None:
    """Set units back to pending; the records of their failures stay."""
    for unit_id in unit_ids:
        files.delete(layout.aside(unit_id))


def read_failures(files: StoreFiles) -> Iterator[Failure]:
    """Yield the record of each failed attempt, unit by unit; raises StoreError if one is damaged."""
    for name, _ in files.list(layout.FAILURES):
        yield read_record(files, name, Failure)


def damaged_failures(files: StoreFiles) -> dict[str, str]:
    """Return the names of the records that cannot be read, and what is wrong; nothing depends on them."""
    found = {}
    for folder in (layout.FAILURES, layout.ASIDE):
        for name, _ in files.list(folder):
            try:
                read_record(files, name, Failure)
            except StoreError as error:
                found[name] = error.problem
    return found


def _to_json(failure: Failure) -> bytes:
    """Encode a record, without the middle of texts that are too long."""
    values = asdict(failure)
    half = _MAX_TEXT // 2
    for key, text in values.items():
        if isinstance(text, str) and len(text) > _MAX_TEXT:
            values[key] = f"{text[:half]}\n...\n{text[-half:]}"
    return json.dumps(values, indent=1).encode()
