"""The small run, and the iterations of a batch by images and draw."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prism_ray.calibrate.small import IMAGES, iterations_by, small_run
from prism_ray.config import Config, RecoverConfig
from prism_ray.data.base import ArrayImages
from prism_ray.plan import Plan
from prism_ray.run.plan_file import new_run
from tests.plans import config_of, facts_of


@given(
    formation=st.sampled_from(["cross-class", "joint", "class-wise"]),
    step=st.integers(0, 9),
    redraw=st.sampled_from(["round", "batch", 1, 7, 60]),
    ipc=st.integers(1, 6),
)
def test_iterations_are_counted_once(formation: str, step: int, redraw: Any, ipc: int) -> None:
    """Catches a forecast that counts iterations of images that have not joined, or a draw twice."""
    config = config_of(
        recover={
            "ipc": ipc,
            "primary": "t0",
            "iterations": 100,
            "iterations_step": step,
            "iterations_cycle": 8,
            "formation": formation,
            "selection": {"redraw": redraw, "slots": 2},
        }
    )
    plan = Plan(config, facts_of(3))
    for unit in plan.units("recover", "distilled"):
        counts = iterations_by(plan, unit)  # type: ignore[arg-type]
        assert sum(n * count for (n, _), count in counts.items()) == sum(unit.iterations)  # type: ignore[attr-defined]
        assert sum(counts.values()) == unit.num_iterations  # type: ignore[attr-defined]
        every = redraw if isinstance(redraw, int) else 100
        draws: Counter[tuple[str, ...]] = Counter()
        for iteration in range(unit.num_iterations):  # type: ignore[attr-defined]
            draws[tuple(sorted(unit.draws[iteration // every]))] += 1  # type: ignore[attr-defined]
        by_draw: Counter[tuple[str, ...]] = Counter()
        for (_, draw), count in counts.items():
            by_draw[draw] += count
        assert by_draw == draws


def images(num_classes: int, per_class: int) -> ArrayImages:
    labels = np.repeat(np.arange(num_classes), per_class)
    pixels = np.zeros((len(labels), 8, 8), np.uint8)
    names = tuple(f"c{label}" for label in range(num_classes))
    return ArrayImages("grey", names, {"train": pixels, "test": pixels}, {"train": labels, "test": labels}, 8)


def small(config: Config, num_classes: int) -> Any:
    data = images(num_classes, 30)
    sizes = {teacher.name: 32 for teacher in config.teachers.pool}
    return small_run(Plan(config, data.facts()), data, "somewhere/else", sizes)


@pytest.mark.parametrize("formation", ["cross-class", "joint", "class-wise"])
def test_it_has_the_batches_and_networks_of_the_large_run(formation: str) -> None:
    """Catches a calibration of smaller batches or other networks than those of the run."""
    config = config_of(
        recover={
            "ipc": 20,
            "primary": "t0",
            "iterations": 4000,
            "iterations_step": 0,
            "images_per_batch": 40,
            "formation": formation,
        }
    )
    made = small(config, 200)
    plan = Plan(config, images(200, 30).facts())
    largest = max(len(unit.slots) for unit in plan.units("recover", "distilled"))  # type: ignore[attr-defined]
    assert len(made.batches["distilled"].slots) == largest
    classes = {slot.label for slot in made.batches["distilled"].slots}
    assert classes == set(range(len(classes)))
    assert len(made.data.class_names) == max(2, len(classes))
    assert [t.arch for t in made.config.teachers.pool] == [t.arch for t in config.teachers.pool]
    assert new_run(made.config, made.data.facts(), 1).plan.num_images(IMAGES) >= 2 * 50
    assert isinstance(made.config.image_sets["distilled"], RecoverConfig)


def test_weights_are_left_out() -> None:
    """Catches a calibration that downloads weights, or needs their files, which cost nothing in a step."""
    pool = [{"name": "t0", "arch": "timm:x@./w.pth", "class_indices": [5, 6], "weights_by": "position"}]
    config = config_of(teachers={"pool": pool})
    (teacher,) = small(config, 2).config.teachers.pool
    assert (teacher.arch, teacher.class_indices, teacher.weights) == ("timm:x", None, None)
