"""The time that a run at work still takes, from its units so far and a calibration. No torch, no Ray."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from prism_ray.forecast.kept import fitting_figures, read_calibration
from prism_ray.forecast.rates import Groups, Rates, kin_of, work_of
from prism_ray.plan import Plan
from prism_ray.run import Run, RunProgress
from prism_ray.run.live import ActorNow
from prism_ray.stages import Unit, scope_of, stages
from prism_ray.store import Commit, StoreFiles

_MOST_UNITS = 20_000  # whose cost is looked up when a call begins


@dataclass
class _Kind:
    """The units of a kind: those that are done, and those that are left."""

    seconds: float = 0.0  # that those took which are done
    done: float = 0.0  # their work: calibrated seconds if all of the kind have them
    left: float = 0.0  # work of the others
    num_left: int = 0
    is_calibrated: bool = True

    @property
    def rate(self) -> float | None:
        """Seconds for a piece of work; None if it is not known."""
        if self.done > 0.0 and self.seconds > 0.0:
            return self.seconds / self.done
        return 1.0 if self.is_calibrated else None


def remaining_in_store(files: StoreFiles, run: Run, progress: RunProgress) -> "Remaining":
    """Return the estimate of a run, with the calibration in its store if there is one that fits."""
    calibration = read_calibration(files, [])
    groups = {} if calibration is None else fitting_figures(calibration, run.plan, run.num_threads, [])
    return Remaining(run.plan, groups, progress)


class Remaining:
    """How long the missing units of a run take. A run of very many units makes no estimate of the whole."""

    def __init__(self, plan: Plan, groups: Groups, progress: RunProgress) -> None:
        self._plan, self._rates = plan, Rates(plan, groups)
        self._kinds: defaultdict[str, _Kind] = defaultdict(_Kind)
        self._is_small = sum(stage.count(plan) for stage in stages()) <= _MOST_UNITS
        if self._is_small:
            self._sum_up(progress)

    def _sum_up(self, progress: RunProgress) -> None:
        units = [
            (unit, self._kinds[kin_of(unit)], self._rates.seconds(unit))
            for stage in stages()
            for unit in stage.units(self._plan)
        ]
        for _, kind, calibrated in units:
            kind.is_calibrated &= calibrated is not None
        seen: set[str] = set()
        for unit, kind, calibrated in units:
            work = calibrated if kind.is_calibrated and calibrated is not None else work_of(self._plan, unit)
            if unit.id not in progress.done:
                kind.left += work
                kind.num_left += 1
                continue
            kind.done += work
            scope = scope_of(unit.id)
            if scope not in seen:
                seen.add(scope)
                kind.seconds += progress.figures[scope].seconds

    def _work(self, unit: Unit) -> float:
        calibrated = self._rates.seconds(unit) if self._kinds[kin_of(unit)].is_calibrated else None
        return work_of(self._plan, unit) if calibrated is None else calibrated

    def done(self, commit: Commit) -> None:
        """A unit of the run was committed."""
        unit = self._plan.find(commit.unit) if self._is_small else None
        if unit is None:
            return
        kind, work = self._kinds[kin_of(unit)], self._work(unit)
        kind.left, kind.num_left = max(0.0, kind.left - work), kind.num_left - 1
        kind.done += work
        kind.seconds += commit.seconds

    def seconds_left(self, actors: Sequence[ActorNow]) -> float | None:
        """Return the seconds until the run ends with these actors; None if a kind of units is unknown."""
        if not self._is_small or not actors:
            return None
        total = longest = 0.0
        for kind in self._kinds.values():
            if kind.num_left <= 0:
                continue
            if kind.rate is None:
                return None
            total += kind.rate * kind.left
            longest = max(longest, kind.rate * kind.left / kind.num_left)
        for now in (unit for actor in actors for unit in actor.units[:1]):
            unit = self._plan.find(now.unit)
            if unit is None:
                continue
            kind = self._kinds[kin_of(unit)]
            if kind.num_left > 0 and kind.rate is not None:  # else its commit was counted meanwhile
                total -= now.share * kind.rate * self._work(unit)
                longest = max(0.0, longest - now.share * kind.rate * self._work(unit))
        return max(0.0, total / len(actors), longest)
