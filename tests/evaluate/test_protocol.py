"""The protocol's numbers, pinned to the published formulas."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from prism_ray.config import EvaluateConfig, NetworkConfig
from prism_ray.evaluate.protocol import learning_rate_factor, make_optimizer, student_loss
from prism_ray.teachers.build import build_network

STUDENT = NetworkConfig(arch="timm:test_resnet")


@pytest.mark.parametrize(
    ("epoch", "factor"),
    [
        (0, 1.0),
        (75, 0.5 * (1 + math.cos(math.radians(18)))),
        (150, 0.5 * (1 + math.cos(math.radians(36)))),
        (250, 0.75),  # 5E/6: cos 60 degrees
        (251, 0.75 * 49 / 300),
        (275, 0.0625),
        (299, 0.0025),
    ],
)
def test_learning_rate_of_300_epochs(epoch: int, factor: float) -> None:
    """Would catch another cosine, a tail that starts elsewhere, or epochs counted from 1."""
    assert learning_rate_factor(epoch, 300) == pytest.approx(factor, rel=1e-12)


@pytest.mark.parametrize("num_epochs", [1, 2, 5, 7, 100])
def test_learning_rate_falls_and_never_ends_before_the_last_epoch(num_epochs: int) -> None:
    """Would catch an epoch of no learning, or one that learns faster than the epoch before."""
    factors = [learning_rate_factor(epoch, num_epochs) for epoch in range(num_epochs)]
    assert factors[0] == 1.0
    assert all(factor > 0 for factor in factors)
    assert factors == sorted(factors, reverse=True)


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


def test_loss_by_hand() -> None:
    """Would catch a sum for a mean, a soft cross-entropy, or the weight on the wrong term."""
    logits = np.array([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]])
    soft = np.array([[0.5, -1.0, 0.0], [1.0, 2.0, -1.0]])
    labels = [2, 1]
    squares = sum((logits[i, j] - soft[i, j]) ** 2 for i in range(2) for j in range(3)) / 6
    entropies = [
        math.log(sum(math.exp(v) for v in row)) - row[k] for row, k in zip(logits, labels, strict=True)
    ]
    expected = squares + 0.1 * sum(entropies) / 2
    loss = student_loss(torch.tensor(logits), torch.tensor(soft), torch.tensor(labels), ce_weight=0.1)
    assert float(loss) == pytest.approx(expected, rel=1e-12)
