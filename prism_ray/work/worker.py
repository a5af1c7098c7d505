"""A worker does units of a run, one after another, on one device, and commits them. It knows nothing of Ray.

An actor of the cluster is a worker in a process of its own; a test or a benchmark can use one directly.
"""

import socket
import threading
import time
from datetime import UTC, datetime

import torch

from prism_ray.errors import StoreError
from prism_ray.store import Commit, Run, StoreFiles, read_commit, write_commit
from prism_ray.units import CollectUnit, MeasureUnit, RecoverUnit, RelabelUnit, SqueezeUnit, Unit
from prism_ray.work.collect import collect
from prism_ray.work.context import Work, WorkContext
from prism_ray.work.evaluate import evaluate, measure
from prism_ray.work.recover import recover
from prism_ray.work.relabel import relabel
from prism_ray.work.squeeze import squeeze


class Worker:
    """Does units of one run."""

    def __init__(
        self, run: Run, files: StoreFiles, device: torch.device, stop: threading.Event | None = None
    ) -> None:
        """When `stop` is set, a unit that can be gone on with saves its state and raises UnitStopped."""
        self._context = WorkContext(run, files, device, stop)

    def do(self, unit: Unit) -> Commit:
        """Do a unit and commit it; return its commit, or the one that another attempt made first.

        Raises StoreError if a run with other settings was first, and the errors of the rooms.
        """
        started = time.monotonic()
        torch.manual_seed(unit.seed)  # first weights, dropout; all else draws from generators of its own
        work = self._work(unit)
        files = self._context.files
        commit = Commit(
            unit=unit.id,
            fingerprint=self._context.run.fingerprint_of(unit.id),
            files=work.files,
            stats=work.stats,
            seconds=round(time.monotonic() - started, 3),
            host=socket.gethostname(),
            finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        is_first = write_commit(files, commit)
        if isinstance(unit, SqueezeUnit | RecoverUnit):
            self._context.checkpoints(unit.id).delete()
        if is_first:
            return commit
        first = read_commit(files, unit.id)
        if first.fingerprint != commit.fingerprint:
            raise StoreError(
                f"{files.location}: {unit.id} was committed by a run with other settings meanwhile; "
                "end one of the two runs, and give it another --store"
            )
        return first

    def _work(self, unit: Unit) -> Work:
        if isinstance(unit, SqueezeUnit):
            return squeeze(self._context, unit)
        if isinstance(unit, CollectUnit):
            return collect(self._context, unit)
        if isinstance(unit, RecoverUnit):
            return recover(self._context, unit)
        if isinstance(unit, RelabelUnit):
            return relabel(self._context, unit)
        if isinstance(unit, MeasureUnit):
            return measure(self._context, unit)
        return evaluate(self._context, unit)
