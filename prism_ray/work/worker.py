"""A worker does units of a run, one after another, on one device, and commits them. It knows nothing of Ray.

An actor of the cluster is a worker in a process of its own; a test or a benchmark can use one directly.
"""

import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pkgutil import resolve_name

import torch

from prism_ray.errors import EngineError, StoreError, UnitStopped
from prism_ray.run import Run
from prism_ray.stages import Unit, find_stage, stage_of
from prism_ray.store import Commit, StoreFiles, layout, read_commit, write_commit
from prism_ray.work.cache import TeacherCache
from prism_ray.work.checkpoints import Control
from prism_ray.work.context import Finish, WorkContext
from prism_ray.work.memory import make_room, out_of_memory

_OF_THE_UNIT = (EngineError, RuntimeError, ValueError, TypeError, LookupError, ArithmeticError)


class Worker:
    """Does units of one run."""

    def __init__(
        self, run: Run, files: StoreFiles, device: torch.device, teachers: TeacherCache | None = None
    ) -> None:
        """`teachers` is the cache of the device, if another run has loaded some there."""
        self._context = WorkContext(run, files, device, teachers)

    @property
    def teachers(self) -> TeacherCache:
        """The teachers that are loaded in this process."""
        return self._context.teachers

    def do(self, unit: Unit) -> Commit:
        """Do a unit and commit it; return its commit, or the one that another attempt made first.

        Raises StoreError if a run with other settings was first, and the errors of the work functions.
        """
        return self.begin(unit, Control())()

    def begin(self, unit: Unit, control: Control) -> Callable[[], Commit]:
        """Do the part of a unit that needs the device; return the rest, which writes and commits.

        The next unit may begin before the rest is done, in another thread. After `control.stop` is set,
        UnitStopped is raised: at once, or by a running unit with checkpoints after it has saved one.
        """
        if control.stop.is_set():
            raise UnitStopped(f"{unit.id} was not begun")
        started = time.monotonic()
        torch.manual_seed(unit.seed)  # first weights, dropout; everything else has its own generators
        self._context.control = control
        try:
            # It has the device until it returns; its Finish does not need the device.
            finish: Finish = resolve_name(find_stage(stage_of(unit.id)).work)(self._context, unit)
        except UnitStopped:
            if self._context.files.exists(layout.commit(unit.id)):  # another attempt was first
                self._context.checkpoints(unit.id).delete()
            raise
        except torch.OutOfMemoryError as error:
            make_room(self._context, error)
            raise out_of_memory(self._context, unit) from error
        except _OF_THE_UNIT as error:
            # Perhaps its checkpoint is the cause: the next attempt starts without it.
            if control.relies_on_checkpoint and "CUDA" not in str(error):
                self._context.checkpoints(unit.id).delete()
            raise
        control.num_hits, control.num_loads = self.teachers.take_counts()
        return partial(self._commit, unit, finish, control, time.monotonic() - started)

    def _commit(self, unit: Unit, finish: Finish, control: Control, seconds: float) -> Commit:
        started = time.monotonic()
        work = finish()
        written = time.monotonic()
        control.upload_seconds = written - started
        files = self._context.files
        commit = Commit(
            unit=unit.id,
            fingerprint=self._context.run.fingerprint_of(unit.id),
            files=work.files,
            stats=work.stats,
            seconds=round(seconds + written - started, 3),
            host=socket.gethostname(),
            finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        is_first = write_commit(files, commit)
        control.commit_seconds = time.monotonic() - written
        if find_stage(stage_of(unit.id)).checkpoints:
            self._context.checkpoints(unit.id).delete()
        if is_first:
            return commit
        first = read_commit(files, unit.id)
        if first.fingerprint != commit.fingerprint:
            raise StoreError(
                f"{files.location}: a run with other settings has committed {unit.id} meanwhile; end one of "
                "the two runs, and give it another --store"
            )
        return first
