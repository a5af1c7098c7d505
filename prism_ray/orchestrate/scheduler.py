"""Which actor does which unit next: a pure state machine. It knows neither Ray nor time nor what a unit is.

The pool tells it what happened (done, failed, actor lost) and asks it what to do (assign). Units come from a
lazy iterator and are held only from their assignment to their end, so a stage of a million takes no memory.
"""

from collections import deque
from collections.abc import Iterable

from prism_ray.units import Unit


class Scheduler:
    """Hands units to actors, each at most `max_attempts` times, a failed one elsewhere if there is another.

    An actor holds at most `queue_depth` units: 2 keeps it busy while the driver thinks, 1 leaves long units
    to whoever is free first.
    """

    def __init__(self, units: Iterable[Unit], max_attempts: int, queue_depth: int) -> None:
        self._fresh = iter(units)
        self._again: deque[Unit] = deque()
        self._attempts: dict[str, int] = {}  # unit id -> attempts that ended badly
        self._failed_at: dict[str, set[str]] = {}  # unit id -> actors that failed it
        self._max_attempts = max_attempts
        self._queue_depth = queue_depth
        self._held: dict[str, deque[Unit]] = {}  # actor -> its units: the first runs, the others wait there
        self._exhausted = False
        self.num_done = 0
        self.set_aside: list[str] = []  # ids of units that failed for good

    @property
    def finished(self) -> bool:
        """True when every unit is done or set aside."""
        return not self.has_pending and not any(self._held.values())

    @property
    def has_pending(self) -> bool:
        """True if there is a unit that no actor holds."""
        self._look_ahead()
        return bool(self._again)

    def add_actor(self, actor: str) -> None:
        self._held[actor] = deque()

    def assign(self, actor: str) -> Unit | None:
        """Give the actor a unit, if it may hold another and there is one."""
        held = self._held[actor]
        if len(held) >= self._queue_depth or not self.has_pending:
            return None
        unit = self._choose(actor)
        if unit is not None:
            held.append(unit)
        return unit

    def _choose(self, actor: str) -> Unit | None:
        """Take the first pending unit that this actor has not failed, or that no other actor is left for."""
        for place, unit in enumerate(self._again):
            tried = self._failed_at.get(unit.id, set())
            if actor not in tried or tried.issuperset(self._held):
                del self._again[place]
                return unit
        return next(self._fresh, None)

    def done(self, actor: str, unit_id: str) -> None:
        """The actor has committed the unit."""
        self._take(actor, unit_id)
        self._attempts.pop(unit_id, None)
        self._failed_at.pop(unit_id, None)
        self.num_done += 1

    def failed(self, actor: str, unit_id: str) -> bool:
        """An attempt ended with an error; return whether the unit will be tried again."""
        self._failed_at.setdefault(unit_id, set()).add(actor)
        return self._put_back(self._take(actor, unit_id))

    def lost(self, actor: str) -> Unit | None:
        """The actor died; return the unit that was running, if any. What waited there costs no attempt."""
        units = self._held.pop(actor)
        if not units:
            return None
        running, *waiting = units
        self._again.extendleft(reversed(waiting))
        self._put_back(running)
        return running

    def num_failed_attempts(self, unit_id: str) -> int:
        """How many attempts at the unit have ended badly so far."""
        return self._attempts.get(unit_id, 0)

    def _put_back(self, unit: Unit) -> bool:
        attempts = self._attempts.get(unit.id, 0) + 1
        self._attempts[unit.id] = attempts
        if attempts >= self._max_attempts:
            self.set_aside.append(unit.id)
            return False
        self._again.append(unit)
        return True

    def _take(self, actor: str, unit_id: str) -> Unit:
        held = self._held[actor]
        unit = next(unit for unit in held if unit.id == unit_id)
        held.remove(unit)
        return unit

    def _look_ahead(self) -> None:
        """Draw one fresh unit if nothing waits to be assigned."""
        if self._again or self._exhausted:
            return
        unit = next(self._fresh, None)
        if unit is None:
            self._exhausted = True
        else:
            self._again.append(unit)
