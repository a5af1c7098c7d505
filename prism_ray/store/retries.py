"""Retries for storage behind a network: an operation that fails for a temporary reason is repeated."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

_ATTEMPTS = 6
_FIRST_WAIT_S = 0.2  # doubled each time, about 6 s in all

# These errors are about the file itself: another attempt would fail in the same way.
_FINAL = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)

Result = TypeVar("Result")


def with_retries(operation: Callable[[], Result]) -> Result:
    """Return what `operation` returns; raises OSError if it fails too often or permanently."""
    for attempt in range(_ATTEMPTS):
        try:
            return operation()
        except _FINAL:
            raise
        except Exception as error:  # the file systems' own errors are not all OSErrors
            if attempt == _ATTEMPTS - 1:
                raise OSError(f"{type(error).__name__}: {error} (after {_ATTEMPTS} attempts)") from error
        time.sleep(_FIRST_WAIT_S * 2**attempt * random.uniform(0.5, 1.0))
    raise AssertionError("unreachable")
