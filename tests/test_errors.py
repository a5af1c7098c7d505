"""The exception tree: complete in its drawing, in its exit codes and in its names for the wire."""

import inspect

import pytest

from prism_ray import errors
from prism_ray.errors import BY_NAME, PrismRayError, UsageError

ALL = {
    name: value
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, PrismRayError)
}


def test_every_error_travels_by_its_name() -> None:
    """An error missing from the table comes back from an actor as something else."""
    assert BY_NAME == ALL


def test_the_drawing_names_every_error_once() -> None:
    """A tree in the docstring that has fallen behind the classes."""
    lines = (errors.__doc__ or "").split("\n\n")[1].splitlines()
    drawn = [line.lstrip(" │├└─").split()[0] for line in lines]
    assert sorted(drawn) == sorted(ALL)


@pytest.mark.parametrize("error", ALL.values(), ids=ALL.keys())
def test_usage_errors_exit_2_and_the_others_1(error: type[PrismRayError]) -> None:
    """A script that cannot tell its own mistake from a failed run; or a failure that exits 0."""
    assert error.exit_code == (2 if issubclass(error, UsageError) else 1)


@pytest.mark.parametrize("name", ["ConfigError", "DataError", "FingerprintError"])
def test_what_cannot_succeed_the_second_time_is_a_usage_error(name: str) -> None:
    """A wrong input that is retried on every actor until the error budget is spent."""
    assert issubclass(BY_NAME[name], UsageError)


@pytest.mark.parametrize("name", ["StoreError", "EngineError", "OrchestrateError", "IncompleteError"])
def test_what_may_succeed_the_second_time_is_no_usage_error(name: str) -> None:
    """A full disk or a lost node that ends the run without a second attempt."""
    assert not issubclass(BY_NAME[name], UsageError)


@pytest.mark.parametrize("error", ALL.values(), ids=ALL.keys())
def test_every_error_says_when_it_is_raised_and_keeps_its_message(error: type[PrismRayError]) -> None:
    """An exception without a word of explanation, or whose constructor loses the sentence."""
    assert error.__doc__
    assert str(error("what, where and what to do")) == "what, where and what to do"
