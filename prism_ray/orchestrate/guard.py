"""A local Ray that is gone: the command says so and ends, before Ray ends it without a word.

When its GCS or its raylet is killed (by hand, or for memory), Ray's own code ends the driver: with code 1,
seconds to a minute later, nothing said and processes left behind.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

_EVERY_S = 0.2
_VITAL = ("gcs_server", "raylet")


@contextmanager
def guarded_local_ray() -> Iterator[None]:
    """Watch over the processes of the Ray that this process has started; without one of them, end it all."""
    vital = {name: process for process in psutil.Process().children() if (name := process.name()) in _VITAL}
    over = threading.Event()
    watch = threading.Thread(target=_watch, args=(vital, over), name="ray-guard", daemon=True)
    watch.start()
    try:
        yield
    finally:
        over.set()
        watch.join()


def _watch(vital: dict[str, psutil.Process], over: threading.Event) -> None:
    while not over.wait(_EVERY_S):
        for name, process in vital.items():
            if not _is_alive(process):
                _end(name, process.pid)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _end(name: str, pid: int) -> None:
    """End this process and all that it has started: nothing of Ray's answers any more."""
    print(
        f"error: Ray's {name} (process {pid}) has ended, killed perhaps or out of memory; everything "
        "committed is kept. Run the same command again",
        file=sys.stderr,
        flush=True,
    )
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            child.kill()
    os._exit(1)
