"""Small JSON records of a store, read without trusting them: bounded, and held against their type.

A record is a frozen dataclass. Numbers are finite and nesting is bounded. Its key `format` is the version of
what its keys mean: a record of a newer format is refused by name, keys that this version does not know are
passed over.
"""

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import from_json

from prism_ray.errors import NewerStoreError
from prism_ray.store.files import StoreFiles

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
            raise ValueError(f"{value} is no number that JSON has")
    return values


# Figures of any shape, as every reader of JSON understands them.
FIGURES = AfterValidator(_check_plain)
Figures = Annotated[dict[str, Any], FIGURES]

FORMAT = 1  # newest that this version reads of a commit, a card, a lease, the record of a failure

FINITE = ConfigDict(allow_inf_nan=False)  # for a record's `__pydantic_config__`

Record = TypeVar("Record")

_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {}  # made once: that takes longer than to read a record


def record_bytes(files: StoreFiles, name: str, max_bytes: int = MAX_RECORD_BYTES) -> bytes:
    """Return what `decode_record` takes: a record, or the beginning of what is too large for one."""
    return files.read_up_to(name, max_bytes + 1)


def decode_record(
    kind: type[Record], data: bytes, where: str, max_bytes: int = MAX_RECORD_BYTES, newest: int = FORMAT
) -> Record:
    """Return the record that JSON holds.

    Raises ValueError that says what is wrong with it first, and NewerStoreError that names the record by
    `where` if its format is newer than `newest`.
    """
    if len(data) > max_bytes:
        raise ValueError(f"it has more than the {max_bytes:,} bytes that it can have")
    try:
        record = _checked(lambda adapter: adapter.validate_json(data, strict=True), kind)
    except ValueError:
        _check_format(_format_of(data), where, newest)
        raise
    _check_format(getattr(record, "format", FORMAT), where, newest)
    return record


def _format_of(data: bytes) -> int:
    """Return the format that a record says it has, though the rest of it may make no sense."""
    try:
        found = from_json(data)
    except ValueError:
        return FORMAT
    held = found.get("format") if isinstance(found, dict) else None
    return held if isinstance(held, int) else FORMAT


def _check_format(found: int, where: str, newest: int) -> None:
    if found > newest:
        raise NewerStoreError(
            f"{where} has format {found}, and this version of prism-ray reads format {newest} and older: "
            "a newer version made it; upgrade prism-ray"
        )


def record_of(kind: type[Record], values: Mapping[str, Any]) -> Record:
    """Return the record that plain data are; raises ValueError that says what is wrong with them first."""
    return _checked(lambda adapter: adapter.validate_python(dict(values)), kind)


def _checked(validate: Callable[[TypeAdapter[Any]], Record], kind: type[Record]) -> Record:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    try:
        return validate(_ADAPTERS[kind])
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{where}: {first['msg']}" if where else first["msg"]) from None
