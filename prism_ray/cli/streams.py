"""Standard output and error, which may be closed, full, or unable to show a character.

What cannot be written is dropped, and one line on standard error says so. The work goes on: a run of hours
does not end because nobody reads its log any more.
"""

import errno
import io
import os
import select
import sys
from collections.abc import Callable
from typing import TextIO

_STANDARD = (0, 1, 2)
_NO_READER = (errno.EPIPE, errno.EBADF, errno.EIO)  # by the user's choice: `| head`, `>&-`, a closed terminal


class _Descriptor(io.FileIO):
    """A descriptor whose write never fails. `lost` gets the first error; then nothing is written."""

    def __init__(self, number: int, lost: Callable[[OSError, bytes], None]) -> None:
        super().__init__(number, "w", closefd=False)
        self._lost = lost

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        view = memoryview(data).cast("B")
        try:
            while (written := super().write(view)) is None:  # it does not block, and is full
                select.select((), (self,), ())
            return written
        except OSError as error:
            _to_nowhere(self.fileno())
            self._lost(error, bytes(view))
            return len(view)


class StandardStreams:
    """Standard output and error of this process, made safe; at the end it tells what was lost."""

    def __init__(self) -> None:
        self._output_error: OSError | None = None
        for number in _STANDARD:  # else the next file that is opened would take the number
            try:
                os.fstat(number)
            except OSError:
                _to_nowhere(number)
        is_closed = sys.stdout is None
        sys.stderr = _safe(2, sys.stderr, self._drop_message)
        sys.stdout = _safe(1, sys.stdout, self._drop_output)
        if is_closed:
            self._drop_output(OSError(errno.EBADF, os.strerror(errno.EBADF)), b"")

    def end(self) -> bool:
        """Write out what is in memory; return False if output was lost, and not by the user's choice."""
        sys.stdout.flush()
        sys.stderr.flush()
        return self._output_error is None or self._output_error.errno in _NO_READER

    def _drop_output(self, error: OSError, data: bytes) -> None:
        self._output_error = error
        reason = "it is closed" if error.errno == errno.EBADF else error.strerror
        sys.stderr.write(f"note: standard output is lost ({reason}); the command goes on without it\n")

    def _drop_message(self, error: OSError, data: bytes) -> None:
        """Write an error message to standard output instead: one of the two may be a log."""
        sys.stdout.flush()
        if self._output_error is None:
            sys.stdout.write(data.decode(errors="replace"))


def is_standard() -> bool:
    """Return whether standard output is the process's own, or closed; tests and notebooks replace it."""
    if sys.stdout is None:
        return True
    try:
        return sys.stdout.fileno() == 1
    except (OSError, ValueError):
        return False


def _safe(number: int, stream: TextIO | None, lost: Callable[[OSError, bytes], None]) -> TextIO:
    """Return a stream for a descriptor; it writes what its encoding lacks as an escape, such as \\xe9."""
    raw = _Descriptor(number, lost)
    encoding = getattr(stream, "encoding", None) or "utf-8"
    errors = getattr(stream, "errors", None) or "strict"
    if errors == "strict" or (errors == "surrogateescape" and not encoding.lower().startswith("utf")):
        errors = "backslashreplace"
    return io.TextIOWrapper(
        io.BufferedWriter(raw),  # type: ignore[type-var]  # for mypy only a RawIOBase takes any buffer
        encoding=encoding,
        errors=errors,
        line_buffering=number == 2 or raw.isatty(),
    )


def _to_nowhere(number: int) -> None:
    """Let a descriptor lead to /dev/null."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != number:
        os.dup2(nowhere, number)
        os.close(nowhere)
