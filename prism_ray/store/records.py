"""Small JSON records of a store. Nothing in them is trusted: their size, nesting and types are checked.

A record is a frozen dataclass. Its numbers are finite. Its key `format` is the version of the meaning of its
keys: a newer format is refused with an error that says so, and unknown keys are ignored.
"""

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import from_json

from prism_ray.errors import NewerStoreError
from prism_ray.store.files import StoreFiles
from prism_ray.store.remedy import damaged
from prism_ray.wording import problem_of

# A commit of 10,000 files and 100 teachers has 2.2 MB; all other records are smaller.
MAX_RECORD_BYTES = 2**22

Count = Annotated[int, Field(ge=0, lt=2**63)]


def _check_plain(values: dict[str, Any]) -> dict[str, Any]:
    left: list[Any] = [values]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            left += value.values()
        elif isinstance(value, list):
            left += value
        elif isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{value} is not a number in JSON")
    return values


# Figures of any shape that every reader of JSON understands.
FIGURES = AfterValidator(_check_plain)
Figures = Annotated[dict[str, Any], FIGURES]

FORMAT = 1  # newest format of a commit, a card, a lease or a failure that this version reads

FINITE = ConfigDict(allow_inf_nan=False)  # for a record's `__pydantic_config__`

Record = TypeVar("Record")

_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {}  # made once: that takes longer than to read a record


def read_record(files: StoreFiles, name: str, kind: type[Record]) -> Record:
    """Read a record of a store.

    Raises StoreError if it is missing or damaged, and NewerStoreError if its format is newer.
    """
    data = files.read_up_to(name, MAX_RECORD_BYTES + 1)
    try:
        return decode_record(kind, data, f"{files.location}/{name}")
    except ValueError as error:
        raise damaged(files, name, error) from None


def decode_record(
    kind: type[Record], data: bytes, where: str, max_bytes: int = MAX_RECORD_BYTES, newest: int = FORMAT
) -> Record:
    """Decode a record from JSON.

    Raises ValueError with the first thing that is wrong with it. Raises NewerStoreError if its format is
    newer than `newest`; `where` names the record in that message.
    """
    if len(data) > max_bytes:
        raise ValueError(f"it has more than {max_bytes:,} bytes, the limit of such a file")
    problem = None
    try:
        record = _checked(kind, lambda adapter: adapter.validate_json(data, strict=True))
        found = getattr(record, "format", FORMAT)
    except ValueError as error:
        found, problem = _format_of(data), error
    if found > newest:
        raise NewerStoreError(
            f"{where} has format {found}, and this version of prism-ray reads format {newest} and older; "
            "upgrade prism-ray"
        )
    if problem is not None:
        raise problem
    return record


def _format_of(data: bytes) -> int:
    """Return the format that a record names, even if the rest of it cannot be decoded."""
    try:
        values = from_json(data)
    except ValueError:
        return FORMAT
    found = values.get("format") if isinstance(values, dict) else None
    return found if isinstance(found, int) else FORMAT


def record_of(kind: type[Record], values: Mapping[str, Any]) -> Record:
    """Return plain data as a record; raises ValueError with the first thing that is wrong with them."""
    return _checked(kind, lambda adapter: adapter.validate_python(dict(values)))


def _checked(kind: type[Record], validate: Callable[[TypeAdapter[Any]], Record]) -> Record:
    """Return what `validate` returns; raises ValueError of one line, with the first problem and its key."""
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    try:
        return validate(_ADAPTERS[kind])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        problem, where = problem_of(first), ".".join(map(str, first["loc"]))
        raise ValueError(f"{where}: {problem}" if where else f"it {problem}") from None
