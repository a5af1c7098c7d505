"""The seconds of units from those that are done."""

from collections import defaultdict
from dataclasses import replace
from typing import Any

import pytest

from prism_ray.forecast.costs import Costs
from prism_ray.plan import Plan
from prism_ray.run import RunProgress
from prism_ray.run.progress import Sums
from tests.forecast.test_rates import GROUPS, plan_of


def progress_of(plan: Plan, seconds: dict[str, float], done: set[str]) -> RunProgress:
    figures: Any = defaultdict(Sums, {scope: Sums(value) for scope, value in seconds.items()})
    return replace(RunProgress(plan, dict.fromkeys(done, 1)), figures=figures)


def test_units_that_are_done_decide() -> None:
    """Catches a forecast that believes a calibration although the run itself is twice as slow."""
    plan = plan_of()
    first, second = plan.units("recover", "distilled")
    progress = progress_of(plan, {"recover/distilled": 42.0}, {first.id})
    assert Costs(plan, GROUPS, progress).seconds(second) == pytest.approx(42.0)
    assert Costs(plan, {}, progress).seconds(second) == pytest.approx(42.0)
    assert Costs(plan, GROUPS, None).seconds(second) == pytest.approx(21.0)
    assert Costs(plan, {}, None).seconds(second) is None


def test_without_a_calibration_a_longer_unit_takes_longer() -> None:
    """Catches a mean over units, where the last rounds have fewer iterations than the first."""
    plan = plan_of(recover__iterations=300, recover__iterations_step=100)
    first, second = plan.units("recover", "distilled")  # 300 and 200 iterations
    progress = progress_of(plan, {"recover/distilled": 42.0}, {first.id})
    assert Costs(plan, {}, progress).seconds(second) == pytest.approx(28.0)


def test_students_of_one_set_tell_about_those_of_another() -> None:
    """Catches an unknown time of the last image set, whose students are like those that are done."""
    plan = plan_of(evaluate__num_students=1)
    own, other = plan.units("evaluate")
    progress = progress_of(plan, {"evaluate/distilled/student": 8.0}, {own.id})
    costs = Costs(plan, {}, progress)
    assert costs.seconds(other) == pytest.approx(8.0)
    assert costs.is_measured(other)
    (teacher, _) = plan.units("squeeze")
    assert costs.seconds(teacher) is None
    assert not costs.is_measured(teacher)
