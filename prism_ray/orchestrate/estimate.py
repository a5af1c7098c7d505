"""How far a stage is, with the parts of running units that are done, and how long it still takes. Pure."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from prism_ray.run.live import ActorNow, StageNow, UnitNow
from prism_ray.stages import stage_of

_MIN_SECONDS = 3.0  # before a rate means anything
_MIN_UNITS = 0.02  # that were done in this call


@dataclass
class StageWork:
    """The work on a stage in this call."""

    num_before: int  # units that were done when it began
    num_units: int
    num_to_take: int = 0  # units that points of a sweep have from others: they take no time
    num_taken: int = 0  # of these, so far
    num_done: int = 0  # all, with those before
    num_failed: int = 0  # attempts
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None  # when the last unit so far was done

    def __post_init__(self) -> None:
        self.num_done = self.num_before

    @property
    def seconds(self) -> float:
        """Seconds from the first unit to the end of the last one; while units run, until now."""
        return (self.ended or time.monotonic()) - self.started

    def now(self, stage: str, actors: Sequence[ActorNow]) -> StageNow:
        """Return how far the stage is.

        The estimate takes the rate of this call, in units that were made per second, as that of the rest.
        """
        running = {unit.unit: unit.share for unit in units_of(actors) if stage_of_unit(unit) == stage}
        left = self.num_units - self.num_done
        part = min(sum(running.values()), float(left))
        to_make = max(part, left - max(0, self.num_to_take - self.num_taken))
        seconds = time.monotonic() - self.started
        done_here = self.num_done - self.num_before - self.num_taken + part
        seconds_left: float | None = None
        if left == 0:
            seconds_left = 0.0
        elif seconds >= _MIN_SECONDS and done_here >= _MIN_UNITS:
            seconds_left = round(seconds * (to_make - part) / done_here, 1)
        return StageNow(
            stage=stage,
            num_done=self.num_done,
            num_units=self.num_units,
            num_failed=self.num_failed,
            seconds=round(self.seconds if left == 0 else seconds, 1),
            share=round((self.num_done + part) / self.num_units, 4) if self.num_units else 1.0,
            seconds_left=seconds_left,
        )


def units_of(actors: Sequence[ActorNow]) -> list[UnitNow]:
    """Return the units of all actors, those that say how far they are first."""
    units = [unit for actor in actors for unit in actor.units]
    return sorted(units, key=lambda unit: unit.total == 0)


def stage_of_unit(unit: UnitNow) -> str:
    """Return the stage of a unit, which in a sweep is named with its point."""
    return stage_of(unit.unit.rpartition(": ")[2])
