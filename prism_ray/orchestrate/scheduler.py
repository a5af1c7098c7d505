"""Which actor does which unit next: a pure state machine. It knows neither Ray, clocks nor what a unit does.

The dispatcher tells it what happened (a unit done or ended without a commit, an actor lost or leaving) and
asks it what to do (assign). losses.py decides what becomes of a unit that was not done. Units come from a
source, a window of them at a time, and are held only from there to their end, so a run of a million takes no
memory. window.py says which of them suits an actor best.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Protocol

from prism_ray.orchestrate.losses import Attempt, Fate
from prism_ray.orchestrate.window import SIZE, Task, Window
from prism_ray.stages import Unit, scope_of, stage_of

_REMEMBERED = 101  # seconds of finished units, of each kind
_FEW = 5  # finished units of a kind before any of it is called slow


class Source(Protocol):
    """Where units come from, as what they build on is done."""

    def take(self) -> Unit | None:
        """Return the next unit that can be begun, None if there is none now."""

    def done(self, unit: Unit) -> None:
        """The unit is committed."""


class Ready:
    """A source of units that build on nothing of each other."""

    def __init__(self, units: Iterable[Unit]) -> None:
        self._units = iter(units)

    def take(self) -> Unit | None:
        return next(self._units, None)

    def done(self, unit: Unit) -> None:
        pass


@dataclass
class _Actor:
    """An actor as the scheduler sees it."""

    preferred_stages: Collection[str]
    held: deque[Task] = field(default_factory=deque)  # the first runs, the other waits
    running_since: float = 0.0
    networks: frozenset[str] = frozenset()  # that it has loaded
    is_leaving: bool = False


class Scheduler:
    """Hands units to actors; a failed one goes elsewhere if there is another."""

    def __init__(
        self,
        source: Source,
        networks_of: Callable[[Unit], Iterable[str]] = lambda _: (),
        straggler_factor: float = 0.0,
        queued_stages: Collection[str] = (),
    ) -> None:
        """`networks_of` names the networks that a unit needs loaded.

        A unit that runs for `straggler_factor` times the median of its kind is run a second time; 0: never.
        Of the `queued_stages`, which have many like units, one waits at each actor.
        """
        self._source = source
        self._networks_of = networks_of
        self._straggler_factor = straggler_factor
        self._queued_stages = queued_stages
        self._window = Window()
        self._actors: dict[str, _Actor] = {}
        # By scope: batches of one image set are alike, those of another method may take ten times as long.
        self._seconds: defaultdict[str, deque[float]] = defaultdict(partial(deque, maxlen=_REMEMBERED))
        self.num_done = 0
        self.set_aside: list[str] = []  # ids of units that failed for good

    @property
    def finished(self) -> bool:
        """True when nothing runs and nothing can be begun; what waits for units set aside never will be."""
        held = (task for actor in self._actors.values() for task in actor.held)
        return self.num_waiting == 0 and all(task.over for task in held)

    @property
    def num_waiting(self) -> int:
        """How many units could be begun now, counted as far as the window goes."""
        self._fill()
        return len(self._window)

    def add_actor(self, name: str, preferred_stages: Collection[str] = ()) -> None:
        """A new actor takes units of its preferred stages before any others."""
        self._actors[name] = _Actor(preferred_stages)

    def leaving(self, name: str) -> None:
        """The actor will be gone soon: it gets no more units."""
        self._actors[name].is_leaving = True

    def assign(self, name: str, now: float) -> Unit | None:
        """Give the actor a unit, if it may hold another and there is one."""
        actor = self._actors[name]
        if actor.is_leaving or len(actor.held) > 1:
            return None
        if actor.held and not self._can_wait(actor.held[0]):
            return None
        self._fill()
        coming = actor.networks.union(*(held.networks for held in actor.held))
        task = self._choose(name, actor, coming)
        if task is None and not actor.held:
            task = self._straggler(now)
        if task is None:
            return None
        if not actor.held:
            actor.running_since = now
        actor.held.append(task)
        task.held_by.add(name)
        return task.unit

    def done(self, name: str, unit_id: str, now: float, networks: Iterable[str] = ()) -> list[str] | None:
        """The actor has committed the unit and holds `networks`; return the actors that still run it.

        None if another was first.
        """
        actor = self._actors[name]
        seconds = now - actor.running_since
        task = self._end(name, unit_id, now)
        actor.networks = frozenset(networks)
        if task.over:
            return None
        self._seconds[scope_of(unit_id)].append(seconds)
        task.over = True
        self.num_done += 1
        self._source.done(task.unit)
        return sorted(task.held_by)

    def attempt(self, name: str, unit_id: str | None = None) -> Attempt | None:
        """Return how an attempt at the actor stands, without an id the one that runs.

        None if there is none (the actor may not have started), or if another one was first.
        """
        held = self._actors.get(name, _Actor(())).held
        task = next((task for task in held if unit_id in (None, task.unit.id)), None)
        if task is None or task.over:
            return None
        return Attempt(task.unit.id, task.num_failed, runs_elsewhere=len(task.held_by) > 1)

    def ended(self, name: str, unit_id: str, now: float, fate: Fate) -> None:
        """The actor's attempt at the unit ended without a commit."""
        task = self._end(name, unit_id, now)
        if fate is not Fate.FREE:
            task.failed_at.add(name)
        self._settle(task, fate)

    def lost(self, name: str, fate: Fate = Fate.FREE) -> None:
        """The actor is gone; `fate` is that of the unit it was running. What waited there pays nothing."""
        held = self._actors.pop(name, _Actor(())).held
        for task in reversed(held):
            task.held_by.discard(name)
            self._settle(task, fate if task is held[0] else Fate.FREE)

    def _can_wait(self, task: Task) -> bool:
        return task.stage in self._queued_stages

    def _fill(self) -> None:
        while len(self._window) < SIZE:
            unit = self._source.take()
            if unit is None:
                return
            self._window.add(Task(unit, stage_of(unit.id), frozenset(self._networks_of(unit))))

    def _choose(self, name: str, actor: _Actor, coming: frozenset[str]) -> Task | None:
        """Take the unit that suits the actor best; it will hold the networks `coming`."""
        others = {other for other, state in self._actors.items() if not state.is_leaving}

        def may_have(task: Task) -> bool:
            if actor.held and not self._can_wait(task):
                return False
            return name not in task.failed_at or task.failed_at.issuperset(others)

        return self._window.take(coming, actor.preferred_stages, may_have)

    def _straggler(self, now: float) -> Task | None:
        """Return a unit that has run for too long at one actor, and at none else."""
        if self._straggler_factor == 0.0:
            return None
        for actor in self._actors.values():
            if not actor.held:
                continue
            task = actor.held[0]
            seconds = self._seconds[scope_of(task.unit.id)]
            if task.over or len(task.held_by) > 1 or len(seconds) < _FEW:
                continue
            if now - actor.running_since > self._straggler_factor * median(seconds):
                return task
        return None

    def _end(self, name: str, unit_id: str, now: float) -> Task:
        """Take a unit from its actor; the one that waits there begins."""
        actor = self._actors[name]
        task = next(task for task in actor.held if task.unit.id == unit_id)
        actor.held.remove(task)
        actor.running_since = now
        task.held_by.discard(name)
        return task

    def _settle(self, task: Task, fate: Fate) -> None:
        """Put a unit back, before all others, or aside; unless it is done, or runs elsewhere."""
        task.num_failed += fate is not Fate.FREE
        if task.over or task.held_by:
            return
        if fate is Fate.SET_ASIDE:
            task.over = True
            self.set_aside.append(task.unit.id)
        else:
            self._window.put_back(task)
