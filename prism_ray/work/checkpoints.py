"""The state of a unit in wip/ of the store, so that another attempt goes on from it."""

import threading
import time
from dataclasses import dataclass, field

from prism_ray.errors import UnitStopped
from prism_ray.store import StoreFiles, layout


@dataclass
class Control:
    """What a unit in work is told from outside, and what it lets be seen."""

    stop: threading.Event = field(default_factory=threading.Event)  # keep your state and end
    num_steps: int = 0
    rests_on_state: bool = False  # it went on from a state, and has not saved another since
    num_hits: int = 0  # teachers that were loaded when this unit, or a failed one before it, asked for them
    num_loads: int = 0


class StoreCheckpoints:
    """The state of one unit; due every `interval_s` seconds, and when the unit is told to stop.

    A save after that ends the unit: it raises UnitStopped.
    """

    def __init__(
        self, files: StoreFiles, unit_id: str, identity: str, interval_s: float, control: Control
    ) -> None:
        self.identity = identity
        self._files = files
        self._unit_id = unit_id
        self._name = layout.checkpoint(unit_id)
        self._interval_s = interval_s
        self._control = control
        self._last = time.monotonic()

    def due(self) -> bool:
        self._control.num_steps += 1
        return self._control.stop.is_set() or time.monotonic() - self._last >= self._interval_s

    def save(self, data: bytes) -> None:
        self._files.replace(self._name, data)
        self._control.rests_on_state = False
        self._last = time.monotonic()
        if self._control.stop.is_set():
            raise UnitStopped(f"{self._unit_id} was told to stop; its state is kept")

    def load(self, max_bytes: int) -> bytes | None:
        size = self._files.size(self._name)
        if size is None or size > max_bytes:
            return None
        self._control.rests_on_state = True
        return self._files.read(self._name, max_bytes)

    def delete(self) -> None:
        """Forget the state; the unit is committed."""
        self._files.delete(self._name)
