"""What went wrong is kept, and units are left out until they are set back."""

import pytest

from prism_ray.errors import StoreError
from prism_ray.store import (
    Failure,
    StoreFiles,
    layout,
    read_failures,
    record_failure,
    retry,
    retry_after_store_errors,
    set_aside,
    units_set_aside,
)

UNIT = "recover/distilled/i00000-c00000"


def failure(unit_id: str = UNIT, message: str = "it broke") -> Failure:
    return Failure(unit_id, "EngineError", message, "Traceback ...", "here")


def test_every_attempt_is_kept(files: StoreFiles) -> None:
    """Catches a second failure written over the first, or numbers that start anew with a resume."""
    for number in range(3):
        record_failure(files, failure(message=f"attempt {number}"))
    record_failure(StoreFiles(files.location), failure(message="of a later call"))
    found = [record.message for record in read_failures(files)]
    assert found == ["attempt 0", "attempt 1", "attempt 2", "of a later call"]
    assert {record.unit_id for record in read_failures(files)} == {UNIT}


def test_units_set_aside_come_back_when_they_are_told(files: StoreFiles) -> None:
    """Catches a unit left out for ever, one that comes back by itself, and others that come back with it."""
    other = "evaluate/distilled/student/s000"
    for unit_id in (UNIT, other):
        record_failure(files, failure(unit_id))
        set_aside(files, failure(unit_id))
    set_aside(files, failure())  # by another driver
    assert units_set_aside(files) == [other, UNIT]
    retry(files, [UNIT])
    assert units_set_aside(files) == [other]
    retry(files, [UNIT, other])
    assert units_set_aside(files) == []
    assert len(list(read_failures(files))) == 2


def test_what_the_store_failed_comes_back_by_itself(files: StoreFiles) -> None:
    """Catches a disk that was full for a minute, whose units stay out until a person finds out."""
    set_aside(files, failure())
    of_store, unreadable = "relabel/distilled/g00000-e00000", "relabel/distilled/g00001-e00000"
    set_aside(files, Failure(of_store, "StoreError", "no space left", "Traceback ...", "here"))
    files.create(layout.aside(unreadable), b"")
    assert retry_after_store_errors(files) == [of_store, unreadable]
    assert units_set_aside(files) == [UNIT]
    assert retry_after_store_errors(files) == []


def test_a_long_traceback_keeps_its_beginning_and_its_end(files: StoreFiles) -> None:
    """Catches a record that is too large to be read again, and one that loses the line that says it all."""
    text = "first" + "\0" * 10**7 + "last"
    record_failure(files, failure(message=text))
    (record,) = read_failures(files)
    assert len(record.message) < 200_000
    assert record.message.startswith("first")
    assert record.message.endswith("last")


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"\xff\xfe", b"[" * 10**5])
def test_a_damaged_record_is_named(files: StoreFiles, text: bytes) -> None:
    """Catches a traceback of ours in place of the file's name."""
    files.create(layout.failure(UNIT, 1), text)
    with pytest.raises(StoreError, match=r"/i00000-c00000-1\.json is damaged"):
        list(read_failures(files))
