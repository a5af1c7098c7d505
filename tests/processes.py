"""Processes of a running command, found by name, for tests that kill one of them."""

from contextlib import suppress

import psutil


def descendants(pid: int, name: str) -> list[psutil.Process]:
    """Returns the processes below `pid` whose name begins with `name`; others may end meanwhile."""
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if process.name().startswith(name):
                found.append(process)
    return found
