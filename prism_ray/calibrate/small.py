"""A small run with the networks, the batches and the resolution of a large one, to measure its steps.

It has as many classes as a batch, and an image set of real images for labels and students. No torch.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

from prism_ray.calibrate.few import FewImages
from prism_ray.config import AnyImageSet, Config, RecoverConfig
from prism_ray.config.recover import SelectConfig
from prism_ray.data import RealImages
from prism_ray.plan import Plan
from prism_ray.stages import Within
from prism_ray.stages.formation import Slot
from prism_ray.stages.recover import STAGE as RECOVER
from prism_ray.stages.recover import RecoverUnit

IMAGES = "calibration-images"  # the image set of labels and students
_SMALL_SIDE = 64  # pixels; steps of larger images take so long that a few of them are enough
_SMALL_STEPS = 40  # of a student, with small images
_MAX_BATCHES = 200  # whose draws are looked at


@dataclass(frozen=True)
class Batch:
    """The batch of an image set that is measured, and what the batches of the set have in it."""

    slots: tuple[Slot, ...]  # of the largest batch, with classes and IPC indices from 0
    draws: tuple[tuple[str, ...], ...]  # all of the set, those of most iterations first
    sizes: tuple[int, int]  # fewest and most images that take part in an iteration


@dataclass(frozen=True)
class SmallRun:
    """The config and the images of the small run."""

    config: Config
    data: FewImages
    batches: dict[str, Batch]  # by image set, for those that are optimised
    num_epochs: int  # of labels and students


def small_run(plan: Plan, data: RealImages, store: str, input_sizes: dict[str, int]) -> SmallRun:
    """Return the small run of a plan, in another store; `input_sizes` has each teacher's pixels of a side."""
    config, size = plan.config, plan.config.data.image_size
    is_small = size <= _SMALL_SIDE
    batches = {
        name: _batch(plan, name)
        for name, image_set in config.image_sets.items()
        if isinstance(image_set, RecoverConfig)
    }
    slots = [slot for batch in batches.values() for slot in batch.slots]
    batch_size = max(evaluation.batch_size for evaluation in config.evaluations.values())
    most = max(plan.num_images(name) for name in plan.image_sets)
    num_classes = min(plan.facts.num_classes, max(2, 1 + max((s.label for s in slots), default=9)))
    wanted = min(most, 2 * batch_size)
    ipc = -(-wanted // num_classes)
    own = max((slot.ipc_index for slot in slots), default=0) + 1
    patches = config.collect.rded_patches_per_side**2
    needed = max(ipc, own) * (patches if any(s.init == "rded" for s in config.image_sets.values()) else 1)
    num_steps = 3 * config.teachers.squeeze.batch_size
    few = FewImages(data, num_classes, max(needed, -(-num_steps // num_classes)), 256 if is_small else 64)
    image_sets: dict[str, AnyImageSet] = {
        name: image_set.model_copy(
            update={"ipc": min(image_set.ipc, own), "replicate": 0}
            | ({"iterations_step": 0} if isinstance(image_set, RecoverConfig) else {})
        )
        for name, image_set in config.image_sets.items()
    }
    image_sets[IMAGES] = SelectConfig(
        method="random-real",
        ipc=ipc,
        primary=config.primary,
        images_per_batch=ipc * num_classes,
        ipc_indices_per_batch=ipc,
    )
    pool = tuple(
        teacher.model_copy(
            update={
                "arch": teacher.without_weights().arch,
                "class_indices": None,
                "weights_by": "name",
                "input_size": input_sizes[teacher.name],
            }
        )
        for teacher in config.teachers.pool
    )
    steps_per_epoch = -(-ipc * num_classes // batch_size)
    num_epochs = max(5, _SMALL_STEPS // steps_per_epoch) if is_small else 3
    priors = {teacher.name: 50.0 for teacher in pool}
    update: dict[str, Any] = {
        "image_sets": image_sets,
        "teachers": config.teachers.model_copy(
            update={
                "pool": pool,
                "squeeze": config.teachers.squeeze.model_copy(update={"epochs": 10 if is_small else 1}),
            }
        ),
        "collect": config.collect.model_copy(update={"classes_per_unit": num_classes}),
        "relabel": config.relabel.model_copy(
            update={
                "epochs": num_epochs,
                "epochs_per_unit": num_epochs,
                "prune_ratio": 0.0,
                "images_per_group": ipc * num_classes,
                "priors": priors if config.relabel.ensemble == "prior" else {},
            }
        ),
        "evaluations": {
            key: evaluation.model_copy(
                update={"image_sets": None, "full_data_epochs": None, "test_every": 10**6, "split": "test"}
            )
            for key, evaluation in config.evaluations.items()
        },
        "data": config.data.model_copy(update={"validation_fraction": 0.0, "num_classes": None}),
        "trackers": (),
    }
    return SmallRun(config.model_copy(update=update).with_store(store), few, batches, num_epochs)


def _batch(plan: Plan, image_set: str) -> Batch:
    units = list(islice(RECOVER.units(plan, Within(image_set)), _MAX_BATCHES))
    largest = max(units, key=lambda unit: len(unit.slots))
    labels = {label: n for n, label in enumerate(dict.fromkeys(slot.label for slot in largest.slots))}
    indices = {index: n for n, index in enumerate(dict.fromkeys(slot.ipc_index for slot in largest.slots))}
    slots = tuple(Slot(labels[slot.label], indices[slot.ipc_index]) for slot in largest.slots)
    counts: Counter[tuple[str, ...]] = Counter()
    sizes: set[int] = set()
    for unit in units:
        for number, num_iterations in iterations_by(plan, unit).items():
            counts[number[1]] += num_iterations
            sizes.add(number[0])
    draws = tuple(draw for draw, _ in counts.most_common())
    return Batch(slots, draws, (min(sizes), max(sizes)))


def iterations_by(plan: Plan, unit: RecoverUnit) -> Counter[tuple[int, tuple[str, ...]]]:
    """Return how many iterations of a batch have each number of images and draw."""
    config = plan.config.image_sets[unit.image_set]
    assert isinstance(config, RecoverConfig)
    total = unit.num_iterations
    redraw = config.selection.redraw if isinstance(config.selection.redraw, int) else total
    counts: Counter[tuple[int, tuple[str, ...]]] = Counter()
    joins = sorted(unit.iterations, reverse=True)  # an image takes part in the last so many iterations
    bounds = sorted({0, total, *(total - n for n in joins), *range(redraw, total, redraw)})
    for first, last in pairwise(bounds):
        num_images = sum(n >= total - first for n in joins)
        counts[num_images, tuple(sorted(unit.draws[first // redraw]))] += last - first
    return counts
