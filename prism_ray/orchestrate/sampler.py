"""Peak memory of a local run: the driver, its Ray and its actors together."""

import threading
from typing import Self

import psutil

_INTERVAL_S = 1.0


class MemorySampler:
    """Samples the proportional set size of this process and all its descendants, once a second.

    Proportional means that a page shared by n processes counts 1/n in each, so the sum is the memory that the
    machine really uses. Used as a context.
    """

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        me = psutil.Process()
        while True:
            self.peak_bytes = max(self.peak_bytes, sum(map(_size, [me, *me.children(recursive=True)])))
            if self._stop.wait(_INTERVAL_S):
                return


def _size(process: psutil.Process) -> int:
    try:
        full = process.memory_full_info()
    except psutil.Error:  # it has ended meanwhile
        return 0
    return int(getattr(full, "pss", full.uss))
