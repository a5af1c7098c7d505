"""The loss of one step and its pixel gradient against an independent, plainly written calculation."""

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as TF

from prism_ray.config import RecoverConfig
from prism_ray.methods import Method
from prism_ray.recover import objective as objective_module
from prism_ray.recover.augment import Augmentation
from prism_ray.recover.objective import Objective
from prism_ray.recover.setting import RecoverSetting
from prism_ray.teachers.layers import LayerReference, TeacherReference
from prism_ray.teachers.teacher import Teacher
from tests.recover.objectives import (
    BN_WEIGHT,
    CPU,
    LABELS,
    NUM_IMAGES,
    SIZE,
    MakeDepthwise,
    MakeStriding,
    assert_equal,
    differentiate,
    make_x,
    plain,
    plain_answer,
    plain_cross_entropy,
    plain_loss,
    plain_pixels,
    reckon,
    set_up,
)

SeeAugmentation = Callable[[Augmentation, int, int, int], tuple[int, int, int, int, bool, int, int]]


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


def num_taken_over(teacher: Teacher) -> int:
    return sum("forward" in vars(module) for module in teacher.network.modules())


@pytest.mark.parametrize("layers", ["bn", "bn+conv"])
def test_layers_are_taken_over_only_inside_the_context(
    layers: str, striding: MakeStriding, depthwise: MakeDepthwise
) -> None:
    """Would catch cached teachers that stay changed, which slows down and feeds every later batch."""
    teachers = [striding(), depthwise(SIZE)]
    setting = set_up(teachers, statistics={"layers": layers})
    with Objective(setting):
        assert [num_taken_over(teacher) for teacher in teachers] == [4, 6]  # convolutions too
    assert [num_taken_over(teacher) for teacher in teachers] == [0, 0]
    with pytest.raises((RuntimeError, KeyError)), Objective(setting) as objective:
        objective(torch.zeros(NUM_IMAGES, 4, SIZE, SIZE), setting.unit.draws[0])  # four channels
    assert [num_taken_over(teacher) for teacher in teachers] == [0, 0]


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
        assert num_taken_over(bare) == 1  # its convolution, which keeps less
        losses = objective(make_x(3), ("depthwise",))
    assert list(losses.alignments) == ["depthwise"]
    assert float(losses.ce.detach()) > 0


def test_teachers_without_batchnorm_are_refused(striding: MakeStriding) -> None:
    """Would catch a teacher that counts in 1/|S| though it adds nothing."""
    good = striding()
    bare = Teacher("bare", nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1)), good.preprocessing)
    with pytest.raises(ValueError, match="BatchNorm"):
        Objective(set_up([good, bare]))
    assert num_taken_over(good) == 0
