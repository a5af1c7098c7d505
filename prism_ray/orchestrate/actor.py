"""The Ray actor: a worker in a process of its own, with a device and a fixed number of threads."""

import os
import resource
import socket
import traceback
from collections.abc import Set
from dataclasses import dataclass

import ray

from prism_ray.config import Config
from prism_ray.errors import BY_NAME, UsageError
from prism_ray.store import Commit, Run, StoreFiles
from prism_ray.units import Unit


@dataclass(frozen=True)
class UnitFailure:
    """An attempt that ended with an error, in a form that always travels."""

    unit_id: str
    error: str  # class name
    message: str
    traceback: str
    host: str

    @property
    def is_usage_error(self) -> bool:
        kind = BY_NAME.get(self.error)
        return kind is not None and issubclass(kind, UsageError)


@dataclass(frozen=True)
class ActorInfo:
    """Where an actor runs."""

    host: str
    pid: int
    device: str


@ray.remote(max_restarts=0, max_task_retries=0)
class WorkerActor:
    """Does units for the pool; stays alive when one fails."""

    def __init__(self, files: StoreFiles, num_threads: int, use_gpu: bool) -> None:
        # cuBLAS reads this when it starts; without it, matrix products on CUDA are not reproducible.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        import torch  # here, so that the driver never loads it

        torch.set_num_threads(num_threads)
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
        self._device = torch.device("cuda" if use_gpu and torch.cuda.is_available() else "cpu")
        self._files = files
        self._run: Run | None = None

    def start(self) -> ActorInfo:
        """Answer as soon as the actor lives."""
        return ActorInfo(socket.gethostname(), os.getpid(), str(self._device))

    def check(self, config: Config, num_classes: int, in_store: Set[str]) -> UnitFailure | None:
        """Build the config's networks without memory; return what is wrong with them, if anything."""
        from prism_ray.teachers.build import check_networks

        try:
            check_networks(config, num_classes, in_store)
        except Exception as error:
            return _describe("check", error)
        return None

    def do(self, run: Run, unit: Unit) -> Commit | UnitFailure:
        """Do a unit; return its commit, or how it failed."""
        from prism_ray.work.worker import Worker

        try:
            if self._run != run:
                self._run, self._worker = run, Worker(run, self._files, self._device)
            return self._worker.do(unit)
        except Exception as error:
            if "CUDA error" in str(error):
                os._exit(1)  # the context is broken; a new process must take over
            return _describe(unit.id, error)

    def peak_bytes(self) -> int:
        """Return the largest resident size that this process has had."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _describe(unit_id: str, error: Exception) -> UnitFailure:
    return UnitFailure(
        unit_id=unit_id,
        error=type(error).__name__,
        message=str(error),
        traceback=traceback.format_exc(),
        host=socket.gethostname(),
    )
