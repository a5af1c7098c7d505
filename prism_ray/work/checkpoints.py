"""The state of a unit in wip/ of the store, so that another attempt goes on from it."""

import threading
import time

from prism_ray.errors import UnitStopped
from prism_ray.store import StoreFiles, layout


class StoreCheckpoints:
    """The state of one unit; due every `interval_s` seconds, and when the work is told to stop.

    A save after that ends the unit: it raises UnitStopped.
    """

    def __init__(
        self, files: StoreFiles, unit_id: str, identity: str, interval_s: float, stop: threading.Event
    ) -> None:
        self.identity = identity
        self._files = files
        self._unit_id = unit_id
        self._name = layout.checkpoint(unit_id)
        self._interval_s = interval_s
        self._stop = stop
        self._last = time.monotonic()

    def due(self) -> bool:
        return self._stop.is_set() or time.monotonic() - self._last >= self._interval_s

    def save(self, data: bytes) -> None:
        self._files.replace(self._name, data)
        self._last = time.monotonic()
        if self._stop.is_set():
            raise UnitStopped(f"{self._unit_id} was told to stop; its state is kept")

    def load(self) -> bytes | None:
        return self._files.read(self._name) if self._files.exists(self._name) else None

    def delete(self) -> None:
        """Forget the state; the unit is committed."""
        self._files.delete(self._name)
