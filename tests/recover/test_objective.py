"""The loss of one step and its pixel gradient against an independent, plainly written calculation.

The calculation in the upper half knows FIELD's formula, torch and torchvision, and of the package nothing but
the numbers that it is given: a network's layers, a mean, a standard deviation, a size.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as TF

from prism_ray.config import RecoverConfig
from prism_ray.errors import ConfigError
from prism_ray.methods import Method
from prism_ray.recover import objective as objective_module
from prism_ray.recover.augment import Augmentation
from prism_ray.recover.objective import Losses, Objective
from prism_ray.recover.setting import RecoverSetting
from prism_ray.recover.space import ReferenceSpace
from prism_ray.teachers.layers import LayerReference, TeacherReference
from prism_ray.teachers.teacher import Teacher
from prism_ray.units import RecoverUnit, Slot

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
    losses = reckon(set_up(teachers, channels), x)
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
    losses = reckon(set_up(teachers), x)
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
    gradient = differentiate(reckon(set_up(teachers), x).total, x)
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
    losses = reckon(set_up(teachers, channels), augment(x, iteration))
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
    losses = reckon(set_up(teachers), x)
    plains = [plain(teacher) for teacher in teachers]
    pixels = plain_pixels(x, plains[0])
    assert list(losses.alignments) == ["striding", "depthwise"]
    for name, teacher in zip(losses.alignments, plains, strict=True):
        logits, alignment = plain_answer(pixels, teacher)
        assert_equal(losses.alignments[name], alignment)
        if teacher is plains[0]:
            assert_equal(losses.ce, plain_cross_entropy(logits, LABELS))
    assert_equal(losses.bn, (losses.alignments["striding"] + losses.alignments["depthwise"]) / 2)
    assert_equal(losses.total, losses.ce + BN_WEIGHT * losses.bn)
    assert not losses.terms
    assert not any(term.requires_grad for term in losses.detached().alignments.values())
    assert float(losses.detached().total) == losses.total.item()


@pytest.mark.usefixtures("float64")
def test_without_alignment_there_is_cross_entropy_alone(striding: MakeStriding) -> None:
    """Would catch r_bn = 0 leaving a rest of the alignment in the gradient."""
    teacher = striding()
    x = make_x(3)
    gradient = differentiate(reckon(set_up([teacher], bn_weight=0.0), x).total, x)
    assert_equal(gradient, differentiate(F.cross_entropy(teacher.network(x), torch.tensor(LABELS)), x))


# Who classifies, and whose statistics count


@pytest.mark.usefixtures("float64")
def test_a_primary_outside_the_draw_classifies_and_no_more(
    striding: MakeStriding, depthwise: MakeDepthwise
) -> None:
    """Would catch statistics of the primary that count although it was not drawn: in this draw, or in the
    next one that it is in."""
    teachers = [striding(), depthwise(SIZE)]
    setting = set_up(
        teachers, draws=[["depthwise"], ["striding"]], selection={"include_primary": False, "slots": 1}
    )
    x = make_x(3)
    pixels = plain_pixels(x, plain(teachers[0]))
    logits, of_primary = plain_answer(pixels, plain(teachers[0]))
    _, of_other = plain_answer(pixels, plain(teachers[1]))
    cross_entropy = plain_cross_entropy(logits, LABELS)
    with Objective(setting) as objective:
        for draw, alignment in (("depthwise", of_other), ("striding", of_primary), ("depthwise", of_other)):
            losses = objective(x, (draw,))
            assert list(losses.alignments) == [draw]
            assert_equal(losses.ce, cross_entropy)
            assert_equal(losses.alignments[draw], alignment)
            assert_equal(losses.total, cross_entropy + BN_WEIGHT * alignment)
    gradient = differentiate(reckon(setting, x, ["depthwise"]).total, x)
    assert_equal(gradient, differentiate(cross_entropy + BN_WEIGHT * of_other, x))


@pytest.mark.usefixtures("float64")
def test_a_primary_that_is_in_no_draw_needs_no_batchnorm(
    striding: MakeStriding, depthwise: MakeDepthwise
) -> None:
    """Would catch hooks on a teacher that only classifies, or its refusal."""
    other = depthwise(SIZE)
    bare = Teacher(
        "bare",
        nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).requires_grad_(False),
        other.preprocessing,
    )
    setting = set_up(
        [bare, other],
        draws=[["depthwise"]],
        selection={"include_primary": False, "bn_teachers": ["depthwise"]},
    )
    with Objective(setting) as objective:
        assert num_hooks(bare) == 0
        losses = objective(make_x(3), ("depthwise",))
    assert list(losses.alignments) == ["depthwise"]
    assert float(losses.ce.detach()) > 0


@pytest.mark.usefixtures("float64")
def test_the_average_moves_on_a_teachers_own_turn_only(
    striding: MakeStriding, depthwise: MakeDepthwise
) -> None:
    """Would catch a moving average that also takes in the batches that its teacher only classified."""
    teachers = [striding(), depthwise(SIZE)]
    setting = set_up(
        teachers,
        draws=[["striding"], ["depthwise"]],
        selection={"include_primary": False, "slots": 1},
        statistics={"momentum": 0.6},
    )
    a, b, c = (make_x(3).detach() + shift for shift in (0.0, 3.0, 1.0))
    with Objective(setting) as objective:
        objective(a, ("striding",))
        objective(b, ("depthwise",))  # the primary classifies b
        with_turn_between = objective(c, ("striding",)).alignments["striding"]
    with Objective(setting) as objective:
        objective(a, ("striding",))
        without = objective(c, ("striding",)).alignments["striding"]
    assert float(with_turn_between) == float(without)


@pytest.mark.usefixtures("float64")
def test_drawn_teachers_vote_by_prior_on_logits_and_statistics(
    striding: MakeStriding, depthwise: MakeDepthwise
) -> None:
    """Would catch votes on one of the two only, votes over the pool instead of the draw, or another
    temperature than the config's."""
    teachers = [striding(), depthwise(SIZE)]
    setting = set_up(
        teachers,
        draws=[["depthwise", "striding"], ["depthwise"]],
        priors={"striding": 50.0, "depthwise": 44.0, "absent": 99.0},
        selection={
            "include_primary": False,
            "slots": 2,
            "logits": "drawn",
            "votes": "prior",
            "prior_temperature": 4.0,
        },
    )
    x = make_x(3)
    pixels = plain_pixels(x, plain(teachers[0]))
    share = 1 / (1 + math.exp(-6.0 / 4.0))  # of striding
    expected = torch.zeros(())
    for teacher, vote in zip(teachers, (share, 1 - share), strict=True):
        logits, alignment = plain_answer(pixels, plain(teacher))
        expected = expected + vote * (plain_cross_entropy(logits, LABELS) + BN_WEIGHT * alignment)
    losses = reckon(setting, x)
    assert_equal(losses.total, expected)
    assert_equal(differentiate(losses.total, x), differentiate(expected, x))
    logits, alignment = plain_answer(pixels, plain(teachers[1]))
    assert_equal(
        reckon(setting, x, ["depthwise"]).total, plain_cross_entropy(logits, LABELS) + BN_WEIGHT * alignment
    )


