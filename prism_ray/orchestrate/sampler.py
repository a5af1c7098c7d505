"""Peak memory of a local run: the driver, its Ray and its actors together."""

import threading
from collections.abc import Iterable
from typing import Self

import psutil

_INTERVAL_S = 1.0


class MemorySampler:
    """Samples the memory of this process and all its descendants, once a second. Used as a context.

    Counted are the pages that each process has for itself, and once the most pages that one of them shares.
    The kernel knows these sums; the exact share of each page (PSS) it would have to find page by page, which
    took 7 % of a core for two actors of 1 GB.
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
            self.peak_bytes = max(self.peak_bytes, _size([me, *me.children(recursive=True)]))
            if self._stop.wait(_INTERVAL_S):
                return


def _size(processes: Iterable[psutil.Process]) -> int:
    own, shared = 0, 0
    for process in processes:
        try:
            memory = process.memory_info()
        except psutil.Error:  # it has ended meanwhile
            continue
        with_others = int(getattr(memory, "shared", 0))  # 0: a system that does not tell
        own += int(memory.rss) - with_others
        shared = max(shared, with_others)
    return own + shared
