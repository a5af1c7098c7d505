"""A session with Ray in a thread of its own: no wait for Ray is without a limit, and signals are answered.

Ray's own code waits for minutes, or for ever, where Python sees no signal. So the main thread only waits for
the thread that calls Ray. The thread lives as long as the session: Linux ends Ray's processes with the thread
that started them.
"""

import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, Generic, TypeVar

import psutil
import ray

from prism_ray.errors import OrchestrateError
from prism_ray.orchestrate.environment import THREAD_NAME
from prism_ray.signals import interrupts_held_back, renew_handlers

_LEAVE_TIMEOUT_S = 30.0  # for Ray's shutdown
_GIVE_UP_TIMEOUT_S = 1.0  # for a thread whose processes were killed
_TICK_S = 0.1
_MAX_SAID_BYTES = 2**16

Result = TypeVar("Result")


class RayStartError(Exception):
    """Ray could not be entered; the cause is in one line."""

    def __init__(self, cause: str, said: str) -> None:
        """`said` is the output of Ray's code until then."""
        super().__init__(cause)
        self.said = said


@contextmanager
def ray_session(enter: Callable[[], Result], limit_s: float) -> Iterator[Result]:
    """Call `enter`, which calls ray.init, and yield its result; at the end shut Ray down.

    Raises RayStartError if `enter` raises anything, and OrchestrateError if it does not return within
    `limit_s`. In each case the processes that it has started are gone afterwards.
    """
    before = set(psutil.Process().children())
    thread = _RayThread(enter)
    try:
        with _output_of_ray() as said:
            thread.start()
            ends = time.monotonic() + limit_s
            while not thread.entered.wait(_TICK_S) and time.monotonic() < ends:
                renew_handlers()
            renew_handlers()
            if not thread.entered.is_set():
                raise OrchestrateError(
                    f"Ray gave no answer for {limit_s:.0f} s (orchestrate.ray_start_timeout_s); look for a "
                    "firewall, a proxy or a full disk, or raise the setting on a machine that is slow"
                )
            if thread.error is not None:
                raise RayStartError(_in_one_line(thread.error), _text_of(said)) from thread.error
        yield thread.result
    finally:
        with interrupts_held_back():  # an interrupted shutdown would let the process end with code 1
            thread.over.set()
            if thread.entered.is_set():
                thread.join(_LEAVE_TIMEOUT_S)
            _kill(set(psutil.Process().children()) - before)
            if thread.is_alive():
                thread.join(_GIVE_UP_TIMEOUT_S)


class _RayThread(threading.Thread, Generic[Result]):
    """Enters Ray, waits until the session is over, and leaves it."""

    result: Result

    def __init__(self, enter: Callable[[], Result]) -> None:
        super().__init__(name=THREAD_NAME, daemon=True)
        self._enter = enter
        self.error: BaseException | None = None
        self.entered = threading.Event()  # or failed
        self.over = threading.Event()

    def run(self) -> None:
        # Ray's processes inherit this. A closed terminal ends the driver alone: actors must save checkpoints.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        try:
            self.result = self._enter()
        except BaseException as error:  # Ray raises bare Exceptions, and SystemExit too
            self.error = error
        self.entered.set()
        self.over.wait()
        with suppress(Exception):  # a cluster that has gone
            ray.shutdown()


@contextmanager
def _output_of_ray() -> Iterator[BinaryIO]:
    """Take what is written to standard error meanwhile: Ray's C++ code writes dozens of lines there."""
    with tempfile.TemporaryFile() as said:
        if sys.stderr is not None:
            sys.stderr.flush()
        kept = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            yield said
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _text_of(said: BinaryIO) -> str:
    said.seek(0)
    return said.read(_MAX_SAID_BYTES).decode(errors="replace")


def _in_one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if not isinstance(error, OSError | RuntimeError | ValueError | ray.exceptions.RayError) or not text:
        text = f"{type(error).__name__}: {text}".rstrip(": ")
    return text if len(text) <= 500 else f"{text[:500]} ..."


def _kill(processes: set[psutil.Process]) -> None:
    """Kill processes that Ray has left behind, with all that they have started."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            for each in (*process.children(recursive=True), process):
                with suppress(psutil.NoSuchProcess):
                    each.kill()
    psutil.wait_procs(processes, timeout=_GIVE_UP_TIMEOUT_S)
