"""Each method's preset, run by the engine, against a plain calculation of the whole optimisation.

The calculation in the upper half is written from the published formulas and has the published constants in
it: it knows torch and torchvision, and of the package nothing but the numbers that it is given. It steps
through the optimisation on its own (forward passes, statistics, votes, Adam, clipping), so that a step that
goes astray shows in all later ones. What is drawn (teachers, crops, flips, rolls) it is told.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as TF

from prism_ray.config import Config, RecoverConfig, parse_config
from prism_ray.data import DataFacts
from prism_ray.plan import Plan
from prism_ray.recover.augment import Augmentation
from prism_ray.recover.engine import joining_order, optimise, recover_batch
from prism_ray.recover.objective import Losses, Objective
from prism_ray.recover.setting import RecoverSetting
from prism_ray.recover.space import ReferenceSpace
from prism_ray.seeds import derive_seed
from prism_ray.teachers.layers import LayerReference, TeacherReference
from prism_ray.teachers.teacher import Teacher
from prism_ray.units import RecoverUnit

CPU = torch.device("cpu")
SIZE, NUM_CLASSES, PATCH = 12, 5, 4

BoxFlipRoll = tuple[int, int, int, int, bool, int, int]  # top, left, height, width, flip, down, right
SeeAugmentation = Callable[[Augmentation, int, int, int], BoxFlipRoll]
Values = dict[str, float]

# --- the plain calculation ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlainTeacher:
    network: nn.Module
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    size: int


# layer -> (channel mean, channel variance) or (channel mean, channel variance, patch mean, patch variance)
PlainReference = dict[str, tuple[Tensor, ...]]


def plain_forward(
    teacher: PlainTeacher, pixels: Tensor, with_convolutions: bool
) -> tuple[Tensor, list[tuple[str, nn.Module, Tensor]]]:
    """Return the logits of pixels in [0, 1], and name, layer and input of what ran, in that order."""
    seen: list[tuple[str, nn.Module, Tensor]] = []
    handles = []
    for name, layer in teacher.network.named_modules():
        if isinstance(layer, nn.BatchNorm2d) or (with_convolutions and isinstance(layer, nn.Conv2d)):
            handles.append(
                layer.register_forward_hook(
                    lambda layer, inputs, output, name=name: seen.append((name, layer, inputs[0]))
                )
            )
    z = pixels.expand(-1, 3, -1, -1)
    if teacher.size != pixels.shape[2]:
        z = TF.resize(z, [teacher.size, teacher.size], antialias=True)
    mean, std = torch.tensor(teacher.mean)[:, None, None], torch.tensor(teacher.std)[:, None, None]
    logits = teacher.network((z - mean) / std)
    for handle in handles:
        handle.remove()
    return logits, seen


def plain_cross_entropy(logits: Tensor, labels: Sequence[int]) -> Tensor:
    rows = [row.exp().sum().log() - row[label] for row, label in zip(logits, labels, strict=True)]
    return torch.stack(rows).sum() / len(labels)


def plain_mean_and_variance(values: Tensor) -> tuple[Tensor, Tensor]:
    mean = values.sum() / values.numel()
    return mean, ((values - mean) ** 2).sum() / values.numel()


def plain_statistics(features: Tensor, with_patches: bool) -> tuple[Tensor, ...]:
    """Mean and biased variance of each channel, and of each block of PATCH x PATCH pixels."""
    channels = [plain_mean_and_variance(features[:, channel]) for channel in range(features.shape[1])]
    if not with_patches:
        return tuple(torch.stack(values) for values in zip(*channels, strict=True))
    per_side = math.ceil(features.shape[2] / PATCH)
    enlarged = F.interpolate(features, size=(per_side * PATCH,) * 2, mode="bilinear", align_corners=False)
    blocks = []
    for row in range(per_side):
        for column in range(per_side):
            down, right = slice(row * PATCH, (row + 1) * PATCH), slice(column * PATCH, (column + 1) * PATCH)
            blocks.append(plain_mean_and_variance(enlarged[:, :, down, right]))
    return tuple(torch.stack(values) for pairs in (channels, blocks) for values in zip(*pairs, strict=True))


def plain_norm(vector: Tensor) -> Tensor:
    return (vector**2).sum() ** 0.5


@dataclass
class PlainAverage:
    """A moving average whose value holds the past and whose slope is that of the present batch.

    Frozen, it is the function of the pixels that this slope belongs to: present batch + a constant.
    """

    momentum: float
    frozen: bool = False
    past: dict[tuple[str, str], tuple[Tensor, ...]] = field(default_factory=dict)
    constants: dict[tuple[str, str], tuple[Tensor, ...]] = field(default_factory=dict)

    def __call__(self, key: tuple[str, str], now: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if not self.frozen:
            values = tuple(value.detach() for value in now)
            if key in self.past:
                a = self.momentum
                moved = zip(self.past[key], values, strict=True)
                self.past[key] = tuple(a * old + (1 - a) * new for old, new in moved)
            else:
                self.past[key] = values
            pairs = zip(self.past[key], values, strict=True)
            self.constants[key] = tuple(average - value for average, value in pairs)
        return tuple(value + constant for value, constant in zip(now, self.constants[key], strict=True))


def plain_alignment(
    name: str,
    seen: list[tuple[str, nn.Module, Tensor]],
    average: PlainAverage,
    references: PlainReference,
    class_references: Sequence[PlainReference],  # one for each image, or none
) -> Tensor:
    """R_m: the layer that runs first ten times; half against the images' classes if these are given."""
    total = torch.zeros(())
    for place, (layer_name, layer, features) in enumerate(seen):
        is_convolution = isinstance(layer, nn.Conv2d)
        found = average((name, layer_name), plain_statistics(features, with_patches=is_convolution))
        if is_convolution:
            target = references[layer_name]
        else:
            assert isinstance(layer, nn.BatchNorm2d)
            assert layer.running_mean is not None
            assert layer.running_var is not None
            target = (layer.running_mean, layer.running_var)
        gap = sum((plain_norm(a - b) for a, b in zip(found, target, strict=True)), torch.zeros(()))
        if class_references:
            of_batch = [
                sum((row[layer_name][k] for row in class_references), torch.zeros(())) / len(class_references)
                for k in range(len(found))
            ]
            of_classes = [plain_norm(a - b) for a, b in zip(found, of_batch, strict=True)]
            gap = 0.5 * gap + 0.5 * sum(of_classes, torch.zeros(()))
        total = total + (10.0 if place == 0 else 1.0) * gap
    return total