def test_votes_without_a_prior_are_an_error(striding: MakeStriding, depthwise: MakeDepthwise) -> None:
    """Would catch a teacher of unknown accuracy that votes with nothing, or a bare KeyError."""
    teachers = [striding(), depthwise(SIZE)]
    setting = set_up(teachers, priors={"striding": 50.0}, selection={"votes": "prior"})
    with pytest.raises(
        ConfigError, match=r"accuracy of depthwise is not known; give it in recover\.selection\.p"
    ):
        Objective(setting)


@pytest.mark.usefixtures("float64")
def test_votes_of_huge_priors_do_not_overflow(striding: MakeStriding, depthwise: MakeDepthwise) -> None:
    """Would catch NaN votes at a low temperature, where exp(prior / temperature) is infinite."""
    setting = set_up(
        [striding(), depthwise(SIZE)],
        priors={"striding": 90.0, "depthwise": 90.0},
        selection={"votes": "prior", "prior_temperature": 0.01},
    )
    losses = reckon(setting, make_x(3))
    assert_equal(losses.bn, sum(losses.alignments.values(), torch.zeros(())) / 2)


@pytest.mark.usefixtures("float64")
def test_teacher_weights_weigh_statistics_in_the_loss_and_not_in_the_log(
    striding: MakeStriding, depthwise: MakeDepthwise
) -> None:
    """Would catch weights that touch the cross-entropy, that are normalised away, or that falsify the log."""
    teachers = [striding(), depthwise(SIZE)]
    x = make_x(3)
    plainly = reckon(set_up(teachers), x)
    weighted = reckon(set_up(teachers, statistics={"teacher_weights": {"depthwise": 0.25}}), x)
    assert_equal(weighted.ce, plainly.ce)
    assert_equal(weighted.bn, plainly.bn)
    for name, value in plainly.alignments.items():
        assert_equal(weighted.alignments[name], value)
    of = plainly.alignments
    expected = plainly.ce + BN_WEIGHT * (of["striding"] + 0.25 * of["depthwise"]) / 2
    assert_equal(weighted.total, expected)
    assert_equal(differentiate(weighted.total, x), differentiate(expected, x))


