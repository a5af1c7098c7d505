"""A batch of a method by the engine, and the comparison with the plain calculation."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prism_ray.config import Config, RecoverConfig, parse_config
from prism_ray.data import DataFacts
from prism_ray.plan import Plan
from prism_ray.recover.augment import Augmentation
from prism_ray.recover.engine import joining_order, optimise, recover_batch
from prism_ray.recover.objective import Losses, Objective
from prism_ray.recover.setting import RecoverSetting
from prism_ray.recover.space import ReferenceSpace
from prism_ray.seeds import derive_seed
from prism_ray.stages.recover import RecoverUnit
from prism_ray.teachers.layers import LayerReference, TeacherReference
from prism_ray.teachers.teacher import Teacher
from tests.recover.plain_methods import (
    PATCH,
    SIZE,
    BoxFlipRoll,
    PlainMethod,
    PlainPath,
    PlainReference,
    PlainTeacher,
    Values,
    plain_forward,
    plain_optimise,
    plain_statistics,
)

CPU = torch.device("cpu")
NUM_CLASSES = 5
PRIORS = {"striding": 43.1, "depthwise": 41.37, "efficient": 38.9}
POOL = tuple(PRIORS)

SeeAugmentation = Callable[[Augmentation, int, int, int], BoxFlipRoll]


class RecordingObjective(Objective):
    """Keeps the losses and draws of all iterations."""

    def __init__(self, setting: RecoverSetting) -> None:
        super().__init__(setting)
        self.losses: list[Values] = []
        self.draws: list[tuple[str, ...]] = []

    def __call__(self, x: Tensor, draw: tuple[str, ...]) -> Losses:
        losses = super().__call__(x, draw)
        named = {"total": losses.total, "ce": losses.ce, "bn": losses.bn}
        named |= {f"R {name}": value for name, value in losses.alignments.items()} | losses.terms
        self.losses.append({name: float(value.detach()) for name, value in named.items()})
        self.draws.append(draw)
        return losses


class RecordingAugmentation(Augmentation):
    """Keeps how many images each iteration has, and its pixels before the crop."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.seen: list[Tensor] = []

    def __call__(self, x: Tensor, iteration: int) -> Tensor:
        self.seen.append(x.detach().clone())
        return super().__call__(x, iteration)


def configure(method: str, **recover: Any) -> Config:
    """Return a config of the method's preset, of the three teachers of these tests; `recover` overrides."""
    return parse_config(
        {
            "store": "nowhere",
            "data": {"source": "digits", "image_size": SIZE},
            "teachers": {"pool": [{"name": name, "arch": "timm:x"} for name in POOL]},
            "recover": {"method": method, "primary": "striding", **recover},
            "evaluate": {"student": {"arch": "timm:x"}},
        },
        "test",
    )


def batches_of(config: Config) -> Iterator[RecoverUnit]:
    facts = DataFacts(
        class_names=tuple(f"class {label}" for label in range(NUM_CLASSES)),
        train_counts=(100,) * NUM_CLASSES,
        num_test_images=NUM_CLASSES,
        channels=3,
        identity="test",
    )
    return Plan(config, facts).units("recover", "distilled")


def plain(teacher: Teacher) -> PlainTeacher:
    shape = teacher.preprocessing
    return PlainTeacher(teacher.network, shape.mean, shape.std, shape.size)


def make_references(
    teachers: Mapping[str, Teacher],
) -> dict[str, tuple[PlainReference, dict[int, PlainReference]]]:
    """Random statistics of real images: of each teacher over all of them, and class by class."""
    generator = torch.Generator().manual_seed(4)

    def draw(shapes: Mapping[str, tuple[int, ...]]) -> PlainReference:
        return {
            name: tuple(
                torch.randn(length, generator=generator)
                if place % 2 == 0  # means, then variances
                else 0.3 + torch.rand(length, generator=generator)
                for place, length in enumerate(lengths)
            )
            for name, lengths in shapes.items()
        }

    references = {}
    for name, teacher in teachers.items():
        with torch.no_grad():
            _, seen = plain_forward(plain(teacher), torch.rand(2, 3, SIZE, SIZE), True)
            shapes = {
                layer_name: tuple(
                    len(part) for part in plain_statistics(features, isinstance(layer, nn.Conv2d))
                )
                for layer_name, layer, features in seen
            }
        references[name] = draw(shapes), {label: draw(shapes) for label in range(NUM_CLASSES)}
    return references


def given(reference: PlainReference) -> dict[str, LayerReference]:
    return {name: LayerReference(*parts) for name, parts in reference.items()}


