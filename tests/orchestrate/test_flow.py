"""The flow of recover, relabel and evaluate: nothing begins before what it builds on, nor waits longer."""

import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prism_ray.orchestrate.flow import Flow
from prism_ray.plan import Plan
from prism_ray.stages import Unit, Within, relabel, stages
from prism_ray.stages.evaluate import EvaluateUnit, students
from prism_ray.stages.measure import MeasureUnit
from prism_ray.stages.recover import RecoverUnit
from prism_ray.stages.relabel import RelabelUnit
from tests.plans import config_of, facts_of

OVERLAPPING = tuple(stage.name for stage in stages() if stage.overlaps)


def plan_of(epochs_per_unit: int = 4, images_per_group: int = 20, formation: str = "cross-class") -> Plan:
    """Two image sets of 40 images in batches of 10; 10 label epochs; two evaluations."""
    config = config_of(
        recover__images_per_batch=10,
        recover__formation=formation,
        relabel__epochs=10,
        relabel__epochs_per_unit=epochs_per_unit,
        relabel__images_per_group=images_per_group,
        image_sets={"a": {}, "b": {}},
        evaluations={"student": {"num_students": 2}, "other": {"image_sets": ["b"]}},
    )
    return Plan(config, facts_of(10))


def needs(plan: Plan, unit: Unit) -> set[str]:
    """Ids of the units that a unit builds on."""
    if isinstance(unit, RelabelUnit):
        return set(unit.batch_ids)
    if isinstance(unit, MeasureUnit):
        return set(plan.unit_ids("recover", unit.image_set))
    if isinstance(unit, EvaluateUnit):
        return {label.id for label in plan.units("relabel", unit.image_set)}
    return set()


def all_units(plan: Plan, names: Sequence[str] = OVERLAPPING) -> dict[str, Unit]:
    return {unit.id: unit for stage in names for unit in plan.units(stage)}


@given(
    epochs_per_unit=st.integers(1, 12),
    images_per_group=st.integers(1, 50),
    formation=st.sampled_from(["cross-class", "joint", "class-wise"]),
    num_taken=st.integers(1, 10),
    share_committed=st.floats(0, 1),
    rng=st.randoms(use_true_random=False),
)
def test_every_unit_comes_once_and_after_what_it_builds_on(
    epochs_per_unit: int,
    images_per_group: int,
    formation: str,
    num_taken: int,
    share_committed: float,
    rng: random.Random,
) -> None:
    """Catches labels of half a group, students without labels, units left out or given twice."""
    plan = plan_of(epochs_per_unit, images_per_group, formation)
    units = all_units(plan)
    committed: set[str] = set()
    for unit_id, unit in units.items():  # in the order of the stages
        if needs(plan, unit) <= committed and rng.random() < share_committed:
            committed.add(unit_id)
    done = set(committed)
    flow = Flow(plan, OVERLAPPING, frozenset(committed))
    held: list[Unit] = []
    taken: list[str] = []
    while True:
        while len(held) < num_taken and (unit := flow.take()) is not None:
            assert needs(plan, unit) <= done
            assert unit == units[unit.id]
            held.append(unit)
            taken.append(unit.id)
        if not held:
            break
        unit = held.pop(rng.randrange(len(held)))
        done.add(unit.id)
        flow.done(unit)
    assert sorted(taken) == sorted(units.keys() - committed)


def run(flow: Flow, is_done: Callable[[Unit], bool]) -> list[str]:
    """Take all there is; what `is_done` says is committed at once. Return what was taken."""
    taken = []
    while (unit := flow.take()) is not None:
        taken.append(unit.id)
        if is_done(unit):
            flow.done(unit)
    return taken


def test_labels_and_students_do_not_wait_for_other_sets() -> None:
    """Catches stages one after the other: GPUs that idle at the end of each."""
    taken = run(Flow(plan_of(), OVERLAPPING, frozenset()), lambda unit: True)
    first_label = taken.index("relabel/a/g00000-e00000")
    assert first_label < taken.index("recover/a/i00003-c00000")
    assert taken.index("evaluate/a/student/s000") < taken.index("recover/b/i00000-c00000")


def test_what_waits_for_a_failed_unit_is_not_begun() -> None:
    """Catches a student trained on the images that happened to come through, and others that wait with it."""
    plan = plan_of()
    failed = "recover/a/i00002-c00000"
    taken = run(Flow(plan, OVERLAPPING, frozenset()), lambda unit: unit.id != failed)
    missing = all_units(plan).keys() - set(taken)
    assert missing == {
        "measure/a",
        *(unit.id for unit in students(plan, "a", "student")),
        *(unit.id for unit in relabel.STAGE.units(plan, Within("a", 1))),
    }


@pytest.mark.parametrize("stage", OVERLAPPING)
def test_one_stage_alone_takes_the_units_of_no_other(stage: str) -> None:
    """Catches `prism-ray relabel` that goes on to train students."""
    plan = plan_of()
    before = [name for name in OVERLAPPING if name != stage]
    committed = frozenset(all_units(plan, before))
    taken = run(Flow(plan, (stage,), committed), lambda unit: True)
    assert sorted(taken) == sorted(unit.id for unit in plan.units(stage))


def test_memory_does_not_grow_with_the_plan() -> None:
    """Catches a flow that lists its units, which a run of a million would not survive."""
    flow = Flow(plan_of(images_per_group=10), OVERLAPPING, frozenset())
    held: list[Unit] = []
    most = 0
    while (unit := flow.take()) is not None or held:
        if unit is not None:
            held.append(unit)
        if unit is None or len(held) > 2:
            flow.done(held.pop(0))
        most = max(most, len(flow._num_missing) + len(flow._span_of))
    assert most <= 16  # units and their spans, of 40 in all
    assert not flow._span_of
    assert not flow._num_missing


def test_a_run_that_is_done_has_nothing_left() -> None:
    """Catches work done again when a finished run is called once more."""
    plan = plan_of()
    assert Flow(plan, OVERLAPPING, frozenset(all_units(plan))).take() is None


def test_the_units_are_those_of_the_plan() -> None:
    """Catches the test above comparing nothing with nothing."""
    kinds = {type(unit) for unit in all_units(plan_of()).values()}
    assert kinds == {RecoverUnit, RelabelUnit, MeasureUnit, EvaluateUnit}
