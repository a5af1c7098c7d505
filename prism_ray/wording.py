"""Words of messages: sentences for the errors that pydantic finds, lists that are cut, times, sizes. Pure."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

_NO_PATTERNS: Mapping[str, str] = {}
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def first_of(names: Sequence[str], limit: int) -> str:
    """Return the first names as a list; three dots stand for the others.

    >>> first_of(["a", "b", "c"], 2)
    'a, b, ...'
    """
    return ", ".join(names[:limit]) + ", ..." * (len(names) > limit)


def duration(seconds: float) -> str:
    """Return a duration as people say it.

    >>> duration(42.4), duration(4000), duration(300000)
    ('42 s', '1 h 7 min', '3 d 11 h')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def size(num_bytes: float) -> str:
    """Return a number of bytes for people.

    >>> size(812), size(3_299_589), size(999_600)
    ('812 bytes', '3.3 MB', '1 MB')
    """
    value, unit = float(num_bytes), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.3g} {unit}" if value < 999.5 else f"{value:.0f} {unit}"


def printable(text: str) -> str:
    r"""Return a text that may come from a store, fit for a terminal.

    A control character becomes a `?`, and so does one that turns the direction of what follows.

    >>> printable("cat\u202egod\x1b[31m")
    'cat?god?[31m'
    """
    return _CONTROL.sub("?", text)


def problem_of(detail: Mapping[str, Any]) -> str:
    """Return what is wrong with a value, from a detail of `ValidationError.errors()`.

    >>> problem_of({"type": "greater_than_equal", "ctx": {"ge": 0}, "input": -1})
    'must be 0 or more'
    """
    match detail["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden" | "unexpected_keyword_argument":
            return "unknown key; remove it"
        case "value_error":
            return str(detail["ctx"]["error"])
        case "json_invalid":
            return f"is not JSON: {detail['ctx']['error']}"
        case _:
            return f"must be {what_it_must_be(detail)}"


def what_it_must_be(
    detail: Mapping[str, Any], patterns: Mapping[str, str] = _NO_PATTERNS, length: int | None = None
) -> str:
    """Return what a value must be, for example `a whole number`, from a detail of an error.

    `patterns` has a description of each pattern that text must match, `length` is that of a list.
    """
    limits = detail.get("ctx", {})
    match detail["type"]:
        case "int_type" | "int_from_float" | "int_parsing" | "int_parsing_size":
            return "a whole number"
        case "float_type" | "float_parsing":
            return "a number"
        case "finite_number":
            return "a finite number"
        case "bool_type" | "bool_parsing":
            return "true or false"
        case "string_type" | "string_unicode" | "string_sub_type":
            return "text"
        case "none_required":
            return "null"
        case "literal_error" | "enum":
            return str(limits["expected"])
        case "greater_than_equal":
            return f"{_number(limits['ge'])} or more"
        case "greater_than":
            return f"more than {_number(limits['gt'])}"
        case "less_than_equal":
            return f"{_number(limits['le'])} or less"
        case "less_than":
            return f"less than {_number(limits['lt'])}"
        case "multiple_of":
            return f"a multiple of {limits['multiple_of']}"
        case "string_pattern_mismatch":
            return patterns.get(limits["pattern"], "text of the form that is described for the key")
        case "string_too_long":
            return f"at most {limits['max_length']} characters long"
        case "string_too_short":
            return f"at least {limits['min_length']} characters long"
        case "too_short" if limits["field_type"] == "Dictionary":
            return f"a mapping with at least {limits['min_length']} name"
        case "too_long" if length is None:
            return f"a list with at most {limits['max_length']} values"
        case "too_short" if length is None:
            return f"a list with at least {limits['min_length']} value"
        case "too_short" | "too_long" | "tuple_type" | "list_type" | "missing":
            return "a list" if length is None else f"a list of {length} values"
        case "dict_type":
            return "a mapping of names to values"
        case "model_type" | "model_attributes_type" | "dataclass_type" | "dataclass_exact_type":
            return "a mapping of keys to values"
        case kind:  # a constraint that no model of prism-ray has
            return f"another value: it fails the check {kind.replace('_', ' ')}"


def _number(limit: float) -> str:
    return f"{limit:g}" if isinstance(limit, float) else str(limit)
