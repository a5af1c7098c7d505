"""Units of a piece of a run, and of them those that are missing."""

import pytest

from prism_ray.plan import Plan
from prism_ray.stages import ALL, Within, find_stage, stage_names
from tests.plans import config_of, facts_of

PLAN = Plan(
    config_of(
        recover__images_per_batch=10,
        relabel__images_per_group=20,
        image_sets={"a": {}, "b": {"method": "edc"}, "c": {"method": "rded"}},
    ),
    facts_of(10, per_class=50),
)


@pytest.mark.parametrize("stage", stage_names())
@pytest.mark.parametrize("within", [ALL, Within("b"), Within("b", 1)])
def test_what_is_missing_are_the_units_without_those_done(stage: str, within: Within) -> None:
    """Catches a stage whose faster way leaves out a unit, or takes units from another set or group."""
    chosen = find_stage(stage)
    units = list(chosen.units(PLAN, within))
    assert [unit.id for unit in units] == list(chosen.ids(PLAN, within))
    assert units == [unit for unit in chosen.units(PLAN) if unit in units]
    done = {unit.id for unit in units[::2]}
    assert list(chosen.missing(PLAN, done, within)) == units[1::2]
    assert 0 < len(units) <= chosen.count(PLAN)


def test_a_group_is_part_of_a_set() -> None:
    """Catches a group that is ignored: labels that wait for the whole set."""
    for stage in ("recover", "relabel"):
        group = list(find_stage(stage).units(PLAN, Within("b", 1)))
        assert 0 < len(group) < len(list(find_stage(stage).units(PLAN, Within("b"))))
