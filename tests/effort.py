"""How much work a piece of code does, as a number that a busy machine does not change."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

TELL_IMPORTS = {"PYTHONPROFILEIMPORTTIME": "1"}  # environment of a command that tells what it imports


def imports_told(errors: str) -> set[str]:
    """Return the modules that a command with TELL_IMPORTS imported, from what it wrote to stderr."""
    names = {line.rpartition("|")[2].strip() for line in errors.splitlines() if "|" in line}
    assert "prism_ray.cli" in names, errors
    return names


class Calls:
    """Number of calls of functions, in Python or C, and of steps of generators."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        self.number += event in ("call", "c_call")


@contextmanager
def counted_calls() -> Iterator[Calls]:
    """Count the calls that this thread makes inside of it."""
    calls, before = Calls(), sys.getprofile()
    sys.setprofile(calls)
    try:
        yield calls
    finally:
        sys.setprofile(before)