@dataclass
class Run:
    """One batch of a method, by the engine and by the plain calculation."""

    config: RecoverConfig
    unit: RecoverUnit
    setting: RecoverSetting
    start: Tensor
    path: list[Tensor]  # x before each iteration (all rows, in joining order), and after the last
    counts: list[int]  # images that took part in each iteration
    losses: list[Values]
    draws: list[tuple[str, ...]]
    gradient: Tensor  # of the last iteration
    augmentations: list[BoxFlipRoll]


def run_engine(
    config: Config,
    unit: RecoverUnit,
    teachers: Mapping[str, Teacher],
    see_augmentation: SeeAugmentation,
    references: Mapping[str, TeacherReference] | None = None,
    channels: int = 3,
) -> Run:
    recover = config.image_sets["distilled"]
    assert isinstance(recover, RecoverConfig)
    space = ReferenceSpace.of(teachers[recover.primary].preprocessing, channels, CPU)
    setting = RecoverSetting(
        unit=unit,
        config=recover,
        teachers=teachers,
        labels=torch.tensor([slot.label for slot in unit.slots]),
        space=space,
        image_size=SIZE,
        device=CPU,
        references=references or {},
        patch_size=PATCH,
        priors=PRIORS,
    )
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(len(unit.slots), channels, SIZE, SIZE, generator=generator)
    if recover.init != "noise":
        start = space.clamp_(0.5 * start)
    augment = RecordingAugmentation(
        recover, unit.num_iterations, SIZE, derive_seed(unit.seed, "augment"), CPU
    )
    in_order = torch.from_numpy(joining_order(unit))
    x = start[in_order].clone()
    ordered = RecoverSetting(**{**vars(setting), "labels": setting.labels[in_order]})
    with RecordingObjective(ordered) as objective:
        optimise(x, ordered, objective, augment)
    assert x.grad is not None
    seen, objective_losses = list(augment.seen), list(objective.losses)
    jitter = min(recover.jitter, SIZE - 1)  # a roll by 12 of 12 pixels is none
    drawn = [see_augmentation(augment, i, SIZE, jitter) for i in range(unit.num_iterations)]
    path = [*seen, x.detach()]
    counts = [len(rows) for rows in seen]
    return Run(recover, unit, setting, start, path, counts, objective_losses, objective.draws, x.grad, drawn)


def compare(
    run: Run, method: PlainMethod, learning_rate: float, joins_at: Sequence[int] | None = None
) -> PlainPath:
    """Hold the engine's run against the plain one: pixels, losses, gradient; return the plain one.

    `joins_at` says in which iteration each image of the batch joins, by its place in the unit.
    """
    num_iterations = run.unit.num_iterations
    joins_at = joins_at or [0] * len(run.unit.slots)
    expected = plain_optimise(
        method,
        run.start,
        [slot.label for slot in run.unit.slots],
        run.draws,
        run.augmentations,
        [[row for row, at in enumerate(joins_at) if at <= i] for i in range(num_iterations)],
        learning_rate,
        method.teachers["striding"],
    )
    assert len(run.losses) == len(expected.losses) == num_iterations
    for iteration, (ours, theirs) in enumerate(zip(run.losses, expected.losses, strict=True)):
        assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-12), f"iteration {iteration}"
    order = list(joining_order(run.unit))
    for ours_x, theirs_x in zip(run.path, expected.pixels, strict=True):
        torch.testing.assert_close(ours_x, theirs_x[order][: len(ours_x)], rtol=0, atol=1e-8)
    torch.testing.assert_close(
        run.gradient,
        expected.gradient[order],
        rtol=0,
        atol=1e-9 * float(expected.gradient.abs().max()),
    )
    images = recover_batch(run.setting, run.start.clone()).images
    mean, std = run.setting.space.mean, run.setting.space.std
    pixels = (expected.pixels[-1] * std + mean).numpy() * 255.0
    assert np.abs(images - pixels).max() <= 0.5 + 1e-5
    return expected


def check_gradient_by_finite_differences(run: Run, expected: PlainPath) -> None:
    """The engine's gradient of the last iteration against differences of the plain loss."""
    x, step = expected.pixels[-2], 1e-6
    order = list(joining_order(run.unit))
    for row, channel, i, j in [(0, 0, 3, 4), (1, 2, 5, 7), (2, 1, 8, 6), (-1, 0, 6, 2), (-2, 2, 4, 9)]:
        place = order[row]
        values = []
        for sign in (1.0, -1.0):
            moved = x.clone()
            moved[place, channel, i, j] += sign * step
            values.append(float(expected.last(moved)))
        slope = (values[0] - values[1]) / (2 * step)
        assert float(run.gradient[row, channel, i, j]) == pytest.approx(slope, rel=1e-5, abs=1e-7)


def plain_pool(teachers: Mapping[str, Teacher]) -> dict[str, PlainTeacher]:
    return {name: plain(teacher) for name, teacher in teachers.items()}