@dataclass
class PlainDensification:
    """sum over classes of KL(q || p), p = softmax(l), q = softmax(l / 4) a constant."""

    frozen: bool = False
    constants: dict[int, Tensor] = field(default_factory=dict)

    def __call__(self, x: Tensor, labels: Sequence[int]) -> Tensor:
        total = torch.zeros(())
        for label in sorted(set(labels)):
            rows = torch.stack([image for image, other in zip(x, labels, strict=True) if other == label])
            if max(rows.shape[2:]) > 32:
                rows = F.adaptive_avg_pool2d(rows, 32)
            rows = rows.flatten(1)
            eigenvalues = torch.linalg.eigvals(rows @ rows.T).real
            if not self.frozen:
                self.constants[label] = torch.softmax(eigenvalues / 4.0, dim=0).detach()
            q, log_p = self.constants[label], torch.log_softmax(eigenvalues, dim=0)
            total = total + sum(
                (a * (a.log() - b) for a, b in zip(q, log_p, strict=True) if float(a) > 0), torch.zeros(())
            )
        return total


def plain_augmented(pixels: Tensor, drawn: BoxFlipRoll) -> Tensor:
    top, left, height, width, flip, down, right = drawn
    cropped = TF.resized_crop(pixels, top, left, height, width, [SIZE, SIZE], antialias=True)
    return torch.roll(cropped.flip(3) if flip else cropped, (down, right), (2, 3))


