"""Signals: what is asked meanwhile is answered afterwards, once, in the way it was to be answered."""

import os
import signal
from collections.abc import Iterator

import pytest

from prism_ray.signals import exit_code, interrupts_held_back, renew_handlers, signals_interrupt

ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def answers() -> Iterator[list[object]]:
    """Those that were there before: they must be there again."""
    before = [signal.getsignal(number) for number in ALL]
    yield before
    assert [signal.getsignal(number) for number in ALL] == before


@signals_interrupt()
def work(number: int, done: list[str]) -> None:
    """Work that is asked to end, twice, while it does what must not be cut short."""
    with interrupts_held_back():
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
        done.append("to its end")
    done.append("more, after the signal")


@signals_interrupt()
def wind_up(done: list[str]) -> None:
    """Work that is asked to end, and again while it winds up."""
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except KeyboardInterrupt:
        with interrupts_held_back():
            os.kill(os.getpid(), signal.SIGTERM)
        done.append("wound up")


@pytest.mark.parametrize("number", ALL)
def test_what_must_not_be_cut_short_runs_to_its_end_and_the_signal_counts_after_it(number: int) -> None:
    """Catches Ray's shutdown cut in half, after which a process ends with code 1 though all is said."""
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        work(number, done)
    assert done == ["to its end"]


def test_a_second_sigterm_does_not_cut_the_winding_up_short() -> None:
    done: list[str] = []
    wind_up(done)
    assert done == ["wound up"]


def test_a_closed_terminal_is_told_apart() -> None:
    """Catches exit code 130 for SIGHUP, and a SIGTERM after it that cuts the winding up short."""
    with pytest.raises(KeyboardInterrupt), signals_interrupt() as came:
        os.kill(os.getpid(), signal.SIGHUP)
    assert exit_code(came) == 129
    assert exit_code([]) == exit_code([signal.SIGTERM]) == 130


def test_an_ignored_signal_stays_ignored() -> None:
    """Catches a run under nohup that ends with its terminal."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_interrupt():
            renew_handlers()
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
