"""What went wrong: a record of each failed attempt, and the units that were set aside for it.

A unit that is set aside is left out by every later call, until a person sets it back with `retry`. Only where
the store was at fault (full, away, a damaged part) it is tried again by the next call: that may have passed.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

from prism_ray.errors import StoreError
from prism_ray.store import layout
from prism_ray.store.files import StoreFiles
from prism_ray.store.records import FORMAT, decode_record, record_bytes
from prism_ray.store.remedy import damaged

_MAX_TEXT = 100_000  # characters of a message or a traceback that are kept


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Failure:
    """An attempt at a unit that ended badly."""

    unit_id: str
    error: str  # class name
    message: str
    traceback: str
    host: str
    failed_at: str = field(default_factory=_now)  # UTC, ISO 8601
    format: int = FORMAT


def record_failure(files: StoreFiles, failure: Failure) -> None:
    """Keep the record of a failed attempt; numbers go on from call to call."""
    number = 1
    while not files.create(layout.failure(failure.unit_id, number), _to_json(failure)):
        number += 1


def set_aside(files: StoreFiles, failure: Failure) -> None:
    """Leave a unit out from now on; `failure` is its last."""
    files.create(layout.aside(failure.unit_id), _to_json(failure))


def units_set_aside(files: StoreFiles) -> list[str]:
    """Return the ids of the units that are set aside, in sorted order."""
    return [name[len(layout.ASIDE) + 1 : -len(".json")] for name, _ in files.list(layout.ASIDE)]


def retry_after_store_errors(files: StoreFiles) -> list[str]:
    """Set the units back to pending that were set aside for an error of the store; return their ids.

    So it is with those whose record is damaged.
    """
    unit_ids = []
    for unit_id in units_set_aside(files):
        try:
            is_of_store = _read(files, layout.aside(unit_id)).error == StoreError.__name__
        except StoreError:
            is_of_store = True
        if is_of_store:
            unit_ids.append(unit_id)
    retry(files, unit_ids)
    return unit_ids


def retry(files: StoreFiles, unit_ids: Iterable[str]) -> None:
    """Set units back to pending; the records of their failures stay."""
    for unit_id in unit_ids:
        files.delete(layout.aside(unit_id))


def read_failures(files: StoreFiles) -> Iterator[Failure]:
    """Yield the record of each failed attempt, by unit; raises StoreError if one is damaged."""
    for name, _ in files.list(layout.FAILURES):
        yield _read(files, name)


def damaged_failures(files: StoreFiles) -> dict[str, str]:
    """Return the names of the records that cannot be read, and what is wrong; nothing depends on them."""
    found = {}
    for name, _ in [*files.list(layout.FAILURES), *files.list(layout.ASIDE)]:
        try:
            _read(files, name)
        except StoreError as error:
            found[name] = error.problem
    return found


def _read(files: StoreFiles, name: str) -> Failure:
    try:
        return decode_record(Failure, record_bytes(files, name), f"{files.location}/{name}")
    except ValueError as error:
        raise damaged(files, name, error) from None


def _to_json(failure: Failure) -> bytes:
    values = {
        key: _shortened(value) if isinstance(value, str) else value for key, value in asdict(failure).items()
    }
    return json.dumps(values, indent=1).encode()


def _shortened(text: str) -> str:
    """Leave out the middle of what is too long for a record."""
    half = _MAX_TEXT // 2
    return text if len(text) <= _MAX_TEXT else f"{text[:half]}\n...\n{text[-half:]}"
