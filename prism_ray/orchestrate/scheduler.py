"""Which actor does which unit next: a pure state machine. It knows neither Ray, clocks nor what a unit does.

The pool tells it what happened (done, failed, stopped, actor lost or draining) and asks it what to do
(assign). Units come from a source, a window of them at a time, and are held only from there to their end, so
a run of a million takes no memory. window.py says which of them suits an actor best.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Protocol

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


@dataclass(frozen=True)
class Policy:
    """How units are handed out."""

    max_attempts: int  # failed attempts at a unit before it is set aside
    straggler_factor: float = 0.0  # times the median after which a unit is run a second time; 0: never
    queued_stages: Collection[str] = ()  # of many like units: at each actor one waits


@dataclass
class _Actor:
    """An actor as the scheduler sees it."""

    prefers: Collection[str]
    held: deque[Task] = field(default_factory=deque)  # the first runs, the other waits
    running_since: float = 0.0
    networks: frozenset[str] = frozenset()  # that it has loaded
    draining: bool = False


@dataclass(frozen=True)
class Lost:
    """What an actor that is gone was running, and whether it will be tried again."""

    unit: Unit
    again: bool


class Scheduler:
    """Hands units to actors; a failed one goes elsewhere if there is another."""

    def __init__(
        self, source: Source, policy: Policy, networks_of: Callable[[Unit], Iterable[str]] = lambda _: ()
    ) -> None:
        """`networks_of` names the networks that a unit needs loaded."""
        self._source = source
        self._policy = policy
        self._networks_of = networks_of
        self._window = Window()
        self._actors: dict[str, _Actor] = {}
        # By scope: batches of one image set are alike, those of another method may take ten times as long.
        self._seconds: defaultdict[str, deque[float]] = defaultdict(partial(deque, maxlen=_REMEMBERED))
        self.num_done = 0
        self.num_networks_found = 0  # that an actor had loaded when it was given a unit that needs them
        self.num_networks_missing = 0
        self.set_aside: list[str] = []  # ids of units that failed for good

    @property
    def finished(self) -> bool:
        """True when nothing runs and nothing can be begun; what waits for units set aside never will be."""
        return not self.has_pending and all(
            task.over for actor in self._actors.values() for task in actor.held
        )

    @property
    def has_pending(self) -> bool:
        """True if there is a unit that could be begun and that no actor holds."""
        self._fill()
        return len(self._window) > 0

    @property
    def num_waiting(self) -> int:
        """How many units could be begun now, counted as far as the window goes."""
        self._fill()
        return len(self._window)

    def add_actor(self, name: str, prefers: Collection[str] = ()) -> None:
        """A new actor takes units of the stages it `prefers` before any others."""
        self._actors[name] = _Actor(prefers)

    def drain(self, name: str) -> None:
        """The actor's days are numbered: it gets no more."""
        self._actors[name].draining = True

    def assign(self, name: str, now: float) -> Unit | None:
        """Give the actor a unit, if it may hold another and there is one."""
        actor = self._actors[name]
        if actor.draining or len(actor.held) > 1:
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
        self.num_networks_found += len(task.networks & coming)
        self.num_networks_missing += len(task.networks - coming)
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

    def failed(self, name: str, unit_id: str, now: float) -> bool:
        """An attempt ended with an error; return whether the unit will be tried again."""
        task = self._end(name, unit_id, now)
        task.failed_at.add(name)
        return self._count_failure(task)

    def stopped(self, name: str, unit_id: str, now: float) -> None:
        """The actor ended the unit because it was told to; it costs nothing."""
        self._put_back(self._end(name, unit_id, now))

    def lost(self, name: str, *, preempted: bool = False) -> Lost | None:
        """The actor died; return what it was running. What waited there costs nothing.

        Nor does what ran, if its machine was taken away.
        """
        actor = self._actors.pop(name)
        if not actor.held:
            return None
        running, *waiting = actor.held
        for task in reversed(waiting):
            task.held_by.discard(name)
            self._put_back(task)
        running.held_by.discard(name)
        if preempted:
            self._put_back(running)
            return Lost(running.unit, again=not running.over)
        return Lost(running.unit, again=self._count_failure(running))

    def _can_wait(self, task: Task) -> bool:
        return task.stage in self._policy.queued_stages

    def _fill(self) -> None:
        while len(self._window) < SIZE:
            unit = self._source.take()
            if unit is None:
                return
            self._window.add(Task(unit, stage_of(unit.id), frozenset(self._networks_of(unit))))

    def _choose(self, name: str, actor: _Actor, coming: frozenset[str]) -> Task | None:
        """Take the unit that suits the actor best; it will hold the networks `coming`."""
        others = {other for other, state in self._actors.items() if not state.draining}

        def may_have(task: Task) -> bool:
            if actor.held and not self._can_wait(task):
                return False
            return name not in task.failed_at or task.failed_at.issuperset(others)

        return self._window.take(coming, actor.prefers, may_have)

    def _straggler(self, now: float) -> Task | None:
        """Return a unit that has run for too long at one actor, and at none else."""
        if self._policy.straggler_factor == 0.0:
            return None
        for actor in self._actors.values():
            if not actor.held:
                continue
            task = actor.held[0]
            seconds = self._seconds[scope_of(task.unit.id)]
            if task.over or len(task.held_by) > 1 or len(seconds) < _FEW:
                continue
            if now - actor.running_since > self._policy.straggler_factor * median(seconds):
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

    def _put_back(self, task: Task) -> None:
        """The unit can be begun again, before all others; unless it is done, or runs elsewhere."""
        if not task.over and not task.held_by:
            self._window.put_back(task)

    def _count_failure(self, task: Task) -> bool:
        if task.over:
            return False
        task.num_failed += 1
        if task.num_failed >= self._policy.max_attempts and not task.held_by:
            task.over = True
            self.set_aside.append(task.unit.id)
            return False
        self._put_back(task)
        return True
