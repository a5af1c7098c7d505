"""What the tests of the objective share: the loss of one step, written plainly, and what calls the package.

The calculation in the upper half knows FIELD's formula, torch and torchvision, and of the package nothing but
the numbers that it is given: a network's layers, a mean, a standard deviation, a size.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as TF

from prism_ray.config import RecoverConfig
from prism_ray.recover.objective import Losses, Objective
from prism_ray.recover.setting import RecoverSetting
from prism_ray.recover.space import ReferenceSpace
from prism_ray.stages.formation import Slot
from prism_ray.stages.recover import RecoverUnit
from prism_ray.teachers.layers import TeacherReference
from prism_ray.teachers.teacher import Teacher

CPU = torch.device("cpu")
NUM_IMAGES, SIZE, BN_WEIGHT = 6, 12, 0.37
LABELS = [3, 0, 4, 1, 1, 2]

MakeStriding = Callable[[], Teacher]
MakeDepthwise = Callable[[int], Teacher]

# --- the plain calculation ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlainTeacher:
    layers: list[nn.Module]  # looked into for weights and statistics, never called
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    size: int


def plain_norm(vector: Tensor) -> Tensor:
    return torch.stack([value * value for value in vector]).sum() ** 0.5


def plain_forward(layers: list[nn.Module], z: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits and R_m of input z (N, 3, H, W)."""
    alignment = torch.zeros(())
    weight = 10.0  # w_1
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            z = F.conv2d(z, layer.weight, layer.bias, layer.stride, layer.padding, 1, layer.groups)
        elif isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            count = z.shape[0] * z.shape[2] * z.shape[3]
            mean = z.sum(dim=(0, 2, 3)) / count
            variance = ((z - mean[None, :, None, None]) ** 2).sum(dim=(0, 2, 3)) / count
            gap = plain_norm(variance - layer.running_var) + plain_norm(mean - layer.running_mean)
            alignment = alignment + weight * gap
            weight = 1.0
            running_mean, running_var = layer.running_mean[:, None, None], layer.running_var[:, None, None]
            z = (z - running_mean) / (running_var + layer.eps) ** 0.5
            z = z * layer.weight[:, None, None] + layer.bias[:, None, None]
        elif isinstance(layer, nn.ReLU):
            z = z * (z > 0)
        elif isinstance(layer, nn.AdaptiveAvgPool2d):
            z = z.sum(dim=(2, 3)) / (z.shape[2] * z.shape[3])
        elif isinstance(layer, nn.Linear):
            z = z @ layer.weight.T + layer.bias
        else:
            assert isinstance(layer, nn.Flatten)  # the pooling above has left (N, F)
    return z, alignment


def plain_cross_entropy(logits: Tensor, labels: list[int]) -> Tensor:
    total = torch.zeros(())
    for z, label in zip(logits, labels, strict=True):
        largest = z.max()
        total = total + largest + (z - largest).exp().sum().log() - z[label]
    return total / len(labels)


def plain_answer(pixels: Tensor, teacher: PlainTeacher) -> tuple[Tensor, Tensor]:
    """Return the logits and R_m of pixels (N, 1 or 3, H, W) in [0, 1]."""
    seen = pixels.expand(-1, 3, -1, -1)
    if pixels.shape[2:] != (teacher.size, teacher.size):
        seen = TF.resize(seen, [teacher.size, teacher.size], antialias=True)
    mean, std = torch.tensor(teacher.mean)[:, None, None], torch.tensor(teacher.std)[:, None, None]
    return plain_forward(teacher.layers, (seen - mean) / std)


def plain_loss(pixels: Tensor, labels: list[int], teachers: Sequence[PlainTeacher]) -> Tensor:
    """L of pixels in [0, 1], the form of PRISM; the first teacher is the primary."""
    cross_entropy, alignments = torch.zeros(()), torch.zeros(())
    for place, teacher in enumerate(teachers):
        logits, alignment = plain_answer(pixels, teacher)
        alignments = alignments + alignment
        if place == 0:
            cross_entropy = plain_cross_entropy(logits, labels)
    return cross_entropy + BN_WEIGHT * alignments / len(teachers)


def plain_pixels(x: Tensor, primary: PlainTeacher) -> Tensor:
    """Pixels in [0, 1] of x in the primary's normalisation; grey: in its channels' average."""
    mean, std = torch.tensor(primary.mean)[:, None, None], torch.tensor(primary.std)[:, None, None]
    if x.shape[1] == 1:
        mean, std = mean.sum() / 3, std.sum() / 3
    return x * std + mean


# --- the package against it --------------------------------------------------------------------------------


def plain(teacher: Teacher) -> PlainTeacher:
    assert isinstance(teacher.network, nn.Sequential)
    shape = teacher.preprocessing
    return PlainTeacher(list(teacher.network), shape.mean, shape.std, shape.size)


def make_x(channels: int) -> Tensor:
    x = torch.randn(NUM_IMAGES, channels, SIZE, SIZE, generator=torch.Generator().manual_seed(5))
    return x.requires_grad_(True)


def set_up(
    teachers: Sequence[Teacher],  # the primary first
    channels: int = 3,
    draws: Sequence[Sequence[str]] | None = None,  # of each iteration; default: all teachers
    labels: Sequence[int] = LABELS,
    references: Mapping[str, TeacherReference] | None = None,
    priors: Mapping[str, float] | None = None,
    **values: Any,
) -> RecoverSetting:
    config = RecoverConfig.model_validate(
        {"ipc": 5, "primary": teachers[0].name, "bn_weight": BN_WEIGHT, **values}
    )
    names = tuple(teacher.name for teacher in teachers)
    slots = tuple(Slot(label, 0) for label in labels)
    all_draws = tuple(tuple(draw) for draw in draws or [names])
    return RecoverSetting(
        unit=RecoverUnit("distilled", "key", slots, (1,) * len(slots), all_draws, 0),
        config=config,
        teachers={teacher.name: teacher for teacher in teachers},
        labels=torch.tensor(labels),
        space=ReferenceSpace.of(teachers[0].preprocessing, channels, CPU),
        image_size=SIZE,
        device=CPU,
        references=references or {},
        patch_size=4,
        priors=priors or {},
    )


def reckon(setting: RecoverSetting, x: Tensor, draw: Sequence[str] | None = None) -> Losses:
    """The losses of x in an objective of their own; `draw` is the first one unless it is given."""
    with Objective(setting) as objective:
        return objective(x, tuple(draw) if draw is not None else setting.unit.draws[0])


def differentiate(loss: Tensor, x: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(loss, x)
    return gradient


def assert_equal(ours: Tensor, theirs: Tensor) -> None:
    """Agreement to 1e-10 of the largest entry."""
    assert ours.dtype == theirs.dtype == torch.float64
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10 * float(theirs.detach().abs().max()))
