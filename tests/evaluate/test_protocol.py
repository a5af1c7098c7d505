"""The protocol's numbers, pinned to the published formulas."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from prism_ray.config import EvaluateConfig, NetworkConfig
from prism_ray.evaluate.protocol import (
    Targets,
    WeightAverage,
    label_temperature,
    learning_rate_factor,
    make_optimizer,
    student_loss,
)
from prism_ray.teachers.build import build_network

STUDENT = NetworkConfig(arch="timm:test_resnet")


# (stretch, tail, epoch of 300, factor): the cosine's angles are whole degrees
FACTORS = [
    # prism: stretch 2.5, with the tail
    (2.5, True, 0, 1.0),
    (2.5, True, 75, 0.5 * (1 + math.cos(math.radians(18)))),
    (2.5, True, 150, 0.5 * (1 + math.cos(math.radians(36)))),
    (2.5, True, 250, 0.75),  # 5E/6: cos 60 degrees
    (2.5, True, 251, 0.75 * 49 / 300),
    (2.5, True, 275, 0.0625),
    (2.5, True, 299, 0.0025),
    # sre2l, g-vbsm: to 0
    (1.0, False, 150, 0.5),
    (1.0, False, 100, 0.75),
    (1.0, False, 299, 0.5 * (1 - math.cos(math.radians(0.6)))),
    # rded, delt, cv-dd, edc: to 1/2
    (2.0, False, 150, 0.5 * (1 + math.sqrt(0.5))),
    (2.0, False, 200, 0.75),
    (2.0, False, 299, 0.5 * (1 + math.sin(math.radians(0.3)))),
    # EDC's cosine with a tail: 0.629 at 5E/6, then 0.629 (1 - e/E)
    (2.0, True, 250, 0.5 * (1 + math.cos(math.radians(75)))),
    (2.0, True, 270, 0.5 * (1 + math.cos(math.radians(75))) / 10),
]


@pytest.mark.parametrize(("stretch", "tail", "epoch", "factor"), FACTORS)
def test_learning_rate_of_300_epochs(stretch: float, tail: bool, epoch: int, factor: float) -> None:
    """Would catch another cosine, a tail that starts elsewhere, or epochs counted from 1."""
    assert learning_rate_factor(epoch, 300, stretch, tail) == pytest.approx(factor, rel=1e-9)


@pytest.mark.parametrize("tail", [False, True])
@pytest.mark.parametrize("stretch", [1.0, 2.0, 2.5])
@pytest.mark.parametrize("num_epochs", [1, 2, 5, 6, 7, 100])
def test_learning_rate_falls_and_never_ends_before_the_last_epoch(
    num_epochs: int, stretch: float, tail: bool
) -> None:
    """Would catch an epoch of no learning, or one that learns faster than the epoch before."""
    factors = [learning_rate_factor(epoch, num_epochs, stretch, tail) for epoch in range(num_epochs)]
    assert factors[0] == 1.0
    assert all(factor > 0 for factor in factors)
    assert factors == sorted(factors, reverse=True)


def test_weight_decay_spares_embeddings() -> None:
    """Would catch a transformer whose class token and positions decay, unlike in the public code."""
    small = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 2}
    student = build_network(NetworkConfig(arch="timm:vit_tiny_patch16_224", kwargs=small), 10, "student")
    optimizer = make_optimizer(student, EvaluateConfig(student=STUDENT, weight_decay=0.07))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    found = {name: decay[id(parameter)] for name, parameter in student.named_parameters()}
    assert found["cls_token"] == found["pos_embed"] == found["norm.weight"] == found["head.bias"] == 0.0
    assert found["head.weight"] == found["patch_embed.proj.weight"] == 0.07


def test_weight_decay_spares_vectors() -> None:
    """Would catch decay of biases and BatchNorm parameters, or parameters that no group trains."""
    config = EvaluateConfig(student=STUDENT, learning_rate=0.003, weight_decay=0.07)
    student = build_network(STUDENT, 10, "key")
    optimizer = make_optimizer(student, config)
    assert isinstance(optimizer, torch.optim.AdamW)
    decay_of = {
        id(parameter): group["weight_decay"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert len(decay_of) == sum(len(group["params"]) for group in optimizer.param_groups)
    assert len(decay_of) == len(list(student.parameters()))
    for name, parameter in student.named_parameters():
        assert decay_of[id(parameter)] == (0.0 if parameter.dim() == 1 else 0.07), name
    assert {group["lr"] for group in optimizer.param_groups} == {0.003}
    kinds = {type(module) for module in student.modules()}
    assert nn.Linear in kinds  # there is something of either sort
    assert {parameter.dim() for parameter in student.parameters()} >= {1, 2, 4}


# Losses, against plain loops over two views of three classes

LOGITS = [[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]]
SOFT = [[0.5, -1.0, 0.0], [1.0, 2.0, -1.0]]
LABELS, PARTNERS, SHARES = [2, 1], [0, 1], [0.25, 0.0]


def softmax(row: list[float], temperature: float = 1.0) -> list[float]:
    powers = [math.exp(value / temperature) for value in row]
    return [power / sum(powers) for power in powers]


def entropy(row: list[float], label: int) -> float:
    return -math.log(softmax(row)[label])


def loss_of(**values: Any) -> float:
    targets = Targets(*(torch.tensor(column) for column in (SOFT, LABELS, PARTNERS, SHARES)))
    assert targets.soft_labels is not None
    wide = replace(
        targets,
        soft_labels=targets.soft_labels.double(),
        partner_share=targets.partner_share.double(),
    )
    config = EvaluateConfig.model_validate({"student": STUDENT, **values})
    return float(student_loss(torch.tensor(LOGITS, dtype=torch.float64), wide, config, config.temperature))


def test_blended_views_have_the_cross_entropy_of_both_classes() -> None:
    """Would catch a view of MixUp that is a fifth of its image, taught as that image and nothing else."""
    blended = [0.8, 0.0]
    parts = [
        0.2 * entropy(LOGITS[0], LABELS[0]),
        0.8 * entropy(LOGITS[0], PARTNERS[0]),
        entropy(LOGITS[1], 1),
    ]
    targets = Targets(
        *(torch.tensor(column) for column in (SOFT, LABELS, PARTNERS)),
        partner_share=torch.tensor(blended),
        blended_share=torch.tensor(blended),
    )
    logits = torch.tensor(LOGITS)
    hard = EvaluateConfig.model_validate({"student": STUDENT, "labels": "hard"})
    assert float(student_loss(logits, targets, hard, 1.0)) == pytest.approx(sum(parts) / 2, rel=1e-6)
    soft = EvaluateConfig.model_validate({"student": STUDENT, "ce_weight": 0.5})
    squares = float(torch.nn.functional.mse_loss(logits, torch.tensor(SOFT)))
    loss = float(student_loss(logits, targets, soft, 1.0))
    assert loss == pytest.approx(squares + 0.5 * sum(parts) / 2, rel=1e-6)
    other_order = targets.pick(torch.tensor([1, 0]))
    assert other_order.blended_share is not None
    assert other_order.blended_share.tolist() == pytest.approx([0.0, 0.8])


@pytest.mark.parametrize("ce_weight", [0.0, 0.1, 2.0])
def test_mse_by_hand(ce_weight: float) -> None:
    """Would catch a sum for a mean, a soft cross-entropy, or one with the class in the box."""
    squares = sum((LOGITS[i][j] - SOFT[i][j]) ** 2 for i in range(2) for j in range(3)) / 6
    entropies = sum(entropy(row, k) for row, k in zip(LOGITS, LABELS, strict=True)) / 2
    assert loss_of(ce_weight=ce_weight) == pytest.approx(squares + ce_weight * entropies, rel=1e-12)


@pytest.mark.parametrize("ce_weight", [0.0, 0.1])
@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_kl_by_hand(temperature: float, ce_weight: float) -> None:
    """Would catch the two sides exchanged, a factor T^2, or a mean over classes."""
    divergence = 0.0
    for row, soft in zip(LOGITS, SOFT, strict=True):
        p, q = softmax(soft, temperature), softmax(row, temperature)
        divergence += sum(p[k] * math.log(p[k] / q[k]) for k in range(3)) / 2
    entropies = sum(entropy(row, k) for row, k in zip(LOGITS, LABELS, strict=True)) / 2
    loss = loss_of(loss="kl", temperature=temperature, ce_weight=ce_weight)
    assert loss == pytest.approx(divergence + ce_weight * entropies, rel=1e-12)


@pytest.mark.parametrize("ratio", [1.0, 0.5])
@pytest.mark.parametrize("marginal", ["smooth", "renormalise"])
def test_kl_with_labels_of_the_largest_logits_by_hand(marginal: str, ratio: float) -> None:
    """Would catch mass on classes that are not stored, and one temperature on both sides."""
    kept = [[True, False, True], [True, True, False]]
    targets = Targets(
        *(torch.tensor(column) for column in (SOFT, LABELS, PARTNERS, SHARES)), torch.tensor(kept)
    )
    config = EvaluateConfig.model_validate(
        {"student": STUDENT, "loss": "kl", "ce_weight": 0.0, "marginal": marginal}
        | {"student_temperature_ratio": ratio}
    )
    divergence = 0.0
    for row, soft, which in zip(LOGITS, SOFT, kept, strict=True):
        classes = [k for k in range(3) if which[k] or marginal == "smooth"]
        p = dict(zip(classes, softmax([soft[k] for k in classes], 4.0), strict=True))
        q = softmax(row, 4.0 * ratio)
        divergence += sum(p[k] * math.log(p[k] / q[k]) for k in classes) / 2
    logits = torch.tensor(LOGITS, dtype=torch.float64)
    wide = replace(targets, soft_labels=torch.tensor(SOFT, dtype=torch.float64))
    assert float(student_loss(logits, wide, config, 4.0)) == pytest.approx(divergence, rel=1e-12)


def test_temperatures_of_a_schedule_by_hand() -> None:
    """Would catch a schedule that begins one step late, or ends below its lowest temperature."""

    def temperatures(**values: Any) -> list[float]:
        config = EvaluateConfig.model_validate({"student": STUDENT, "temperature": 20.0, **values})
        return [label_temperature(epoch, 300, config) for epoch in (0, 29, 30, 150, 299)]

    assert temperatures() == [20.0] * 5
    step = temperatures(temperature_schedule="step")
    assert step == pytest.approx(
        [20.0, 20.0, 14.0, 20.0 * 0.7**5, 2.0]
    )  # 20 * 0.7^9 = 0.8, and 2 is the lowest
    cosine = temperatures(temperature_schedule="cosine")
    assert cosine[0] == 20.0
    assert cosine[3] == pytest.approx(11.0)
    assert 2.0 < cosine[4] < 2.01


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"marginal": "renormalise"}, "needs loss = kl"),
        ({"temperature_schedule": "cosine", "temperature_min": 30.0}, "a schedule goes down"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(values: dict[str, Any], message: str) -> None:
    """Would catch a setting without effect that a user believes to be at work."""
    with pytest.raises(ValidationError, match=message):
        EvaluateConfig.model_validate({"student": STUDENT, **values})


@pytest.mark.parametrize("values", [{}, {"loss": "kl"}, {"ce_weight": 5.0}])
def test_hard_labels_by_hand(values: dict[str, Any]) -> None:
    """Would catch the shares of the two classes exchanged, or soft labels in a control that has none."""
    rows = zip(LOGITS, LABELS, PARTNERS, SHARES, strict=True)
    expected = sum((1 - share) * entropy(row, k) + share * entropy(row, p) for row, k, p, share in rows) / 2
    assert loss_of(labels="hard", **values) == pytest.approx(expected, rel=1e-12)


def test_a_perfect_student_has_no_loss() -> None:
    """Would catch a cross-entropy with soft targets in place of the divergence: it is never 0."""
    logits = torch.tensor(SOFT)
    targets = Targets(logits, *(torch.tensor(column) for column in (LABELS, PARTNERS, SHARES)))
    for loss in ("mse", "kl"):
        config = EvaluateConfig.model_validate({"student": STUDENT, "loss": loss, "ce_weight": 0.0})
        assert float(student_loss(logits, targets, config, config.temperature)) == pytest.approx(
            0.0, abs=1e-6
        )


def test_soft_labels_are_widened_before_they_are_compared() -> None:
    """Would catch losses in float16, as labels are stored: at T = 20 little is left of their differences."""
    soft = torch.tensor(SOFT, dtype=torch.float16)
    targets = Targets(soft, *(torch.tensor(column) for column in (LABELS, PARTNERS, SHARES)))
    for loss in ("mse", "kl"):
        config = EvaluateConfig.model_validate({"student": STUDENT, "loss": loss})
        assert student_loss(torch.tensor(LOGITS), targets, config, config.temperature).dtype == torch.float32


def test_targets_are_picked_together() -> None:
    """Would catch the labels of one view beside the shares of another."""
    targets = Targets(*(torch.tensor(column) for column in (SOFT, LABELS, PARTNERS, SHARES)))
    picked = targets.pick(torch.tensor([1, 0, 1]))
    assert picked.soft_labels is not None
    assert picked.soft_labels.tolist() == [SOFT[1], SOFT[0], SOFT[1]]
    assert picked.label.tolist() == [1, 2, 1]
    assert picked.partner_label.tolist() == [1, 0, 1]
    assert picked.partner_share.tolist() == [0.0, 0.25, 0.0]
    assert replace(targets, soft_labels=None).pick(torch.tensor([0])).soft_labels is None


# The moving average


def test_average_by_hand() -> None:
    """Would catch a start at 0 or at the first step's weights, decay on the wrong side, averaged buffers."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double()
    expected = [parameter.detach().numpy().copy() for parameter in network.parameters()]
    average = WeightAverage(network, 0.9)
    for _ in range(5):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter))
        network(torch.randn(6, 3, dtype=torch.float64))  # moves the buffers
        average.update()
        for place, parameter in enumerate(network.parameters()):
            expected[place] = 0.9 * expected[place] + 0.1 * parameter.detach().numpy()
    buffers = [buffer.clone() for buffer in network.buffers()]
    before = [parameter.detach().clone() for parameter in network.parameters()]
    with average.in_network():
        for parameter, value in zip(network.parameters(), expected, strict=True):
            np.testing.assert_allclose(parameter.detach().numpy(), value, rtol=1e-12)
        assert not any(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(buffers, network.buffers(), strict=True))
    assert all(parameter.requires_grad for parameter in network.parameters())
