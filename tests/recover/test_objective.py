"""PRISM's loss and its pixel gradient against an independent, plainly written calculation.

The calculation in the upper half knows FIELD's formula, torch and torchvision, and of the package nothing but
the numbers that it is given: a network's layers, a mean, a standard deviation, a size.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as TF

from prism_ray.config import RecoverConfig
from prism_ray.recover.augment import Augmentation
from prism_ray.recover.objective import Losses, PrismObjective
from prism_ray.recover.space import ReferenceSpace
from prism_ray.teachers.teacher import Teacher

CPU = torch.device("cpu")
NUM_IMAGES, SIZE, BN_WEIGHT = 6, 12, 0.37
LABELS = [3, 0, 4, 1, 1, 2]

MakeStriding = Callable[[], Teacher]
MakeDepthwise = Callable[[int], Teacher]
SeeAugmentation = Callable[[Augmentation, int, int, int], tuple[int, int, int, int, bool, int, int]]

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


def plain_loss(pixels: Tensor, labels: list[int], teachers: Sequence[PlainTeacher]) -> Tensor:
    """L of pixels (N, 1 or 3, H, W) in [0, 1]; the first teacher is the primary."""
    cross_entropy, alignments = torch.zeros(()), torch.zeros(())
    for place, teacher in enumerate(teachers):
        seen = pixels.expand(-1, 3, -1, -1)
        if pixels.shape[2:] != (teacher.size, teacher.size):
            seen = TF.resize(seen, [teacher.size, teacher.size], antialias=True)
        mean, std = torch.tensor(teacher.mean)[:, None, None], torch.tensor(teacher.std)[:, None, None]
        logits, alignment = plain_forward(teacher.layers, (seen - mean) / std)
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


def make_objective(teachers: Sequence[Teacher], channels: int) -> PrismObjective:
    space = ReferenceSpace.of(teachers[0].preprocessing, channels, CPU)
    return PrismObjective(teachers, torch.tensor(LABELS), space, BN_WEIGHT, 10.0)


def differentiate(loss: Tensor, x: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(loss, x)
    return gradient


def assert_equal(ours: Tensor, theirs: Tensor) -> None:
    """Agreement to 1e-10 of the largest entry."""
    assert ours.dtype == theirs.dtype == torch.float64
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10 * float(theirs.detach().abs().max()))


def choose(names: str, striding: MakeStriding, depthwise: MakeDepthwise, size: int) -> list[Teacher]:
    return [{"s": striding, "d": lambda: depthwise(size)}[name]() for name in names]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("names", ["s", "d", "sd", "ds"])
def test_loss_and_gradient(
    names: str, channels: int, striding: MakeStriding, depthwise: MakeDepthwise
) -> None:
    """Would catch any slip in the method: w_1, biased variance, the mean over S, the roles, the spaces."""
    teachers = choose(names, striding, depthwise, SIZE)
    x = make_x(channels)
    with make_objective(teachers, channels) as objective:
        losses = objective(x)
    plains = [plain(teacher) for teacher in teachers]
    expected = plain_loss(plain_pixels(x, plains[0]), LABELS, plains)
    assert_equal(losses.total, expected)
    assert_equal(differentiate(losses.total, x), differentiate(expected, x))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("size", [8, 17])
def test_each_teacher_sees_its_own_resolution(
    size: int, striding: MakeStriding, depthwise: MakeDepthwise
) -> None:
    """Would catch a teacher that is fed images of another size than it was trained with."""
    teachers = [striding(), depthwise(size)]
    x = make_x(3)
    with make_objective(teachers, 3) as objective:
        losses = objective(x)
    plains = [plain(teacher) for teacher in teachers]
    expected = plain_loss(plain_pixels(x, plains[0]), LABELS, plains)
    assert_equal(losses.total, expected)
    assert_equal(differentiate(losses.total, x), differentiate(expected, x))


@pytest.mark.usefixtures("float64")
def test_gradient_by_finite_differences(striding: MakeStriding, depthwise: MakeDepthwise) -> None:
    """Would catch a gradient that autograd reckons wrongly in both calculations, or that is cut off."""
    teachers = [striding(), depthwise(SIZE)]
    plains = [plain(teacher) for teacher in teachers]
    x = make_x(3)
    with make_objective(teachers, 3) as objective:
        gradient = differentiate(objective(x).total, x)
    step = 1e-6
    for entry in [(0, 0, 0, 0), (1, 2, 5, 7), (3, 1, 11, 11), (5, 0, 6, 2), (2, 1, 3, 9)]:
        values = []
        for sign in (1.0, -1.0):
            moved = x.detach().clone()
            moved[entry] += sign * step
            values.append(float(plain_loss(plain_pixels(moved, plains[0]), LABELS, plains)))
        slope = (values[0] - values[1]) / (2 * step)
        assert float(gradient[entry]) == pytest.approx(slope, rel=1e-5, abs=1e-7)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("iteration", [0, 1, 2, 3])
def test_loss_and_gradient_behind_the_augmentation(
    iteration: int,
    channels: int,
    striding: MakeStriding,
    depthwise: MakeDepthwise,
    see_augmentation: SeeAugmentation,
) -> None:
    """Would catch crop, flip and roll in another order, or a gradient that lands on other pixels."""
    config = RecoverConfig(ipc=1, primary="striding", crop_scale=(0.2, 0.9), jitter=5)
    augment = Augmentation(config, 4, SIZE, 11, CPU)
    teachers = [striding(), depthwise(SIZE)]
    x = make_x(channels)
    with make_objective(teachers, channels) as objective:
        losses = objective(augment(x, iteration))
    top, left, height, width, flip, down, right = see_augmentation(augment, iteration, SIZE, 5)
    plains = [plain(teacher) for teacher in teachers]
    pixels = TF.resized_crop(
        plain_pixels(x, plains[0]), top, left, height, width, [SIZE, SIZE], antialias=True
    )
    pixels = torch.roll(pixels.flip(3) if flip else pixels, (down, right), (2, 3))
    expected = plain_loss(pixels, LABELS, plains)
    assert_equal(losses.total, expected)
    assert_equal(differentiate(losses.total, x), differentiate(expected, x))


@pytest.mark.usefixtures("float64")
def test_parts_make_the_whole(striding: MakeStriding, depthwise: MakeDepthwise) -> None:
    """Would catch terms in the log that are weighted, or are not those of the loss."""
    teachers = [striding(), depthwise(SIZE)]
    x = make_x(3)
    with make_objective(teachers, 3) as objective:
        losses: Losses = objective(x)
    plains = [plain(teacher) for teacher in teachers]
    pixels = plain_pixels(x, plains[0])
    assert list(losses.alignments) == ["striding", "depthwise"]
    for teacher in plains:
        mean, std = torch.tensor(teacher.mean)[:, None, None], torch.tensor(teacher.std)[:, None, None]
        logits, alignment = plain_forward(teacher.layers, (pixels - mean) / std)
        name = "striding" if teacher is plains[0] else "depthwise"
        assert_equal(losses.alignments[name], alignment)
        if teacher is plains[0]:
            assert_equal(losses.ce, plain_cross_entropy(logits, LABELS))
    assert_equal(losses.bn, (losses.alignments["striding"] + losses.alignments["depthwise"]) / 2)
    assert_equal(losses.total, losses.ce + BN_WEIGHT * losses.bn)
    assert not any(term.requires_grad for term in losses.detached().alignments.values())
    assert float(losses.detached().total) == losses.total.item()


@pytest.mark.usefixtures("float64")
def test_without_alignment_there_is_cross_entropy_alone(striding: MakeStriding) -> None:
    """Would catch r_bn = 0 leaving a rest of the alignment in the gradient."""
    teacher = striding()
    x = make_x(3)
    space = ReferenceSpace.of(teacher.preprocessing, 3, CPU)
    with PrismObjective([teacher], torch.tensor(LABELS), space, 0.0, 10.0) as objective:
        gradient = differentiate(objective(x).total, x)
    assert_equal(gradient, differentiate(F.cross_entropy(teacher.network(x), torch.tensor(LABELS)), x))


def test_every_teacher_runs_once_per_step(striding: MakeStriding, depthwise: MakeDepthwise) -> None:
    """Would catch the primary being run twice, once for its logits and once for its statistics."""
    teachers = [striding(), depthwise(SIZE)]
    calls = {teacher.name: 0 for teacher in teachers}

    def count(name: str) -> None:
        calls[name] += 1

    for teacher in teachers:
        teacher.network.register_forward_hook(lambda *_, name=teacher.name: count(name))
    x = make_x(3)
    with make_objective(teachers, 3) as objective:
        for _ in range(3):
            objective(x).total.backward()
    assert calls == {"striding": 3, "depthwise": 3}


def test_steps_do_not_remember_each_other(striding: MakeStriding, depthwise: MakeDepthwise) -> None:
    """Would catch terms that pile up from one step to the next."""
    teachers = [striding(), depthwise(SIZE)]
    x = make_x(3).detach()
    with make_objective(teachers, 3) as objective:
        first, _, again = objective(x).total, objective(x + 1.0).total, objective(x).total
    with make_objective(teachers, 3) as objective:
        afresh = objective(x).total
    assert first == again == afresh
    assert math.isfinite(float(first))


def num_hooks(teacher: Teacher) -> int:
    return sum(
        len(module._forward_pre_hooks) + len(module._forward_hooks) for module in teacher.network.modules()
    )


def test_hooks_stand_only_inside_the_context(striding: MakeStriding, depthwise: MakeDepthwise) -> None:
    """Would catch hooks that stay on cached teachers, and slow down and feed every later batch."""
    teachers = [striding(), depthwise(SIZE)]
    with make_objective(teachers, 3):
        assert [num_hooks(teacher) for teacher in teachers] == [2, 3]
    assert [num_hooks(teacher) for teacher in teachers] == [0, 0]
    with pytest.raises(RuntimeError), make_objective(teachers, 3) as objective:
        objective(torch.zeros(NUM_IMAGES, 4, SIZE, SIZE))  # four channels
    assert [num_hooks(teacher) for teacher in teachers] == [0, 0]


def test_teachers_without_batchnorm_are_refused(striding: MakeStriding) -> None:
    """Would catch a teacher that counts in 1/|S| though it adds nothing."""
    good = striding()
    bare = Teacher("bare", nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1)), good.preprocessing)
    with pytest.raises(ValueError, match="BatchNorm"):
        make_objective([good, bare], 3)
    assert num_hooks(good) == 0
