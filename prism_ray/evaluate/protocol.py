"""The formulas of evaluation protocols: the losses, optimiser, learning rate and moving average of a student.

The values of each protocol are in prism_ray/methods/protocols.py.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import get_ema_multi_avg_fn

from prism_ray.config import EvaluateConfig


def learning_rate_factor(epoch: int, num_epochs: int, stretch: float, linear_tail: bool) -> float:
    """Return the factor of the first learning rate in `epoch` e (from 0) of `num_epochs` E.

    0.5 (1 + cos(pi e / (stretch E))); with the tail, after e = 5E/6, the value at 5E/6 times (1 - e/E), a
    jump down. Source: the public code of SRe2L (stretch 1), RDED and DELT (2), and, with the tail, PRISM
    (arXiv 2511.09905; 2.5).
    """
    if linear_tail and 6 * epoch > 5 * num_epochs:
        return 0.5 * (1.0 + math.cos(5.0 * math.pi / (6.0 * stretch))) * (1.0 - epoch / num_epochs)
    return 0.5 * (1.0 + math.cos(math.pi * epoch / (stretch * num_epochs)))


def label_temperature(epoch: int, num_epochs: int, config: EvaluateConfig) -> float:
    """Return the temperature of the soft labels in `epoch` e (from 0) of `num_epochs` E.

    step    max(T_min, T decay^floor(e / step))
    cosine  T_min + 0.5 (T - T_min) (1 + cos(pi e / E))

    Labels that are used again say something else at another temperature. Source: LPQLD, arXiv 2604.18135
    (20, times 0.7 every 30 of 300 epochs, at least 2), whose public code counts epochs from 1.
    """
    highest, lowest = config.temperature, config.temperature_min
    if config.temperature_schedule == "step":
        return float(max(lowest, highest * config.temperature_decay ** (epoch // config.temperature_step)))
    if config.temperature_schedule == "cosine":
        return lowest + 0.5 * (highest - lowest) * (1.0 + math.cos(math.pi * epoch / num_epochs))
    return highest


def make_optimizer(student: nn.Module, config: EvaluateConfig) -> torch.optim.AdamW:
    """Return AdamW with weight decay for parameters of two or more dimensions called `weight`, and no others.

    So position embeddings and class tokens have none. Source: get_parameters in the public code of SRe2L,
    which the other protocols share.
    """
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in student.named_parameters():
        (decayed if "weight" in name and parameter.dim() >= 2 else others).append(parameter)
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    rate, decay = config.learning_rate, config.weight_decay
    return torch.optim.AdamW(groups, lr=rate, weight_decay=decay, fused=True)


@dataclass(frozen=True)
class Targets:
    """The targets of b views."""

    soft_labels: Tensor | None  # b, C: the ensemble's logits; None if hard labels alone are used
    label: Tensor  # b: class of the view's image
    partner_label: Tensor  # b: class of the image in the box
    partner_share: Tensor  # b: share of the view that is its partner: of the area, or of each pixel (MixUp)
    kept: Tensor | None = None  # b, C: which of the soft labels are stored; None: all
    blended_share: Tensor | None = None  # b: share of the partner in views of MixUp, else 0; None: no MixUp

    def pick(self, indices: Tensor) -> "Targets":
        """Return the targets of some of the views."""
        soft_labels, kept, blended_share = (
            None if values is None else values[indices]
            for values in (self.soft_labels, self.kept, self.blended_share)
        )
        label, partner, share = self.label[indices], self.partner_label[indices], self.partner_share[indices]
        return Targets(soft_labels, label, partner, share, kept, blended_share)


def student_loss(logits: Tensor, targets: Targets, config: EvaluateConfig, temperature: float) -> Tensor:
    """Return the loss of a student's logits (b, C), a scalar, as evaluate.labels and evaluate.loss say.

    hard   cross-entropy with the classes in a view, weighted by their shares of it, mean over b.
           Source: CutMix, arXiv 1905.04899; MixUp, arXiv 1710.09412.
    kl     KL(softmax(soft / T) || softmax(logits / (ratio T))), mean over b, not times T^2. T is
           `temperature`, ratio is evaluate.student_temperature_ratio. Source: the public code of SRe2L, which
           omits the usual T^2, and of RDED, DELT and CV-DD. With marginal = renormalise the softmax of the
           soft labels is over the stored logits alone. Source: MR-k of LPQLD, arXiv 2604.18135.
    mse    mean over all b C logits.
    """
    if config.labels == "hard":
        return _shared_cross_entropy(logits, targets, targets.partner_share)
    assert targets.soft_labels is not None
    soft_labels = targets.soft_labels.to(logits.dtype)
    if config.loss == "kl":
        if config.marginal == "renormalise" and targets.kept is not None:
            soft_labels = soft_labels.masked_fill(~targets.kept, -torch.inf)
        predicted = F.log_softmax(logits / (config.student_temperature_ratio * temperature), dim=1)
        expected = F.softmax(soft_labels / temperature, dim=1)
        loss = F.kl_div(predicted, expected, reduction="batchmean")
    else:
        loss = F.mse_loss(logits, soft_labels)
    if config.ce_weight > 0.0:
        # With the image's class, without that in its box. Source: the public code of G-VBSM, EDC and PRISM.
        if targets.blended_share is None:
            cross_entropy = F.cross_entropy(logits, targets.label)
        else:
            cross_entropy = _shared_cross_entropy(logits, targets, targets.blended_share)
        loss = loss + config.ce_weight * cross_entropy
    return loss


def _shared_cross_entropy(logits: Tensor, targets: Targets, partner_share: Tensor) -> Tensor:
    """Return the cross-entropy with both classes of views, weighted by `partner_share` (b,); mean over b."""
    own = F.cross_entropy(logits, targets.label, reduction="none")  # b
    partner = F.cross_entropy(logits, targets.partner_label, reduction="none")  # b
    return ((1.0 - partner_share) * own + partner_share * partner).mean()


class WeightAverage:
    """A moving average of a network's parameters: p <- decay p + (1 - decay) w after each step.

    It starts at the first weights. Buffers (BatchNorm's statistics) are not averaged: the network keeps its
    own. Source: the public code of EDC.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._weights = [parameter.detach() for parameter in network.parameters()]
        self._averages = [weight.clone() for weight in self._weights]
        self._average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]

    def update(self) -> None:
        """Add the present weights to the average."""
        self._average(self._averages, self._weights, None)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The averages, by number, for a checkpoint."""
        return {f"average.{number}": value for number, value in enumerate(self._averages)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from the averages of a checkpoint."""
        for number, average in enumerate(self._averages):
            average.copy_(tensors[f"average.{number}"])

    @contextmanager
    def in_network(self) -> Iterator[None]:
        """Let the network have the averages as its parameters inside this context."""
        kept = [weight.clone() for weight in self._weights]
        self._copy(self._averages)
        try:
            yield
        finally:
            self._copy(kept)

    def _copy(self, values: Iterable[Tensor]) -> None:
        for weight, value in zip(self._weights, values, strict=True):
            weight.copy_(value)
