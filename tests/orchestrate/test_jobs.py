"""Units of several runs: their ids are unique, and the stage is still the first part."""

import pickle

import pytest

from prism_ray.orchestrate.jobs import JobUnit
from prism_ray.orchestrate.scheduler import Ready, Scheduler
from prism_ray.stages import scope_of, stage_of
from prism_ray.stages.measure import MeasureUnit
from prism_ray.store import StoreFiles


def unit(number: int, name: str = "distilled") -> JobUnit:
    return JobUnit(number, StoreFiles(f"runs/{number}"), MeasureUnit(name, 0))


def test_ids_are_unique_among_runs() -> None:
    """Catches two units at one actor of which only one is stopped, and durations mixed up between runs."""
    one, other = unit(0), unit(1)
    assert one.id != other.id
    assert stage_of(one.id) == stage_of(other.id) == "measure"
    assert scope_of(one.id) != scope_of(other.id)
    assert pickle.loads(pickle.dumps(one)).id == one.id


@pytest.mark.parametrize("num_taken", [0, 1])
def test_units_of_a_run_that_has_ended_are_discarded(num_taken: int) -> None:
    """Catches work that nobody needs, and a scheduler that waits for units that are gone."""
    scheduler = Scheduler(Ready([unit(0), unit(0, "other"), unit(1)]))
    scheduler.add_actor("x")
    for _ in range(num_taken):
        first = scheduler.assign("x", 0.0)
        assert first is not None
        assert first.id == unit(0).id
        assert scheduler.running_at("x") is first
    assert scheduler.num_waiting == 3 - num_taken
    scheduler.discard(lambda each: isinstance(each, JobUnit) and each.number == 0)
    assert scheduler.num_waiting == 1
    for _ in range(num_taken):
        scheduler.done("x", unit(0).id, 1.0)
    last = scheduler.assign("x", 1.0)
    assert last is not None
    assert last.id == unit(1).id
    scheduler.done("x", unit(1).id, 1.0)
    assert scheduler.finished
