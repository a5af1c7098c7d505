"""Named evaluation protocols: the loss, optimiser and learning rate a student is trained with."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prism_ray.config import EvaluateConfig


def learning_rate_factor(epoch: int, num_epochs: int) -> float:
    """Factor of the first learning rate in `epoch` (from 0), protocol prism.

    0.5 (1 + cos(pi e / 2.5 E)) up to e = 5E/6, then 0.75 (1 - e/E). Source: PRISM, arXiv 2511.09905.
    """
    if epoch <= 5 * num_epochs / 6:
        return 0.5 * (1.0 + math.cos(math.pi * epoch / (2.5 * num_epochs)))
    return 0.75 * (1.0 - epoch / num_epochs)


def make_optimizer(student: nn.Module, config: EvaluateConfig) -> torch.optim.Optimizer:
    """AdamW; weight decay on parameters of two or more dimensions only, protocol prism."""
    decayed = [parameter for parameter in student.parameters() if parameter.dim() >= 2]
    others = [parameter for parameter in student.parameters() if parameter.dim() < 2]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate)


def student_loss(logits: Tensor, soft_labels: Tensor, labels: Tensor, ce_weight: float) -> Tensor:
    """MSE(logits, soft labels) + ce_weight * cross-entropy with the image's own class, protocol prism.

    `logits` and `soft_labels` are (b, C), `labels` (b,).
    """
    return F.mse_loss(logits, soft_labels) + ce_weight * F.cross_entropy(logits, labels)