@pytest.mark.usefixtures("float64")
def test_relative_scale_is_a_constant_per_teacher(striding: MakeStriding, depthwise: MakeDepthwise) -> None:
    """Would catch a divisor with a gradient, one for all teachers, or one that forgets the first weight."""
    teachers = [striding(), depthwise(SIZE)]
    x = make_x(3)
    plainly = reckon(set_up(teachers), x)
    relative = reckon(set_up(teachers, statistics={"scale": "relative"}), x)
    expected = plainly.ce
    for teacher in teachers:
        layers = [layer for layer in teacher.network.modules() if isinstance(layer, nn.BatchNorm2d)]
        sizes = []
        for layer in layers:
            assert layer.running_mean is not None
            assert layer.running_var is not None
            sizes.append(plain_norm(layer.running_mean) + plain_norm(layer.running_var))
        norm = 10.0 * sizes[0] + sum(sizes[1:], torch.zeros(()))
        assert_equal(relative.alignments[teacher.name], plainly.alignments[teacher.name] / norm)
        expected = expected + BN_WEIGHT * plainly.alignments[teacher.name] / norm / 2
    assert_equal(relative.total, expected)
    assert_equal(differentiate(relative.total, x), differentiate(expected, x))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("logits", ["primary", "drawn"])
def test_outputs_of_a_pretrained_network_are_those_of_the_classes(
    logits: str, striding: MakeStriding, depthwise: MakeDepthwise
) -> None:
    """Would catch class k of the data taken for output k of a network that knows more classes."""
    outputs = [4, 2, 0]  # of the data's three classes
    teachers = [
        replace(teacher, class_indices=torch.tensor(outputs)) for teacher in (striding(), depthwise(SIZE))
    ]
    labels = [2, 0, 1, 1, 0, 2]
    setting = set_up(teachers, labels=labels, selection={"logits": logits})
    x = make_x(3)
    pixels = plain_pixels(x, plain(teachers[0]))
    of_labels = [outputs[label] for label in labels]
    entropies = [
        plain_cross_entropy(plain_answer(pixels, plain(teacher))[0], of_labels) for teacher in teachers
    ]
    expected = entropies[0] if logits == "primary" else (entropies[0] + entropies[1]) / 2
    assert_equal(reckon(setting, x).ce, expected)


# Images that join later, and a method's own terms


@pytest.mark.usefixtures("float64")
def test_images_that_join_later_bring_their_labels_and_classes(striding: MakeStriding) -> None:
    """Would catch labels, class statistics or densification of images that do not take part yet."""
    teacher = striding()
    generator = torch.Generator().manual_seed(0)

    def reference(count: int) -> LayerReference:
        return LayerReference(torch.randn(count, generator=generator), torch.rand(count, generator=generator))

    classes = {label: {"1": reference(4), "4": reference(6)} for label in range(5)}
    values: dict[str, Any] = {"statistics": {"class_share": 0.5}, "densification_weight": 0.2}
    references = {"striding": TeacherReference({}, classes)}
    setting = set_up([teacher], labels=LABELS, references=references, **values)
    x = make_x(3)
    for count in (2, 5, 6):
        first = set_up([teacher], labels=LABELS[:count], references=references, **values)
        expected = reckon(first, x[:count])
        with Objective(setting) as objective:
            objective.join(count)
            losses = objective(x[:count], ("striding",))
        assert_equal(losses.total, expected.total)
        assert float(losses.terms["densification"].detach()) == pytest.approx(
            float(expected.terms["densification"].detach()), rel=1e-9
        )


class Darkening(Method):
    """A method with a term of its own."""

    name = "darkening"
    preset: ClassVar[Mapping[str, Any]] = {}

    def terms(self, setting: RecoverSetting) -> Mapping[str, Callable[[Tensor], Tensor]]:
        return {"light": lambda x: 0.3 * (x * setting.space.std + setting.space.mean).mean()}


