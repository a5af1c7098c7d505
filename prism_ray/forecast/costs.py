"""The seconds of each unit of a run, from what units of its kind took and from a calibration. Pure."""

from collections import defaultdict
from dataclasses import dataclass

from prism_ray.forecast.rates import Groups, Rates, kin_of, work_of
from prism_ray.plan import Plan
from prism_ray.run import RunProgress
from prism_ray.stages import Stage, Unit, scope_of, stages

MOST_UNITS = 20_000  # of a stage, whose costs are looked up one by one


def sampling_step(plan: Plan, stage: Stage) -> int:
    """Return n if the cost of every n-th unit of a stage is enough."""
    return -(-stage.count(plan) // MOST_UNITS) or 1


@dataclass
class _Past:
    """Units of a kind that are done."""

    seconds: float = 0.0  # that they took
    calibrated: float = 0.0  # that the calibration says; 0: it does not know
    work: float = 0.0


class Costs:
    """The seconds of units.

    Where units of a kind are done, they decide: a further one takes as long for the same work, and the
    calibration, if there is one, says how much work it is. Otherwise the calibration alone decides.
    """

    def __init__(self, plan: Plan, groups: Groups, progress: RunProgress | None) -> None:
        self._plan, self.rates = plan, Rates(plan, groups)
        self._past: defaultdict[str, _Past] = defaultdict(_Past)
        if progress is not None:
            self._look_back(progress)

    def _look_back(self, progress: RunProgress) -> None:
        done = progress.done
        seen: set[str] = set()
        for stage in stages():
            step = sampling_step(self._plan, stage)
            num_done = 0
            for unit in stage.units(self._plan):
                if unit.id not in done:
                    continue
                past = self._past[kin_of(unit)]
                if num_done % step == 0:
                    past.work += step * work_of(self._plan, unit)
                    past.calibrated += step * (self.rates.seconds(unit) or 0.0)
                num_done += 1
                scope = scope_of(unit.id)
                if scope not in seen:
                    seen.add(scope)
                    past.seconds += progress.figures[scope].seconds

    def is_measured(self, unit: Unit) -> bool:
        """Return whether units of the same kind are done."""
        past = self._past.get(kin_of(unit))
        return past is not None and past.seconds > 0.0

    def seconds(self, unit: Unit) -> float | None:
        """Return the seconds of a unit whose teachers are loaded, None if nothing is known."""
        calibrated = self.rates.seconds(unit)
        past = self._past.get(kin_of(unit))
        if past is None or past.seconds <= 0.0:
            return calibrated
        if calibrated is not None and past.calibrated > 0.0:
            return calibrated * past.seconds / past.calibrated
        return work_of(self._plan, unit) * past.seconds / max(past.work, 1e-9)
