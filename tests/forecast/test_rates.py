"""The seconds of units from the figures of their steps."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prism_ray.forecast.rates import IterationCost, Rates, kin_of, work_of
from prism_ray.plan import Plan
from tests.plans import config_of, facts_of

GROUPS = {
    "data": {"read_image": 0.001},
    "squeeze/t0": {"step": 0.5, "test_image": 0.01, "rest": 2.0, "load": 0.3},
    "recover/distilled": {"20 t0": 0.2, "20 t0+t1": 0.3, "rest": 1.0},
    "relabel": {"view": 0.01, "rest": 1.0},
    "measure": {"image": 0.1},
    "evaluate/student": {"step": 0.1, "test_image": 0.01, "rest": 1.0},
}


def plan_of(**changes: Any) -> Plan:
    config = config_of(
        pool_size=2,
        **{
            "evaluate__controls": [],
            "relabel__epochs": 10,
            "relabel__epochs_per_unit": 10,
            "recover__selection": {"slots": 0},
            "recover__images_per_batch": 20,
            "recover__ipc_indices_per_batch": 2,
            **changes,
        },
    )
    return Plan(config, facts_of(10, per_class=64))


def seconds(plan: Plan, stage: str, image_set: str | None = "distilled") -> list[float | None]:
    rates = Rates(plan, GROUPS)
    return [rates.seconds(unit) for unit in plan.units(stage, image_set)]


def test_units_are_steps_and_a_rest() -> None:
    """Catches a term of a unit that is left out or counted twice."""
    plan = plan_of()
    teacher, other = seconds(plan, "squeeze", None)
    # 640 images of 20 epochs in batches of 64; two passes over them and two over 10 test images
    assert teacher == pytest.approx(2.0 + 200 * 0.5 + 2 * 640 * 0.001 + 10 * 0.001 + 10 * 0.011)
    assert other is None  # t1 was not measured
    assert seconds(plan, "recover") == [pytest.approx(1.0 + 100 * 0.2)] * 2
    assert seconds(plan, "relabel") == [pytest.approx(1.0 + 10 * 40 * 0.01)]
    assert seconds(plan, "measure") == [pytest.approx(4.0)]
    assert seconds(plan, "evaluate")[0] == pytest.approx(1.0 + 10 * 0.1 + 5 * 10 * 0.011)


def test_large_real_images_are_read_in_every_epoch() -> None:
    """Catches a forecast that forgets to decode a million files twenty times."""
    config = config_of(pool_size=1, data={"source": "image-folder", "path": "x", "image_size": 224})
    plan = Plan(config, facts_of(10, per_class=1000))
    (unit,) = plan.units("squeeze")
    found = Rates(plan, GROUPS).seconds(unit)
    assert found == pytest.approx(2.0 + 3140 * 0.5 + 21 * 10_000 * 0.001 + 10 * 0.011)


def test_ready_weights_are_tested_and_not_trained() -> None:
    """Catches hours of squeeze for teachers that are only loaded."""
    pool = [{"name": "t0", "arch": "timm:x@y"}]
    plan = plan_of(teachers={"pool": pool})
    assert seconds(plan, "squeeze", None)[0] == pytest.approx(2.0 + 650 * 0.011 + 10 * 0.001)


def test_tests_of_students_are_counted() -> None:
    """Catches students that are tested in each epoch and forecast as if they were tested once."""
    (first, *_) = seconds(plan_of(evaluate__test_every=1), "evaluate")
    assert first == pytest.approx(1.0 + 10 * 0.1 + 10 * 10 * 0.011)


def test_a_draw_that_was_not_measured_is_the_sum_of_its_teachers() -> None:
    """Catches the cost of one teacher for a draw of four."""
    cost = IterationCost({"10 a": 1.0, "10 a+b": 1.5, "10 a+c": 3.0, "5 a": 0.6, "rest": 9.0})
    assert cost.of(10, ["b", "a"]) == 1.5
    assert cost.of(10, ["a", "b", "c"]) == pytest.approx(3.5, rel=0.01)
    assert cost.of(5, ["a"]) == pytest.approx(0.6)
    assert cost.of(5, ["a", "c"]) == pytest.approx(1.8)
    with pytest.raises(KeyError):
        IterationCost({"rest": 1.0})


@given(st.dictionaries(st.sampled_from(["a", "a+b", "a+c", "a+b+c"]), st.floats(0.01, 9.0), min_size=1))
def test_no_iteration_has_a_negative_cost(measured: dict[str, float]) -> None:
    """Catches a fit that makes a teacher cheaper than nothing, so that a long run ends before it begins."""
    cost = IterationCost({f"10 {draw}": seconds for draw, seconds in measured.items()})
    for draw in ("a", "b", "c", "abc", "abd"):
        for num_images in (1, 5, 10):
            assert cost.of(num_images, draw) >= 0.0


def test_units_of_a_kind_are_alike_in_any_image_set() -> None:
    """Catches labels whose time is unknown although those of another set are done."""
    plan = plan_of()
    kinds = {
        stage: {kin_of(unit) for unit in plan.units(stage)} for stage in ("recover", "relabel", "evaluate")
    }
    assert kinds["recover"] == {"recover/distilled", "recover/random-real"}
    assert kinds["relabel"] == {"relabel"}
    assert kinds["evaluate"] == {"evaluate/student"}


def test_the_work_of_a_batch_grows_with_its_iterations_and_teachers() -> None:
    """Catches a remaining time that takes the short batches of the last rounds for long ones."""
    (first, *_) = plan_of().units("recover", "distilled")
    (longer, *_) = plan_of(recover__iterations=300).units("recover", "distilled")
    assert work_of(plan_of(recover__iterations=300), longer) == 3 * work_of(plan_of(), first)
