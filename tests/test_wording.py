"""Sentences for what pydantic finds."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from prism_ray.wording import problem_of


@pytest.mark.parametrize(
    ("kind", "value", "problem"),
    [
        (int, "x", "must be a whole number"),
        (int, 1.5, "must be a whole number"),
        (float, "x", "must be a number"),
        (bool, 2, "must be true or false"),
        (str, 5, "must be text"),
        (None, 5, "must be null"),
        (Literal["a", "b"], "c", "must be 'a' or 'b'"),
        (Annotated[float, Field(gt=0.0)], 0.0, "must be more than 0"),
        (Annotated[float, Field(le=0.5)], 0.75, "must be 0.5 or less"),
        (Annotated[int, Field(ge=3)], 2, "must be 3 or more"),
        (Annotated[int, Field(lt=2**63)], 2**63, "must be less than 9223372036854775808"),
        (Annotated[float, Field(allow_inf_nan=False)], float("nan"), "must be a finite number"),
        (Annotated[int, Field(multiple_of=8)], 9, "must be a multiple of 8"),
        (Annotated[str, Field(max_length=2)], "abc", "must be at most 2 characters long"),
        (Annotated[str, Field(min_length=2)], "a", "must be at least 2 characters long"),
        (Annotated[list[int], Field(min_length=1)], [], "must be a list with at least 1 value"),
        (Annotated[list[int], Field(max_length=1)], [1, 2], "must be a list with at most 1 values"),
        (list[int], 5, "must be a list"),
        (dict[str, int], 5, "must be a mapping of names to values"),
        (Annotated[str, Field(pattern="^a$")], "b", "must be text of the form that is described for the key"),
        (bytes, 5, "must be another value: it fails the check bytes type"),
    ],
)
def test_each_constraint_has_a_sentence(kind: Any, value: Any, problem: str) -> None:
    """Catches `Input should be a valid integer, unable to parse string` in front of a user."""
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(value, strict=kind is not int)
    assert problem_of(caught.value.errors()[0]) == problem
