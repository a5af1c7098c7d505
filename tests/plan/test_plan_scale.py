"""Plans of large runs: ids without units, units one by one, and how many bytes will be written."""

import numpy as np
import pytest

from prism_ray.config import DISTILLED
from prism_ray.config.resolve import CONTROL
from prism_ray.parts.images import encode_images
from prism_ray.plan import Plan
from prism_ray.stages import stage_names
from prism_ray.stages.formation import Slot
from prism_ray.stages.recover import RecoverUnit, batch
from prism_ray.stages.relabel import RelabelUnit
from tests.effort import counted_calls
from tests.plans import config_of, facts_of

# Lazy


@pytest.mark.parametrize("method", ["prism", "delt", "rded"])
def test_ids_without_draws_are_those_of_the_units(method: str) -> None:
    """Progress that looks for other commits than the units write."""
    config = config_of(
        recover__method=method, recover__ipc=5, recover__images_per_batch=4, relabel__images_per_group=10
    )
    plan = Plan(config, facts_of(3))
    for stage in stage_names():
        assert list(plan.unit_ids(stage)) == [unit.id for unit in plan.units(stage)]


def test_finding_the_ids_draws_no_teachers() -> None:
    """`status` that takes a minute, because every batch draws its teachers thousands of times."""
    config = config_of(recover__ipc=2000, recover__selection={"redraw": 1}, recover__iterations_step=0)
    with counted_calls() as calls:
        assert sum(1 for _ in Plan(config, facts_of(1)).unit_ids("recover")) == 2 * 2000
        assert sum(1 for _ in Plan(config, facts_of(1)).unit_ids("relabel")) == 2 * 2 * 3
    assert calls.number < 4000 * 100


def test_a_plan_of_a_million_batches_is_lazy() -> None:
    """A driver that makes all units, or counts them one by one, before it starts the first."""
    config = config_of(recover__ipc=10**6, relabel__images_per_group=10, relabel__epochs=10**6)
    with counted_calls() as calls:
        plan = Plan(config, facts_of(1))
        assert plan.formation(DISTILLED).num_batches == 10**6
        assert plan.num_units("recover") == 2 * 10**6
        assert plan.num_units("relabel") == 2 * 10**5 * 10**4
        first = next(plan.units("recover"))
        label = next(plan.units("relabel"))
        last = batch(plan, CONTROL, 10**6 - 1)
    assert isinstance(first, RecoverUnit)
    assert first.slots == (Slot(0, 0),)
    assert isinstance(label, RelabelUnit)
    assert len(label.batch_ids) == 10
    assert last.slots == (Slot(0, 10**6 - 1),)
    assert calls.number < 10_000


# Estimates


def test_the_estimate_of_image_bytes_is_near_the_truth() -> None:
    """A promise of megabytes for a run that writes gigabytes (a factor of bits, channels or sets)."""
    config = config_of(recover__ipc=10, data__image_size=64)
    plan = Plan(config, facts_of(10))
    rng = np.random.default_rng(0)
    written = 0
    for image_set in plan.image_sets:
        for unit in plan.units("recover", image_set):
            noise = rng.integers(0, 256, (len(unit.slots), 3, 64, 64), dtype=np.uint8)
            written += len(encode_images(unit, noise, plan.facts.class_names))
    assert 0.8 < plan.estimated_image_bytes() / written < 1.25
