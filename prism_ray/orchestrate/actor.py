"""The Ray actor: a worker in a process of its own, with a device and a fixed number of threads.

Units come two at a time: one has the device, the other writes its files and commits, or waits for the device.
"""

import os
import resource
import socket
import threading
import traceback
from collections.abc import Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import ray

from prism_ray.config import Config
from prism_ray.run import Run
from prism_ray.stages import Unit
from prism_ray.store import Commit, Failure, StoreFiles
from prism_ray.work.checkpoints import Control

if TYPE_CHECKING:
    from prism_ray.work.worker import Worker


@dataclass(frozen=True)
class UnitDone:
    """A committed unit, what its actor has loaded now, and how often units asked there since the last one."""

    commit: Commit
    teachers: tuple[str, ...]
    num_hits: int  # teachers that were loaded when a unit asked for them
    num_loads: int


@dataclass(frozen=True)
class ActorInfo:
    """Where an actor runs."""

    host: str
    pid: int
    node_id: str


@dataclass(frozen=True)
class ActorUsage:
    """What an actor has used so far."""

    peak_bytes: int  # largest resident size
    num_steps: int  # of the units here; grows while they get on


# Ray's types do not know the groups of calls that run beside each other.
@ray.remote(  # type: ignore[call-overload]
    max_restarts=0, max_task_retries=0, concurrency_groups={"units": 2, "control": 1}
)
class WorkerActor:
    """Does units for the dispatcher; stays alive when one fails."""

    def __init__(self, files: StoreFiles, num_threads: int, use_gpu: bool) -> None:
        # cuBLAS reads this when it starts; without it, matrix products on CUDA are not reproducible.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        import torch  # here, so that the driver never loads it

        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
        self._device = torch.device("cuda" if use_gpu and torch.cuda.is_available() else "cpu")
        self._files = files
        self._run: Run | None = None
        self._making_worker = threading.Lock()  # two units may come at once
        self._controls: dict[str, Control] = {}  # of the units here
        self._ends = False
        # One thread has the device: the number of threads is a thread's own, and so are its thread pools.
        self._on_device = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(num_threads,))

    @ray.method(concurrency_group="control")
    def start(self) -> ActorInfo:
        """Answer as soon as the actor lives."""
        node_id = ray.get_runtime_context().get_node_id()
        return ActorInfo(socket.gethostname(), os.getpid(), node_id)

    def check_networks(self, config: Config, num_classes: int, in_store: Set[str]) -> Failure | None:
        """Build the config's networks without memory; return what is wrong with them, if anything."""
        from prism_ray.teachers.build import check_networks

        try:
            check_networks(config, num_classes, in_store)
        except Exception as error:
            return _describe("check_networks", error)
        return None

    @ray.method(concurrency_group="units")
    def do(self, run: Run, unit: Unit) -> UnitDone | Failure:
        """Do a unit; return its commit, or how it failed."""
        control = self._controls[unit.id] = Control()
        try:
            if self._ends:
                control.stop.set()
            worker = self._worker_for(run)
            finish = self._on_device.submit(worker.begin, unit, control).result()
            return UnitDone(finish(), worker.teachers.names, control.num_hits, control.num_loads)
        except Exception as error:
            if "CUDA error" in str(error):
                os._exit(1)  # the context is broken; a new process must take over
            return _describe(unit.id, error)
        finally:
            del self._controls[unit.id]

    def _worker_for(self, run: Run) -> "Worker":
        """Return the worker of a run, which keeps its teachers from unit to unit."""
        from prism_ray.work.worker import Worker

        with self._making_worker:
            if self._run != run:
                self._run, self._worker = run, Worker(run, self._files, self._device)
            return self._worker

    @ray.method(concurrency_group="control")
    def stop(self, unit_id: str | None = None) -> None:
        """Let a unit end where it can be gone on with, and keep its state; without an id all, for good."""
        self._ends |= unit_id is None
        for held, control in list(self._controls.items()):
            if unit_id in (None, held):
                control.stop.set()

    @ray.method(concurrency_group="control")
    def usage(self) -> ActorUsage:
        """Return what the actor has used so far."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        num_steps = sum(control.num_steps for control in list(self._controls.values()))
        return ActorUsage(peak, num_steps)


def _describe(unit_id: str, error: Exception) -> Failure:
    return Failure(
        unit_id=unit_id,
        error=type(error).__name__,
        message=str(error),
        traceback=traceback.format_exc(),
        host=socket.gethostname(),
    )
