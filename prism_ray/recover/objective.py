"""PRISM's objective: the primary's cross-entropy plus the mean BN alignment of the drawn teachers."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from prism_ray.recover.space import ReferenceSpace
from prism_ray.recover.statistics import BatchNormAlignment
from prism_ray.teachers.teacher import Teacher


@dataclass(frozen=True)
class Losses:
    """The terms of one step, scalar tensors on the device."""

    total: Tensor
    ce: Tensor
    alignments: dict[str, Tensor]  # teacher -> R_m, unweighted

    @property
    def bn(self) -> Tensor:
        """Mean of the teachers' R_m."""
        return torch.stack(list(self.alignments.values())).mean()

    def detached(self) -> "Losses":
        """Return the same values without the graph behind them."""
        alignments = {name: term.detach() for name, term in self.alignments.items()}
        return Losses(self.total.detach(), self.ce.detach(), alignments)


class PrismObjective:
    """L = CE(f_primary(x'), y) + r_bn * (1/|S|) * sum over m in S of R_m.

    S is the primary, which gives logits and statistics in one forward pass, and the drawn BN teachers.
    Source: PRISM, arXiv 2511.09905. Used as a context, because it hangs hooks into the networks.
    """

    def __init__(
        self,
        teachers: Sequence[Teacher],  # S, the primary first
        labels: Tensor,  # B
        space: ReferenceSpace,
        bn_weight: float,
        first_bn_weight: float,
    ) -> None:
        self._teachers = [
            (teacher, BatchNormAlignment(teacher.network, first_bn_weight)) for teacher in teachers
        ]
        self._labels = labels
        self._space = space
        self._bn_weight = bn_weight
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for _, alignment in self._teachers:
            self._stack.enter_context(alignment)
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def __call__(self, x: Tensor) -> Losses:
        """Return the losses of augmented images x (B, channels, H, W) in the reference space."""
        alignments: dict[str, Tensor] = {}
        ce = x.new_zeros(())
        for place, (teacher, alignment) in enumerate(self._teachers):
            logits = teacher.network(self._space.to_teacher(x, teacher))  # B, C
            alignments[teacher.name] = alignment.pop()
            if place == 0:
                ce = F.cross_entropy(logits, self._labels)
        mean_alignment = torch.stack(list(alignments.values())).mean()
        return Losses(ce + self._bn_weight * mean_alignment, ce, alignments)