@dataclass
class PlainMethod:
    """The loss of pixels; `votes` are those of a draw of S, `logits_of` says who classifies."""

    teachers: Mapping[str, PlainTeacher]
    votes: Callable[[Sequence[str]], Mapping[str, float]]
    classifiers: Callable[[Sequence[str]], Mapping[str, float]]
    bn_weight: float
    with_convolutions: bool = False
    average: PlainAverage = field(default_factory=lambda: PlainAverage(0.0))
    references: Mapping[str, PlainReference] = field(default_factory=dict)
    class_references: Mapping[str, Mapping[int, PlainReference]] = field(default_factory=dict)
    densification: PlainDensification | None = None

    def freeze(self, frozen: bool) -> None:
        self.average.frozen = frozen
        if self.densification is not None:
            self.densification.frozen = frozen

    def loss(
        self, x: Tensor, pixels: Tensor, labels: Sequence[int], draw: Sequence[str]
    ) -> dict[str, Tensor]:
        """The terms of augmented images: x in the reference space, and the same as pixels in [0, 1]."""
        ce, bn = torch.zeros(()), torch.zeros(())
        terms: dict[str, Tensor] = {}
        votes, classifiers = self.votes(draw), self.classifiers(draw)
        for name in {**classifiers, **votes}:
            logits, seen = plain_forward(self.teachers[name], pixels, self.with_convolutions)
            if name in classifiers:
                ce = ce + classifiers[name] * plain_cross_entropy(logits, labels)
            if name in votes:
                of_classes = self.class_references.get(name, {})
                rows = [of_classes[label] for label in labels] if of_classes else []
                alignment = plain_alignment(name, seen, self.average, self.references.get(name, {}), rows)
                terms[f"R {name}"] = alignment
                bn = bn + votes[name] * alignment
        total = ce + self.bn_weight * bn
        if self.densification is not None:
            terms["densification"] = self.densification(x, labels)
            total = total + terms["densification"]
        return {"total": total, "ce": ce, "bn": bn, **terms}


@dataclass
class PlainPath:
    pixels: list[Tensor]  # x before each iteration, and after the last
    losses: list[Values]
    gradient: Tensor  # of the last iteration
    last: Callable[[Tensor], Tensor]  # the loss of the last iteration as a function of x, constants frozen


def plain_optimise(
    method: PlainMethod,
    x: Tensor,
    labels: Sequence[int],
    draws: Sequence[Sequence[str]],  # of each iteration
    augmentations: Sequence[BoxFlipRoll],
    joined: Sequence[Sequence[int]],  # rows of x that take part in each iteration
    learning_rate: float,
    primary: PlainTeacher,
) -> PlainPath:
    """Adam with betas (0.5, 0.9) and eps 1e-8 under a cosine to 0, pixels clipped to [0, 1] in each step."""
    mean, std = torch.tensor(primary.mean)[:, None, None], torch.tensor(primary.std)[:, None, None]
    if x.shape[1] == 1:
        mean, std = mean.sum() / 3, std.sum() / 3
    first, second = torch.zeros_like(x), torch.zeros_like(x)
    path, losses = [x.clone()], []

    def loss_of(x: Tensor, iteration: int) -> dict[str, Tensor]:
        rows = list(joined[iteration])
        pixels = plain_augmented(x[rows] * std + mean, augmentations[iteration])
        its_labels = [labels[row] for row in rows]
        return method.loss((pixels - mean) / std, pixels, its_labels, draws[iteration])

    for iteration in range(len(draws)):
        x = x.detach().requires_grad_(True)
        terms = loss_of(x, iteration)
        losses.append({name: float(value.detach()) for name, value in terms.items()})
        (gradient,) = torch.autograd.grad(terms["total"], x)
        first = 0.5 * first + 0.5 * gradient
        second = 0.9 * second + 0.1 * gradient**2
        step = iteration + 1
        rate = learning_rate * 0.5 * (1 + math.cos(math.pi * iteration / len(draws)))
        moved = rate * (first / (1 - 0.5**step)) / ((second / (1 - 0.9**step)).sqrt() + 1e-8)
        x = (((x.detach() - moved) * std + mean).clamp(0.0, 1.0) - mean) / std
        path.append(x)

    def last(x: Tensor) -> Tensor:
        method.freeze(True)
        value = loss_of(x, len(draws) - 1)["total"]
        method.freeze(False)
        return value

    return PlainPath(path, losses, gradient, last)


def only(name: str) -> Callable[[Sequence[str]], Mapping[str, float]]:
    return lambda draw: {name: 1.0}


def alike(draw: Sequence[str]) -> Mapping[str, float]:
    return {name: 1.0 / len(draw) for name in draw}


def by_prior(priors: Mapping[str, float]) -> Callable[[Sequence[str]], Mapping[str, float]]:
    def votes(draw: Sequence[str]) -> Mapping[str, float]:
        weights = {name: math.exp(priors[name] / 5.0) for name in draw}
        return {name: weight / sum(weights.values()) for name, weight in weights.items()}

    return votes


# --- the engine --------------------------------------------------------------------------------------------


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


PRIORS = {"striding": 43.1, "depthwise": 41.37, "efficient": 38.9}
POOL = tuple(PRIORS)


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
    return Plan(config, facts).recover_units("distilled")


