"""This machine: its processor, its cores, its GPU. Pure: neither torch nor a driver's library is loaded."""

import os
import platform
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field


@dataclass(frozen=True)
class Machine:
    """A machine, as far as the speed of a run depends on it."""

    processor: str  # its model
    num_cores: Annotated[int, Field(ge=0, lt=2**63)]
    device: str  # "cpu", or the name of the GPU

    def describe(self) -> str:
        """Return it for people.

        >>> Machine("Some CPU", 2, "cpu").describe()
        'Some CPU, 2 cores'
        """
        text = f"{self.processor}, {self.num_cores} cores"
        return text if self.device == "cpu" else f"{self.device} ({text})"


def this_machine() -> Machine:
    """Return the machine of this process; a GPU is found without torch, from Linux's NVIDIA driver."""
    processor = platform.processor() or platform.machine()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        processor = models[0] if models else processor
    return Machine(processor, num_cores(), gpu_name() or "cpu")


def gpu_name() -> str | None:
    """Return the name of the first NVIDIA GPU, None if Linux knows none or CUDA_VISIBLE_DEVICES hides all."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1", "NoDevFiles"):
        return None
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        with suppress(OSError):
            for line in path.read_text().splitlines():
                if line.startswith("Model:"):
                    return line.partition(":")[2].strip()
    return None


def peak_resident_bytes() -> int | None:
    """Return the largest resident memory of this process; None on another system than Linux."""
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    return None


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
