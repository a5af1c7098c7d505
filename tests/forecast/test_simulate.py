"""The course of a run in time: waves, the order of the stages, teachers that are loaded."""

import math

import pytest

from prism_ray.forecast.simulate import simulate
from prism_ray.plan import Plan
from prism_ray.stages import Unit, stage_of
from tests.plans import config_of, facts_of


def plan_of(num_batches: int, num_students: int = 1) -> Plan:
    config = config_of(
        pool_size=1,
        recover={"ipc": num_batches, "primary": "t0", "iterations": 9, "iterations_step": 0},
        relabel={"images_per_group": 10**6},
        evaluate={"student": {"arch": "timm:x"}, "num_students": num_students, "controls": []},
    )
    return Plan(config, facts_of(2))


def seconds_of(unit: Unit) -> float:
    seconds = {"squeeze": 50.0, "recover": 10.0, "relabel": 5.0, "measure": 0.0, "evaluate": 20.0}
    return 0.0 if "random-real" in unit.id else seconds[stage_of(unit.id)]


@pytest.mark.parametrize(("num_batches", "num_actors"), [(1, 1), (5, 2), (4, 2), (2, 8)])
def test_the_last_wave_is_waited_for(num_batches: int, num_actors: int) -> None:
    """Catches a forecast of units / actors, which forgets that the last wave may have one unit."""
    course = simulate(plan_of(num_batches), frozenset(), num_actors, seconds_of, lambda name: 0.0)
    span = course.spans["recover/distilled"]
    assert span.num_units == num_batches
    assert span.end - span.begin == pytest.approx(10.0 * math.ceil(num_batches / num_actors), abs=1.0)
    labels = 5.0 * math.ceil(3 / num_actors)  # three units
    assert course.end == pytest.approx(50.0 + span.end - span.begin + labels + 20.0, abs=1.0)


def test_what_is_done_takes_no_time() -> None:
    """Catches a forecast of the whole run when half of it is done."""
    plan = plan_of(4)
    done = {unit.id for stage in ("squeeze", "recover") for unit in plan.units(stage)}
    course = simulate(plan, done, 1, seconds_of, lambda name: 0.0)
    assert "recover/distilled" not in course.spans
    assert course.end == pytest.approx(15.0 + 20.0, abs=1.0)
    everything = {
        unit_id
        for stage in ("squeeze", "recover", "relabel", "measure", "evaluate")
        for unit_id in plan.unit_ids(stage)
    }
    assert simulate(plan, everything, 1, seconds_of, lambda name: 0.0).end == 0.0


def test_each_actor_loads_a_teacher_once() -> None:
    """Catches loading that is counted for every unit, or for one actor alone."""
    plan = plan_of(4)
    loaded: list[str] = []

    def load(name: str) -> float:
        loaded.append(name)
        return 3.0

    course = simulate(plan, set(plan.unit_ids("squeeze")), 2, seconds_of, load)
    assert loaded == ["t0", "t0"]
    assert course.spans["recover/distilled"].busy == pytest.approx(4 * 10.0 + 2 * 3.0)


def test_students_of_one_set_begin_while_images_of_another_are_made() -> None:
    """Catches stages that are added up one after the other although they overlap."""
    plan = plan_of(8, num_students=1)
    course = simulate(plan, frozenset(), 4, seconds_of, lambda name: 0.0)
    own, other = course.spans["evaluate/distilled/student"], course.spans["evaluate/random-real/student"]
    assert other.begin <= own.end
    assert course.end < 50.0 + 8 * 10.0
