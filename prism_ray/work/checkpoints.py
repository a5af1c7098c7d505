"""The checkpoint of a unit in wip/ of the store, from which another attempt resumes."""

import threading
import time
from dataclasses import dataclass, field

from prism_ray.errors import StoreError, UnitStopped
from prism_ray.store import StoreFiles, layout


@dataclass
class Control:
    """The signal that stops a running unit, and what can be seen of the unit from outside."""

    stop: threading.Event = field(default_factory=threading.Event)  # set: save a checkpoint and end
    num_steps: int = 0
    relies_on_checkpoint: bool = False  # the unit has resumed from one, and not saved another since
    num_hits: int = 0  # teachers that were loaded when this unit, or a failed one before it, needed them
    num_loads: int = 0
    problem: str | None = None  # why the unit's last checkpoint was not stored


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
