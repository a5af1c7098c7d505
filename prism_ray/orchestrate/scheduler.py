"""The decision which actor does which unit next: a pure state machine, without Ray and without a clock.

The dispatcher reports what happened (a unit done or ended without a commit, an actor lost or leaving) and
gets the next unit from `assign`. losses.py decides what follows for a unit that was not done, window.py which
unit suits an actor best. Units come from a source and are kept only from there to their end, a window of them
at a time, so a run of a million units needs little memory.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Protocol

from prism_ray.orchestrate.losses import Attempt, Fate
from prism_ray.orchestrate.window import SIZE, Task, Window
from prism_ray.stages import Unit, scope_of, stage_of

_REMEMBERED = 101  # durations of finished units, of each kind
_FEW = 5  # finished units of a kind before any of it is called slow


class Source(Protocol):
    """A source of units, each of which comes when what it builds on is done."""

    def take(self) -> Unit | None:
        """Return the next unit that can begin, None if there is none now."""

    def done(self, unit: Unit) -> None:
        """The unit is committed."""


class Ready:
    """A source of units that do not build on each other."""

    def __init__(self, units: Iterable[Unit]) -> None:
        self._units = iter(units)

    def take(self) -> Unit | None:
        return next(self._units, None)

    def done(self, unit: Unit) -> None:
        pass


@dataclass
class _Actor:
    """An actor as the scheduler knows it."""

    preferred_stages: Collection[str] = ()
    tasks: deque[Task] = field(default_factory=deque)  # the first runs, the other waits
    running_since: float = 0.0
    teachers: frozenset[str] = frozenset()  # that it has loaded
    is_leaving: bool = False
    is_shared: bool = False  # see scaling.py


class Scheduler:
    """Gives units to actors; a failed one goes to another actor if there is one."""

    def __init__(
        self,
        source: Source,
        teachers_of: Callable[[Unit], Iterable[str]] = lambda _: (),
        straggler_factor: float = 0.0,
        queued_stages: Collection[str] = (),
        sharing_stages: Collection[str] = (),
    ) -> None:
        """`teachers_of` names the teachers that a unit needs loaded.

        A unit that runs for `straggler_factor` times the median of its kind is run a second time; 0: never.
        Of the `queued_stages`, which have many similar units, one waits at each actor. Units of the
        `sharing_stages` go to shared actors, and no others do.
        """
        self._source = source
        self._teachers_of = teachers_of
        self._straggler_factor = straggler_factor
        self._queued_stages = queued_stages
        self._sharing_stages = sharing_stages
        self._window = Window()
        self._actors: dict[str, _Actor] = {}
        # By scope: batches of one image set are alike, those of another method may take ten times as long.
        self._seconds: defaultdict[str, deque[float]] = defaultdict(partial(deque, maxlen=_REMEMBERED))
        self.num_done = 0
        self.set_aside: list[str] = []  # ids of units

    @property
    def finished(self) -> bool:
        """True when nothing runs and nothing can begin; what waits for units set aside never will."""
        tasks = (task for actor in self._actors.values() for task in actor.tasks)
        return self.num_waiting == 0 and all(task.over for task in tasks)

    @property
    def num_waiting(self) -> int:
        """Number of units that could begin now, as far as the window contains them."""
        self._fill()
        return len(self._window)

    @property
    def num_waiting_by_kind(self) -> tuple[int, int]:
        """Number of units that could begin now at whole and at shared actors."""
        num_waiting = self.num_waiting
        num_sharing = self._window.count(self._sharing_stages)
        return num_waiting - num_sharing, num_sharing

    def _fill(self) -> None:
        while len(self._window) < SIZE and (unit := self._source.take()) is not None:
            self._window.add(Task(unit, stage_of(unit.id), frozenset(self._teachers_of(unit))))

    def add_actor(
        self, name: str, preferred_stages: Collection[str] = (), *, is_shared: bool = False
    ) -> None:
        """Add an actor, which takes units of its preferred stages before any others."""
        self._actors[name] = _Actor(preferred_stages, is_shared=is_shared)

    def leaving(self, name: str) -> None:
        """The actor will be gone soon: it gets no more units."""
        self._actors[name].is_leaving = True

    def assign(self, name: str, now: float) -> Unit | None:
        """Give the actor a unit; None if it may not have another now, or if there is none for it."""
        actor = self._actors[name]
        if actor.is_leaving or len(actor.tasks) > 1:
            return None
        if actor.tasks and actor.tasks[0].stage not in self._queued_stages:
            return None
        self._fill()

        def may_have(task: Task) -> bool:
            if not self._suits(actor, task):
                return False
            if actor.tasks and task.stage not in self._queued_stages:
                return False
            return name not in task.failed_at or task.failed_at.issuperset(self._alike(actor))

        loaded = actor.teachers.union(*(task.teachers for task in actor.tasks))  # when the unit begins
        task = self._window.take(loaded, actor.preferred_stages, may_have)
        if not actor.tasks:
            task = task or self._straggler(actor, now)
            actor.running_since = now
        if task is None:
            return None
        actor.tasks.append(task)
        task.held_by.add(name)
        return task.unit

    def _suits(self, actor: _Actor, task: Task) -> bool:
        """Return whether a unit is for actors of this kind."""
        return (task.stage in self._sharing_stages) == actor.is_shared

    def _alike(self, actor: _Actor) -> Iterator[str]:
        """Yield the names of the actors of this kind that may get units."""
        for name, other in self._actors.items():
            if not other.is_leaving and other.is_shared == actor.is_shared:
                yield name

    def _straggler(self, idle: _Actor, now: float) -> Task | None:
        """Return a unit for an idle actor that has run for too long at one actor, and at no other."""
        for actor in self._actors.values():
            if self._straggler_factor == 0.0 or not actor.tasks or not self._suits(idle, actor.tasks[0]):
                continue
            task = actor.tasks[0]
            seconds = self._seconds[scope_of(task.unit.id)]
            if task.over or len(task.held_by) > 1 or len(seconds) < _FEW:
                continue
            if now - actor.running_since > self._straggler_factor * median(seconds):
                return task
        return None

    def done(self, name: str, unit_id: str, now: float, teachers: Iterable[str] = ()) -> list[str] | None:
        """The actor has committed the unit and has `teachers` loaded; return the actors that still run it.

        None if another was first.
        """
        actor = self._actors[name]
        seconds = now - actor.running_since
        task = self._end(name, unit_id, now)
        actor.teachers = frozenset(teachers)
        if task.over:
            return None
        self._seconds[scope_of(unit_id)].append(seconds)
        task.over = True
        self.num_done += 1
        self._source.done(task.unit)
        return sorted(task.held_by)

    def attempt(self, name: str, unit_id: str | None = None) -> Attempt | None:
        """Return the attempt of an actor at a unit, without an id at the one that runs.

        None if there is none (the actor may not have started), or if another attempt was first.
        """
        tasks = self._actors.get(name, _Actor()).tasks
        task = next((task for task in tasks if unit_id in (None, task.unit.id)), None)
        if task is None or task.over:
            return None
        return Attempt(task.unit.id, task.num_failed, runs_elsewhere=len(task.held_by) > 1)

    def running_at(self, name: str) -> Unit | None:
        """Return the unit that runs at an actor, None if there is none, or if another attempt was first."""
        tasks = self._actors.get(name, _Actor()).tasks
        return tasks[0].unit if tasks and not tasks[0].over else None

    def discard(self, is_over: Callable[[Unit], bool]) -> None:
        """Forget the units that wait and must not begin any more; those that run are not stopped."""
        self._window.remove(is_over)

    def ended(self, name: str, unit_id: str, now: float, fate: Fate) -> None:
        """The actor's attempt at the unit ended without a commit."""
        task = self._end(name, unit_id, now)
        if fate is not Fate.FREE:
            task.failed_at.add(name)
        self._settle(task, fate)

    def lost(self, name: str, fate: Fate = Fate.FREE) -> None:
        """The actor is gone; `fate` is that of the unit that ran there. It costs the waiting one nothing."""
        tasks = self._actors.pop(name, _Actor()).tasks
        for task in reversed(tasks):
            task.held_by.discard(name)
            self._settle(task, fate if task is tasks[0] else Fate.FREE)

    def _end(self, name: str, unit_id: str, now: float) -> Task:
        """Take a unit from its actor; the one that waits there begins."""
        actor = self._actors[name]
        task = next(task for task in actor.tasks if task.unit.id == unit_id)
        actor.tasks.remove(task)
        actor.running_since = now
        task.held_by.discard(name)
        return task

    def _settle(self, task: Task, fate: Fate) -> None:
        """Put a unit back before all others, or set it aside, unless it is done or runs elsewhere."""
        task.num_failed += fate is not Fate.FREE
        if task.over or task.held_by:
            return
        if fate is Fate.SET_ASIDE:
            task.over = True
            self.set_aside.append(task.unit.id)
        else:
            self._window.put_back(task)
