"""JSON records: what is too large, too deep, of another type or no number is refused in plain words."""

import time
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from pydantic import ConfigDict

from prism_ray.errors import NewerStoreError, StoreError
from prism_ray.store import StoreFiles
from prism_ray.store.records import FINITE, Count, Figures, decode_record, read_record, record_of
from tests.effort import counted_calls


@dataclass(frozen=True)
class Inner:
    __pydantic_config__: ClassVar[ConfigDict] = FINITE

    name: str
    size: Count = 0


@dataclass(frozen=True)
class Outer:
    __pydantic_config__: ClassVar[ConfigDict] = FINITE

    parts: tuple[Inner, ...]
    figures: Figures
    seconds: float
    format: int = 1


GOOD = b'{"parts": [{"name": "a", "size": 5}], "figures": {"x": [1, {"y": null}]}, "seconds": 1, "more": 2}'


def test_a_record_comes_out_as_its_type() -> None:
    """Catches lists where tuples are meant, and keys of a later version that end the reading."""
    assert decode_record(Outer, GOOD, "x.json") == Outer((Inner("a", 5),), {"x": [1, {"y": None}]}, 1.0)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (GOOD.replace(b'"a"', b"5"), "parts.0.name: must be text"),
        (GOOD.replace(b'"size": 5', b'"size": -1'), "parts.0.size: must be 0 or more"),
        (
            GOOD.replace(b'"size": 5', b'"size": 99999999999999999999'),
            "parts.0.size: must be less than 92233",
        ),
        (GOOD.replace(b'"size": 5', b'"size": "5"'), "parts.0.size: must be a whole number"),
        (GOOD.replace(b"null", b"NaN"), "figures: nan is not a number in JSON"),
        (GOOD.replace(b"null", b"1e999"), "figures: inf is not a number in JSON"),
        (GOOD.replace(b"null", b"[" * 1000), "recursion limit exceeded"),
        (GOOD.replace(b"null", b"9" * 5000), "number out of range"),
        (GOOD.replace(b'"seconds": 1', b'"seconds": Infinity'), "seconds: must be a finite number"),
        (GOOD.replace(b'"seconds": 1', b'"no": 1'), "seconds: is missing"),
        (GOOD.replace(b'"a"', b'"\\ud800"'), "it is not JSON: "),
        (b"[]", "it must be a mapping of keys to values"),
        (b"", "it is not JSON: "),
        (b"\xff", "it is not JSON: "),
        (bytes(100), "it is not JSON: "),
    ],
)
def test_what_is_wrong_first_is_said(data: bytes, problem: str) -> None:
    """Catches RecursionError, TypeError far away from the file, and a page of complaints."""
    with pytest.raises(ValueError, match=problem) as caught:
        decode_record(Outer, data, "x.json")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("filling", [b"[[],[],", b"x", b" "])
def test_ten_megabytes_are_not_parsed(files: StoreFiles, filling: bytes) -> None:
    """Catches a store from elsewhere that fills the memory with one small file."""
    files.create("record.json", GOOD[:-1] + b"," + filling * (10 * 2**20 // len(filling)))
    started = time.process_time()
    with pytest.raises(StoreError, match=r"/record\.json is damaged: it has more than 4,194,304 bytes, the"):
        read_record(files, "record.json", Outer)
    assert time.process_time() - started < 2.0


def test_plain_data_are_held_against_a_type_too() -> None:
    """Catches figures of a commit that are text where a table needs a number."""
    assert record_of(Inner, {"name": "a"}) == Inner("a", 0)
    for values in ({"name": None}, {"name": "a", "size": [1]}, {}):
        with pytest.raises(ValueError, match=r"^(name|size): "):
            record_of(Inner, values)


def test_a_record_that_is_read_a_million_times_is_read_quickly() -> None:
    """Catches a type that is analysed again for every record."""
    decode_record(Outer, GOOD, "x.json")
    with counted_calls() as calls:
        decode_record(Outer, GOOD, "x.json")
    assert calls.number < 100


def test_the_types_are_told_apart() -> None:
    """Catches records of one type being read as the first one's."""
    values: dict[str, Any] = {"name": "a", "size": 1}
    assert isinstance(record_of(Inner, values), Inner)
    with pytest.raises(ValueError, match="parts: is missing"):
        record_of(Outer, {"figures": {}})


@pytest.mark.parametrize("more", [b"", b', "seconds": "of another meaning"'])
def test_a_newer_format_is_refused_by_name(more: bytes) -> None:
    """Catches a record of a later version taken for a damaged one, and its unit done again."""
    data = GOOD[:-1] + b', "format": 2' + more + b"}"
    with pytest.raises(NewerStoreError, match=r"^x\.json has format 2, .* format 1 and older; upgrade"):
        decode_record(Outer, data, "x.json")
    assert decode_record(Outer, GOOD[:-1] + b', "format": 1}', "x.json").seconds == 1.0
