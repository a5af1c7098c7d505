"""The course of a run in time: its units at its actors, as the scheduler would give them out. No Ray.

It is the real scheduler and the real order of the stages, with a clock that jumps from the end of a unit to
the next. So waves, the wait for the last unit and teachers that an actor must load first are all in it.
"""

import heapq
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

from prism_ray.orchestrate.flow import phases
from prism_ray.orchestrate.scheduler import Scheduler
from prism_ray.plan import Plan
from prism_ray.stages import Unit, scope_of, stage_names, stages

_DISPATCH_S = 0.02  # from the end of a unit until the driver has given out the next


@dataclass
class Span:
    """The units of a scope in time."""

    begin: float = 0.0  # seconds since the start of the run
    end: float = 0.0
    busy: float = 0.0  # seconds of actors
    num_units: int = 0


@dataclass
class Course:
    """The result of a simulation."""

    end: float = 0.0
    spans: dict[str, Span] = field(default_factory=dict)  # by scope

    def add(self, unit: Unit, begin: float, end: float) -> None:
        span = self.spans.setdefault(scope_of(unit.id), Span(begin))
        span.begin, span.end = min(span.begin, begin), max(span.end, end)
        span.busy += end - begin
        span.num_units += 1
        self.end = max(self.end, end)


@dataclass
class _Actor:
    name: str
    tasks: list[Unit] = field(default_factory=list)
    teachers: set[str] = field(default_factory=set)
    begun: float = 0.0


def simulate(
    plan: Plan,
    committed: Collection[str],
    num_actors: int,
    seconds_of: Callable[[Unit], float],
    seconds_to_load: Callable[[str], float],
    start: float = 0.0,
) -> Course:
    """Return the course of the units that are not `committed`, from second `start` on."""
    course = Course(start)
    actors = [_Actor(f"actor-{number}") for number in range(num_actors)]
    queued = [stage.name for stage in stages() if stage.many]
    clock = start
    for _, source in phases(plan, stage_names(), committed, ()):
        scheduler = Scheduler(source, plan.teachers_of, 0.0, queued)
        events: list[tuple[float, int]] = []
        for actor in actors:
            scheduler.add_actor(actor.name)

        def begin(number: int, now: float, events: list[tuple[float, int]] = events) -> None:
            actor = actors[number]
            unit = actor.tasks[0]
            needed = set(plan.teachers_of(unit))
            loading = sum(seconds_to_load(name) for name in needed - actor.teachers)
            actor.teachers |= needed
            actor.begun = now
            heapq.heappush(events, (now + loading + seconds_of(unit), number))

        while True:
            for number in _in_turn(actors):
                if scheduler.num_waiting == 0:
                    break
                actor = actors[number]
                unit = scheduler.assign(actor.name, clock)
                if unit is not None:
                    actor.tasks.append(unit)
                    if len(actor.tasks) == 1:
                        begin(number, clock + _DISPATCH_S)
            if not events:
                break
            clock, number = heapq.heappop(events)
            actor = actors[number]
            unit = actor.tasks.pop(0)
            scheduler.done(actor.name, unit.id, clock, actor.teachers)
            course.add(unit, actor.begun, clock)
            if actor.tasks:
                begin(number, clock)
    return course


def _in_turn(actors: Sequence[_Actor]) -> Iterator[int]:
    """Yield the actors that can have a unit: first those without one, then those where one more may wait."""
    for num_tasks in (0, 1):
        yield from [number for number, actor in enumerate(actors) if len(actor.tasks) == num_tasks]
