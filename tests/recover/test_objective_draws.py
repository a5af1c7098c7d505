"""The loss of a draw of teachers: who classifies, whose statistics count, and for how much."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from prism_ray.errors import ConfigError
from prism_ray.recover.objective import Objective
from tests.recover.objectives import (
    BN_WEIGHT,
    LABELS,
    SIZE,
    MakeDepthwise,
    MakeStriding,
    assert_equal,
    differentiate,
    make_x,
    plain,
    plain_answer,
    plain_cross_entropy,
    plain_norm,
    plain_pixels,
    reckon,
    set_up,
)


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
