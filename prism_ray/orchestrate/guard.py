"""The watch over a local Ray: if it dies, the command reports it and ends.

When its GCS or raylet is killed (by hand, or for memory), Ray's own code ends the driver: with code 1,
seconds to a minute later, without a message, and processes are left behind.
"""

import os
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

_EVERY_S = 0.2
_VITAL = ("gcs_server", "raylet")


@contextmanager
def guarded_local_ray(folder: str) -> Iterator[None]:
    """Watch the vital processes of the Ray that this process has started; if one dies, end everything.

    `folder` has Ray's sockets and logs; the folder around it is then deleted.
    """
    vital = {name: process for process in psutil.Process().children() if (name := process.name()) in _VITAL}
    over = threading.Event()
    watch = threading.Thread(target=_watch, args=(vital, over, folder), name="ray-guard", daemon=True)
    watch.start()
    try:
        yield
    finally:
        over.set()
        watch.join()


def _watch(vital: dict[str, psutil.Process], over: threading.Event, folder: str) -> None:
    while not over.wait(_EVERY_S):
        for name, process in vital.items():
            with suppress(psutil.NoSuchProcess):
                if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    continue
            _end(name, process.pid, folder)


def _end(name: str, pid: int, folder: str) -> None:
    """End this process and all that it has started, because Ray does not answer any more."""
    message = f"error: Ray's {name} (process {pid}) has ended, perhaps killed or out of memory; everything"
    print(f"{message} committed is kept. Run the same command again", file=sys.stderr, flush=True)
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            child.kill()
    shutil.rmtree(os.path.dirname(folder), ignore_errors=True)
    os._exit(1)
