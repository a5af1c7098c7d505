"""The time that a run at work still takes."""

from typing import Any

import pytest

from prism_ray.forecast.remaining import Remaining
from prism_ray.plan import Plan
from prism_ray.run import RunProgress
from prism_ray.run.live import ActorNow, UnitNow
from prism_ray.stages import stages
from prism_ray.store import Commit
from tests.forecast.test_price import ALL
from tests.forecast.test_rates import plan_of


def actors(*units: UnitNow) -> list[ActorNow]:
    return [ActorNow(f"actor-{n}", "host", n, "cpu", (unit,)) for n, unit in enumerate(units)]


IDLE = ActorNow("actor", "host", 1, "cpu")


def commit(unit_id: str, seconds: float) -> Commit:
    return Commit(unit_id, "f", (), {}, seconds, "host", "now")


def left(plan: Plan, groups: Any) -> Remaining:
    return Remaining(plan, groups, RunProgress(plan, {}))


def test_a_calibrated_run_knows_its_end_from_the_start() -> None:
    """Catches a run of days whose end is told only in its last stage."""
    plan = plan_of()
    run = left(plan, ALL)
    seconds = [run._work(unit) for stage in stages() for unit in stage.units(plan)]
    assert run.seconds_left([IDLE]) == pytest.approx(sum(seconds))
    assert run.seconds_left([IDLE] * 2) == pytest.approx(max(sum(seconds) / 2, *seconds), rel=0.1)
    assert left(plan, {}).seconds_left([IDLE]) is None
    assert run.seconds_left([]) is None


def test_it_falls_while_a_unit_runs_and_when_it_is_done() -> None:
    """Catches an end that stands still during a unit of two hours, or jumps when it is done."""
    plan = plan_of()
    run = left(plan, ALL)
    teacher = run._work(next(plan.units("squeeze")))
    before = run.seconds_left([IDLE])
    assert before is not None
    half = run.seconds_left(actors(UnitNow("squeeze/t0", 50, 100)))
    assert half == pytest.approx(before - teacher / 2)
    run.done(commit("squeeze/t0", teacher))
    assert run.seconds_left([IDLE]) == pytest.approx(before - teacher)


def test_units_that_are_done_correct_it() -> None:
    """Catches an end that a calibration on an idle machine promised, when each unit takes twice as long."""
    plan = plan_of()
    run = left(plan, ALL)
    before = run.seconds_left([IDLE])
    first, second = plan.units("recover", "distilled")
    work = run._work(second)
    run.done(commit(first.id, 2 * work))
    assert before is not None
    assert run.seconds_left([IDLE]) == pytest.approx(before)  # one less, the other twice as long
    run.done(commit("evaluate/none/such", 5.0))  # of another config
    assert run.seconds_left([IDLE]) == pytest.approx(before)


def test_without_a_calibration_it_is_known_in_the_last_kind_of_unit() -> None:
    """Catches an estimate that is never made, or made from nothing."""
    plan = plan_of(evaluate__num_students=2)
    run = left(plan, {})
    ids = [unit_id for stage in stages() for unit_id in stage.ids(plan)]
    for unit_id in ids[:-1]:
        run.done(commit(unit_id, 3.0))
    assert run.seconds_left([IDLE]) == pytest.approx(3.0)
    run.done(commit(ids[-1], 3.0))
    assert run.seconds_left([IDLE]) == 0.0
