"""A plain calculation of the whole optimisation, to hold each method's preset against.

It is written from the published formulas and has the published constants in it: it knows torch and
torchvision, and of the package nothing but the numbers that it is given. It steps through the optimisation on
its own (forward passes, statistics, votes, Adam, clipping), so that a step that goes astray shows in all
later ones. What is drawn (teachers, crops, flips, rolls) it is told.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as TF

SIZE, PATCH = 12, 4

BoxFlipRoll = tuple[int, int, int, int, bool, int, int]  # top, left, height, width, flip, down, right
Values = dict[str, float]


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
    class_share: float,
) -> Tensor:
    """R_m: the layer that runs first ten times; a share against the images' classes if these are given."""
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
            gap = (1.0 - class_share) * gap + class_share * sum(of_classes, torch.zeros(()))
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
    class_share: float = 0.5
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
                references = self.references.get(name, {})
                alignment = plain_alignment(name, seen, self.average, references, rows, self.class_share)
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
