"""Words of messages: the sentences for the errors that pydantic finds, and lists that are cut. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

_NO_PATTERNS: Mapping[str, str] = {}


def first_of(names: Sequence[str], limit: int) -> str:
    """Return the first names as a list; three dots stand for the others.

    >>> first_of(["a", "b", "c"], 2)
    'a, b, ...'
    """
    return ", ".join(names[:limit]) + ", ..." * (len(names) > limit)


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
