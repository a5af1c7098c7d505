"""The checkpoint of a unit in wip/ of the store, from which another attempt resumes."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from prism_ray.errors import StoreError, UnitStopped
from prism_ray.run.live import UnitNow
from prism_ray.store import StoreFiles, layout

_VALUES_EVERY_S = 5.0  # to ask for a loss may wait for the device


@dataclass
class Control:
    """The signal that stops a running unit, and what can be seen of the unit from outside."""

    stop: threading.Event = field(default_factory=threading.Event)  # set: save a checkpoint and end
    started: float = field(default_factory=time.monotonic)
    num_steps: int = 0  # calls of `due`: grows while the unit makes progress
    num_done: int = 0  # of `total` steps of the unit: iterations, training steps, batches of views
    total: int = 0  # 0: the unit does not say
    first_done: int | None = None  # `num_done` at the first report, for the rate of this attempt
    values: dict[str, float] = field(default_factory=dict)  # losses and the like, some seconds old
    relies_on_checkpoint: bool = False  # the unit has resumed from one, and not saved another since
    num_hits: int = 0  # teachers that were loaded when this unit, or a failed one before it, needed them
    num_loads: int = 0
    upload_seconds: float = 0.0  # to encode and write the files of the unit
    commit_seconds: float = 0.0  # to write its commit
    problem: str | None = None  # why the unit's last checkpoint was not stored
    _asked_at: float = field(default_factory=time.monotonic)

    def report(self, num_done: int, total: int, values: Callable[[], Mapping[str, float]] = dict) -> None:
        """Take down how far the unit is; see `Checkpoints.report`."""
        if self.first_done is None:
            self.started, self.first_done = time.monotonic(), num_done
        self.num_done, self.total = num_done, total
        now = time.monotonic()
        if now - self._asked_at >= _VALUES_EVERY_S:
            self.values, self._asked_at = dict(values()), now

    def now(self, unit_id: str) -> UnitNow:
        """Return how far the unit is; may be called from another thread."""
        num_done, seconds = self.num_done, time.monotonic() - self.started
        steps = num_done - (self.first_done or 0)
        rate = steps / seconds if steps > 0 and seconds > 0.0 else None
        return UnitNow(unit_id, num_done, self.total, rate and float(f"{rate:.4g}"), dict(self.values))


@dataclass
class StoreCheckpoints:
    """The checkpoint of one unit. It is due every `interval_s` seconds, and when the unit is told to stop.

    Saving it after a stop ends the unit with UnitStopped. One that cannot be stored, because a disk is full
    for example, ends nothing: what the unit has done so far would be lost with it.
    """

    files: StoreFiles
    unit_id: str
    identity: str
    interval_s: float
    control: Control

    def __post_init__(self) -> None:
        self._name = layout.checkpoint(self.unit_id)
        self._last = time.monotonic()

    def report(self, num_done: int, total: int, values: Callable[[], Mapping[str, float]]) -> None:
        self.control.report(num_done, total, values)

    def due(self) -> bool:
        self.control.num_steps += 1
        return self.control.stop.is_set() or time.monotonic() - self._last >= self.interval_s

    def save(self, data: bytes) -> None:
        try:
            self.files.replace(self._name, data)
        except StoreError as error:
            self.control.problem = f"{self.unit_id} continues without a new checkpoint: {error}"
        else:
            self.control.problem = None
            self.control.relies_on_checkpoint = False
        self._last = time.monotonic()
        if self.control.stop.is_set():
            what = "is stored" if self.control.problem is None else "could not be stored"
            raise UnitStopped(f"{self.unit_id} was told to stop; its checkpoint {what}")

    def load(self, max_bytes: int) -> bytes | None:
        size = self.files.size(self._name)
        if size is None or size > max_bytes:
            return None
        self.control.relies_on_checkpoint = True
        return self.files.read(self._name, max_bytes)

    def delete(self) -> None:
        """Delete the checkpoint, because the unit is committed or the checkpoint may be faulty."""
        self.files.delete(self._name)
