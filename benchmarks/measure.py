"""Measuring two ways to do the same: in turn in one process, and the memory of each in a process of its own.

A machine's speed drifts, and on a shared one it drifts a lot. So the two ways are measured in pairs, and what
is reported is the median of the pairs' ratios, with the smallest and the largest.
"""

import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from time import perf_counter, process_time
from typing import NamedTuple

import torch

from prism_ray.device import peak_bytes, reset_peak, used_bytes
from prism_ray.machine import num_cores, this_machine


class NotHere(Exception):
    """What is asked for does not exist in this version or on this machine, so it cannot be measured."""


class Took(NamedTuple):
    """Seconds of a piece of work. Those of the processor hardly depend on what else runs on the machine."""

    wall: float
    cpu: float  # of all threads of this process; on a GPU they say nothing

    def per(self, count: float) -> "Took":
        return Took(self.wall / count, self.cpu / count)


Way = Callable[[], Took]  # does the work once


class Watch:
    """A stopwatch for work on a device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._started = self._now()

    def stop(self) -> Took:
        """Return the time since the start."""
        wall, cpu = self._now()
        return Took(wall - self._started[0], cpu - self._started[1])

    def _now(self) -> tuple[float, float]:
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return perf_counter(), process_time()


@dataclass(frozen=True)
class Pairs:
    """What two ways took in each round."""

    ours: tuple[Took, ...]
    theirs: tuple[Took, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """Theirs over ours, by round: how many times faster ours is."""
        return tuple(b.wall / a.wall for a, b in zip(self.ours, self.theirs, strict=True))

    @property
    def cpu_ratios(self) -> tuple[float, ...]:
        """The same of the processor's seconds."""
        return tuple(b.cpu / a.cpu for a, b in zip(self.ours, self.theirs, strict=True))

    @property
    def seconds(self) -> tuple[float, float]:
        """Median of the seconds of ours and of theirs."""
        return median(took.wall for took in self.ours), median(took.wall for took in self.theirs)

    def to_dict(self) -> dict[str, object]:
        """Return what goes into a JSON file."""
        ours, theirs = self.seconds
        return {
            "ratio": median(self.ratios),
            "lowest": min(self.ratios),
            "highest": max(self.ratios),
            "rounds": len(self.ratios),
            "ours_s": ours,
            "theirs_s": theirs,
        }

    def __str__(self) -> str:
        text = f"ratio {_spread(self.ratios)}, {len(self.ratios)} rounds"
        return f"{text}; of the processor's seconds {_spread(self.cpu_ratios)}"


def _spread(values: tuple[float, ...]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def pair(ours: Way, theirs: Way, rounds: int, warmups: int = 1) -> Pairs:
    """Measure both ways `rounds` times in turn; who begins changes from round to round."""
    return Pairs(*in_turn((ours, theirs), rounds, warmups))


def in_turn(ways: Sequence[Way], rounds: int, warmups: int = 1) -> list[tuple[Took, ...]]:
    """Measure each way once in a round; return what each took. Every second round goes backwards."""
    found: list[list[Took]] = [[] for _ in ways]
    for number in range(warmups + rounds):
        for which in range(len(ways))[:: 1 if number % 2 else -1]:
            took = ways[which]()
            if number >= warmups:
                found[which].append(took)
    return [tuple(each) for each in found]


# glibc's malloc gives tensors back to the system at once if they never come from its heap. Else what a step
# needs at most cannot be seen from the resident memory.
NO_HEAP = {"MALLOC_MMAP_THRESHOLD_": "200000"}


def peak_growth(work: Callable[[], object], device: torch.device) -> int:
    """Return by how many bytes the memory in use grows at most while `work` runs.

    CUDA: the tensors on the device. CPU: the resident memory, which an allocator keeps once it has it. So
    this is right only for the first work of a process, and with NO_HEAP in its environment.
    """
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return int(torch.cuda.max_memory_allocated() - before)
    before = used_bytes(device)
    reset_peak(device)
    work()
    return max(0, peak_bytes(device) - before)


def in_process(arguments: list[str], **environment: str) -> str:
    """Run this script again with other arguments, in a process of its own; return what it prints."""
    done = subprocess.run(
        [sys.executable, sys.argv[0], *arguments],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout.strip()


@contextmanager
def deterministic(on: bool) -> Iterator[None]:
    """Run as an actor does (on), or as torch does if nobody says otherwise (off)."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.utils.deterministic.fill_uninitialized_memory = not on  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(on)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def machine(device: torch.device) -> dict[str, object]:
    """Return where and with what is measured."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else this_machine().processor,
        "cores": num_cores(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        **{name: _version(name) for name in ("torch", "torchvision", "timm")},
        "date": datetime.now(UTC).date().isoformat(),
    }


def describe(device: torch.device) -> str:
    """Return the same as a line for people."""
    return ", ".join(f"{name} {value}" for name, value in machine(device).items())


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"
