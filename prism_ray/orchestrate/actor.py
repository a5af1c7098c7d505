"""The Ray actor: a worker in a process of its own, with a device and a fixed number of threads.

It has up to two units: one has the device, the other writes and commits its files or waits for the device.
"""

import os
import resource
import socket
import threading
import traceback
from collections.abc import Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import ray

from prism_ray.config import Config
from prism_ray.orchestrate.jobs import JobUnit
from prism_ray.run import Run
from prism_ray.run.live import UnitNow
from prism_ray.stages import Unit
from prism_ray.store import Commit, Failure, StoreFiles
from prism_ray.work.checkpoints import Control

if TYPE_CHECKING:
    from prism_ray.work.worker import Worker

_MAX_WORKERS = 4  # runs of a sweep whose real images an actor keeps


@dataclass(frozen=True)
class UnitDone:
    """A committed unit, and the teachers of its actor since the last one."""

    commit: Commit
    teachers: tuple[str, ...]  # that the actor has loaded now
    num_hits: int  # teachers that were loaded when a unit needed them
    num_loads: int
    upload_seconds: float = 0.0  # to encode and write the files
    commit_seconds: float = 0.0  # to write the commit


@dataclass(frozen=True)
class ActorInfo:
    """The process of an actor and its machine."""

    host: str
    pid: int
    node_id: str
    device: str = "cpu"  # or the name of the GPU


@dataclass(frozen=True)
class ActorUsage:
    """An actor's use of memory, and the progress of its units."""

    peak_bytes: int  # largest resident size
    num_steps: int  # of the units that it has now; grows while they make progress
    problems: tuple[str, ...] = ()  # of these units, with their checkpoints
    units: tuple[UnitNow, ...] = ()
    teachers: tuple[str, ...] = ()  # that it has loaded
    device_bytes: int = 0  # of its GPU's memory; without a GPU its resident memory now


# Ray's types do not know the groups of calls that run beside each other.
@ray.remote(  # type: ignore[call-overload]
    max_restarts=0, max_task_retries=0, concurrency_groups={"units": 2, "control": 1}
)
class WorkerActor:
    """Does units for the dispatcher; stays alive when one fails."""

    def __init__(self, files: StoreFiles, num_threads: int, use_gpu: bool) -> None:
        import torch  # here, so that the driver never loads it

        from prism_ray.device import describe_device, repeat_bytes, used_bytes

        repeat_bytes()
        self._device = torch.device("cuda" if use_gpu and torch.cuda.is_available() else "cpu")
        self._device_name = describe_device(self._device)
        self._used_bytes = used_bytes
        self._files = files
        self._workers: dict[str, tuple[Run, Worker]] = {}  # by store, the one used last at the end
        self._making_worker = threading.Lock()  # two units may come at once
        self._controls: dict[str, Control] = {}  # of the units here
        self._is_ending = False
        # One thread has the device: torch's number of threads is a setting of each thread.
        self._on_device = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(num_threads,))

    @ray.method(concurrency_group="control")
    def start(self) -> ActorInfo:
        """Return where the actor runs, as soon as it lives."""
        node_id = ray.get_runtime_context().get_node_id()
        return ActorInfo(socket.gethostname(), os.getpid(), node_id, self._device_name)

    def check_networks(
        self, config: Config, class_names: Sequence[str], in_store: Set[str]
    ) -> Failure | None:
        """Build the config's networks without memory; return what is wrong with them, if anything."""
        from prism_ray.teachers.build import check_networks

        try:
            check_networks(config, class_names, in_store)
        except Exception as error:
            return _describe("check_networks", error)
        return None

    @ray.method(concurrency_group="units")
    def do(self, run: Run, unit: Unit) -> UnitDone | Failure:
        """Do a unit; return its commit, or how it failed."""
        control = self._controls[unit.id] = Control()
        files, its_unit = (unit.files, unit.unit) if isinstance(unit, JobUnit) else (self._files, unit)
        try:
            if self._is_ending:
                control.stop.set()
            worker = self._worker_for(run, files)
            finish = self._on_device.submit(worker.begin, its_unit, control).result()
            return UnitDone(
                finish(),
                worker.teachers.names,
                control.num_hits,
                control.num_loads,
                control.upload_seconds,
                control.commit_seconds,
            )
        except Exception as error:
            if "CUDA error" in str(error):
                os._exit(1)  # the CUDA context is broken; a new process must replace this one
            return _describe(its_unit.id, error)
        finally:
            del self._controls[unit.id]

    def _worker_for(self, run: Run, files: StoreFiles) -> "Worker":
        """Return the worker of a run, which keeps what it has loaded from unit to unit.

        Of several runs, those used last are kept. All have one cache of teachers.
        """
        from prism_ray.work.worker import Worker

        with self._making_worker:
            held = self._workers.pop(files.location, None)
            if held is None or held[0] != run:
                cache = (
                    held[1].teachers
                    if held
                    else next((worker.teachers for _, worker in self._workers.values()), None)
                )
                held = run, Worker(run, files, self._device, cache)
            self._workers[files.location] = held
            if len(self._workers) > _MAX_WORKERS:
                del self._workers[next(iter(self._workers))]
            return held[1]

    @ray.method(concurrency_group="control")
    def stop(self, unit_id: str | None = None) -> None:
        """Let a unit save a checkpoint and end; without an id, all units that are here or come later."""
        self._is_ending |= unit_id is None
        for other, control in list(self._controls.items()):
            if unit_id in (None, other):
                control.stop.set()

    @ray.method(concurrency_group="control")
    def usage(self) -> ActorUsage:
        """Return what the actor has used so far."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        now = list(self._controls.items())
        units = tuple(control.now(unit_id) for unit_id, control in now)
        controls = [control for _, control in now]
        problems = tuple(control.problem for control in controls if control.problem is not None)
        num_steps = sum(control.num_steps for control in controls)
        workers = list(self._workers.values())  # all have one cache of teachers
        teachers = workers[-1][1].teachers.names if workers else ()
        return ActorUsage(peak, num_steps, problems, units, teachers, self._used_bytes(self._device))


def _describe(unit_id: str, error: Exception) -> Failure:
    name, host = type(error).__name__, socket.gethostname()
    return Failure(unit_id, name, str(error), traceback.format_exc(), host)
