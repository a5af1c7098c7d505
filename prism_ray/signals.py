"""Handlers of the signals that end a command in order, as Ctrl-C does.

SIGTERM comes before a cluster kills a process, SIGHUP when a terminal or an SSH session is closed.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130  # exit code after Ctrl-C or SIGTERM
HUNG_UP = 128 + signal.SIGHUP  # 129

_ENDING = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def signals_interrupt() -> Iterator[list[int]]:
    """Raise KeyboardInterrupt at the first SIGTERM or SIGHUP; yield a list that then has its number.

    Later ones come while the work ends, and are ignored. A signal that is ignored already stays so: nohup
    does that with SIGHUP.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        came.append(number)  # Ray's code raises a KeyboardInterrupt of its own in place of this one
        raise KeyboardInterrupt

    came: list[int] = []
    before = {each: handler for each in _ENDING if (handler := signal.getsignal(each)) != signal.SIG_IGN}
    for each in before:
        signal.signal(each, interrupt)
    try:
        yield came
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def renew_handlers() -> None:
    """Install the present handlers once more: Ray's C++ code replaces some without Python's knowledge."""
    for each in _ENDING:
        signal.signal(each, signal.getsignal(each))


def exit_code(came: list[int]) -> int:
    """Return the exit code of a command that was interrupted by the signals of `signals_interrupt`."""
    return HUNG_UP if signal.SIGHUP in came else INTERRUPTED


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """Delay SIGINT, SIGTERM and SIGHUP, unless ignored, until code that must not be interrupted has ended."""
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *_ENDING)}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])