@pytest.mark.usefixtures("float64")
def test_a_methods_own_term_is_added_and_recorded(
    striding: MakeStriding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch a term that is only logged, weighted by r_bn, or handed other images than the teachers."""
    monkeypatch.setattr(objective_module, "find_method", lambda name: Darkening())
    x = make_x(3)
    setting = set_up([striding()])
    losses = reckon(setting, x)
    light = 0.3 * (x * setting.space.std + setting.space.mean).mean()
    assert list(losses.terms) == ["light"]
    assert_equal(losses.terms["light"], light)
    assert_equal(losses.total, losses.ce + BN_WEIGHT * losses.bn + light)
    assert not losses.detached().terms["light"].requires_grad


# Hooks and forward passes


def test_every_teacher_runs_once_per_step(striding: MakeStriding, depthwise: MakeDepthwise) -> None:
    """Would catch the primary being run twice, once for its logits and once for its statistics."""
    teachers = [striding(), depthwise(SIZE)]
    calls = {teacher.name: 0 for teacher in teachers}

    def count(name: str) -> None:
        calls[name] += 1

    for teacher in teachers:
        teacher.network.register_forward_hook(lambda *_, name=teacher.name: count(name))
    x = make_x(3)
    setting = set_up(teachers)
    with Objective(setting) as objective:
        for _ in range(3):
            objective(x, setting.unit.draws[0]).total.backward()
    assert calls == {"striding": 3, "depthwise": 3}


def test_only_the_teachers_on_turn_run(striding: MakeStriding, depthwise: MakeDepthwise) -> None:
    """Would catch a round robin that pays for all of its teachers in each iteration."""
    teachers = [striding(), depthwise(SIZE)]
    calls: list[str] = []
    for teacher in teachers:
        teacher.network.register_forward_hook(lambda *_, name=teacher.name: calls.append(name))
    draws = [["depthwise"], ["striding"]]
    selection = {"include_primary": False, "slots": 1, "logits": "drawn"}
    with Objective(set_up(teachers, draws=draws, selection=selection)) as objective:
        for name in ("depthwise", "striding", "depthwise"):
            objective(make_x(3), (name,))
    assert calls == ["depthwise", "striding", "depthwise"]


def test_steps_do_not_remember_each_other(striding: MakeStriding, depthwise: MakeDepthwise) -> None:
    """Would catch terms that pile up from one step to the next."""
    setting = set_up([striding(), depthwise(SIZE)])
    draw = setting.unit.draws[0]
    x = make_x(3).detach()
    with Objective(setting) as objective:
        first, _, again = (objective(images, draw).total for images in (x, x + 1.0, x))
    afresh = reckon(setting, x).total
    assert first == again == afresh
    assert math.isfinite(float(first))


def num_hooks(teacher: Teacher) -> int:
    return sum(
        len(module._forward_pre_hooks) + len(module._forward_hooks) for module in teacher.network.modules()
    )


@pytest.mark.parametrize(("layers", "expected"), [("bn", [2, 3]), ("bn+conv", [4, 6])])
def test_hooks_stand_only_inside_the_context(
    layers: str, expected: list[int], striding: MakeStriding, depthwise: MakeDepthwise
) -> None:
    """Would catch hooks that stay on cached teachers, and slow down and feed every later batch."""
    teachers = [striding(), depthwise(SIZE)]
    setting = set_up(teachers, statistics={"layers": layers})
    with Objective(setting):
        assert [num_hooks(teacher) for teacher in teachers] == expected
    assert [num_hooks(teacher) for teacher in teachers] == [0, 0]
    with pytest.raises((RuntimeError, KeyError)), Objective(setting) as objective:
        objective(torch.zeros(NUM_IMAGES, 4, SIZE, SIZE), setting.unit.draws[0])  # four channels
    assert [num_hooks(teacher) for teacher in teachers] == [0, 0]


def test_teachers_without_batchnorm_are_refused(striding: MakeStriding) -> None:
    """Would catch a teacher that counts in 1/|S| though it adds nothing."""
    good = striding()
    bare = Teacher("bare", nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1)), good.preprocessing)
    with pytest.raises(ValueError, match="BatchNorm"):
        Objective(set_up([good, bare]))
    assert num_hooks(good) == 0