@pytest.fixture
def teachers(
    float64: None,
    striding: Callable[[], Teacher],
    depthwise: Callable[[int], Teacher],
    efficient: Callable[[], Teacher],
) -> dict[str, Teacher]:
    """Three kinds of networks, each with a preprocessing and a resolution of its own: 12, 10 and 28."""
    return {"striding": striding(), "depthwise": depthwise(10), "efficient": efficient()}


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


# --- one test for each method ------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_prism(channels: int, teachers: dict[str, Teacher], see_augmentation: SeeAugmentation) -> None:
    """Would catch logits from another than the primary, a sum over S and no mean, or another r_bn or lr."""
    config = configure("prism", ipc=12, iterations=6, iterations_step=0)
    units = {len(unit.teachers): unit for unit in batches_of(config)}
    assert set(units) == {1, 2, 3}
    for count in (2, 3):
        run = run_engine(config, units[count], teachers, see_augmentation, channels=channels)
        assert run.draws == [units[count].teachers] * 6
        assert "striding" in units[count].teachers
        method = PlainMethod(plain_pool(teachers), alike, only("striding"), bn_weight=0.01)
        expected = compare(run, method, learning_rate=0.05)
        if channels == 3:
            check_gradient_by_finite_differences(run, expected)


def test_sre2l(teachers: dict[str, Teacher], see_augmentation: SeeAugmentation) -> None:
    """Would catch other teachers that are drawn, or noise that is clipped before the first step."""
    config = configure("sre2l", ipc=2, iterations=6)
    unit = next(batches_of(config))
    run = run_engine(config, unit, teachers, see_augmentation)
    assert run.draws == [("striding",)] * 6
    assert torch.equal(run.path[0], run.start)
    assert float(run.start.abs().max()) > 3.0
    method = PlainMethod(plain_pool(teachers), only("striding"), only("striding"), bn_weight=0.01)
    expected = compare(run, method, learning_rate=0.25)
    check_gradient_by_finite_differences(run, expected)


def test_cv_dd(teachers: dict[str, Teacher], see_augmentation: SeeAugmentation) -> None:
    """Would catch votes that weigh one of CE and statistics only, fractions taken for percent, or a
    primary that is always in."""
    config = configure("cv-dd", ipc=12, iterations=5)
    units = list(batches_of(config))
    pairs = {unit.teachers: unit for unit in units}
    assert all(len(pair) == 2 for pair in pairs)
    assert any("striding" not in pair for pair in pairs)
    method = PlainMethod(plain_pool(teachers), by_prior(PRIORS), by_prior(PRIORS), bn_weight=0.01)
    assert method.votes(("striding", "depthwise"))["striding"] == pytest.approx(0.586, abs=5e-4)  # published
    chosen = [pair for pair in pairs if "striding" not in pair][:1] + [
        pair for pair in pairs if "striding" in pair
    ][:1]
    for pair in chosen:
        run = run_engine(config, pairs[pair], teachers, see_augmentation)
        assert run.draws == [pair] * 5
        expected = compare(run, method, learning_rate=0.25)
        check_gradient_by_finite_differences(run, expected)


def test_g_vbsm(teachers: dict[str, Teacher], see_augmentation: SeeAugmentation) -> None:
    """Would catch an average that moves when another teacher is on turn, starts at 0, or scales the gradient
    by 0.6; patches pooled one by one; a BN layer that takes the first layer's weight; densification lost."""
    references = make_references(teachers)
    config = configure("g-vbsm", ipc=4, images_per_batch=8, iterations=7)
    unit = next(batches_of(config))
    assert [slot.label for slot in unit.slots] == [0, 0, 0, 0, 1, 1, 1, 1]
    run = run_engine(
        config,
        unit,
        teachers,
        see_augmentation,
        # of what was collected, the classes' statistics must not matter
        {name: TeacherReference(given(whole), {0: {}}) for name, (whole, _) in references.items()},
    )
    assert run.draws == [(POOL[i % 3],) for i in range(7)]
    method = PlainMethod(
        plain_pool(teachers),
        alike,
        alike,
        bn_weight=0.01,
        with_convolutions=True,
        average=PlainAverage(0.4),
        references={name: whole for name, (whole, _) in references.items()},
        densification=PlainDensification(),
    )
    expected = compare(run, method, learning_rate=0.1)
    # far from 0 at both ends, which is where the gradient is looked at
    assert min(expected.losses[0]["densification"], expected.losses[-1]["densification"]) > 1e-3
    check_gradient_by_finite_differences(run, expected)


def test_edc(teachers: dict[str, Teacher], see_augmentation: SeeAugmentation) -> None:
    """Would catch a mixture of the targets instead of the gaps, classes that do not weigh by their images,
    category-aware convolutions alone, or the statistics of other classes."""
    references = make_references(teachers)
    config = configure("edc", ipc=4, images_per_batch=6, iterations=7)
    unit = list(batches_of(config))[1]
    assert [slot.label for slot in unit.slots] == [1, 1, 2, 2, 2, 2]
    given_references = {
        name: TeacherReference(given(whole), {label: given(one) for label, one in classes.items()})
        for name, (whole, classes) in references.items()
    }
    run = run_engine(config, unit, teachers, see_augmentation, given_references)
    assert run.draws == [(POOL[i % 3],) for i in range(7)]
    method = PlainMethod(
        plain_pool(teachers),
        alike,
        alike,
        bn_weight=0.1,
        with_convolutions=True,
        average=PlainAverage(0.8),
        references={name: whole for name, (whole, _) in references.items()},
        class_references={name: classes for name, (_, classes) in references.items()},
    )
    expected = compare(run, method, learning_rate=0.05)
    check_gradient_by_finite_differences(run, expected)
    for top, left, height, width, *_ in run.augmentations:
        assert (height + 0.5) * (width + 0.5) >= 0.5 * SIZE**2
        assert top + height <= SIZE
        assert left + width <= SIZE


@pytest.mark.parametrize(
    ("number", "iterations", "joins_at"),
    [
        # ipc 5: five sub-batches of one image, which join every 2 iterations
        (0, (12, 10, 8, 6, 4, 12, 10), (0, 2, 4, 6, 8, 0, 2)),
        (1, (8, 6, 4, 12, 10, 8, 6), (4, 6, 8, 0, 2, 4, 6)),  # a class that began in the batch before
    ],
)
def test_delt(
    number: int,
    iterations: tuple[int, ...],
    joins_at: tuple[int, ...],
    teachers: dict[str, Teacher],
    see_augmentation: SeeAugmentation,
) -> None:
    """Would catch images that join at the wrong time, leave, or move before they join; an optimiser, a cosine
    or a curriculum that starts anew at a join; statistics or labels of images that have not joined."""
    config = configure("delt", ipc=5, images_per_batch=7, iterations=12, iterations_step=2)
    unit = list(batches_of(config))[number]
    assert unit.iterations == iterations
    run = run_engine(config, unit, teachers, see_augmentation)
    assert run.draws == [("striding",)] * 12
    assert run.counts == [sum(at <= i for at in joins_at) for i in range(12)]
    method = PlainMethod(plain_pool(teachers), only("striding"), only("striding"), bn_weight=0.01)
    expected = compare(run, method, learning_rate=0.25, joins_at=joins_at)
    check_gradient_by_finite_differences(run, expected)
    for row, at in enumerate(joins_at):
        torch.testing.assert_close(expected.pixels[at][row], run.start[row], rtol=0, atol=1e-12)
        assert not torch.allclose(expected.pixels[at + 1][row], run.start[row], rtol=0, atol=1e-3)
    assert run.augmentations[0][:4] == (0, 0, SIZE, SIZE)  # crops of the whole image come first


def test_delt_moves_no_image_before_it_joins(
    teachers: dict[str, Teacher], see_augmentation: SeeAugmentation
) -> None:
    """Would catch an Adam that moves images without a gradient, or a clip that rounds them."""
    config = configure("delt", ipc=5, images_per_batch=5, iterations=12, iterations_step=2)
    unit = next(batches_of(config))
    recover = config.image_sets["distilled"]
    assert isinstance(recover, RecoverConfig)
    space = ReferenceSpace.of(teachers["striding"].preprocessing, 3, CPU)
    images = torch.randint(
        0, 256, (5, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    x = space.from_images(images)
    start = x.clone()
    setting = RecoverSetting(unit, recover, teachers, torch.zeros(5, dtype=torch.int64), space, SIZE, CPU)
    seen: list[Tensor] = []

    class Watching(Augmentation):
        def __call__(self, images: Tensor, iteration: int) -> Tensor:
            seen.append(x.detach().clone())
            return super().__call__(images, iteration)

    with Objective(setting) as objective:
        optimise(x, setting, objective, Watching(recover, 12, SIZE, 0, CPU))
    for place, iterations in enumerate(unit.iterations):
        joins_at = 12 - iterations
        for iteration, now in enumerate(seen):
            assert torch.equal(now[place], start[place]) == (iteration <= joins_at)
