"""The distances of all matched layers of a teacher at once: a few operations, whatever the number of layers.

The statistics of the layers are put one after the other into one vector. A segment is the mean or the
variance of one layer (of its channels or patches), and a distance is the norm of a segment's difference.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from prism_ray.teachers.layers import LayerReference


@dataclass(frozen=True)
class Targets:
    """What the layers of a forward pass are compared with, in the order in which they ran."""

    values: Tensor  # T, all segments
    lengths: tuple[int, ...]  # of the segments
    repeats: Tensor  # the same, on the device
    weights: Tensor  # of the segments
    kept: tuple[int, ...]  # number of segments of each layer; a target without patches has two

    @classmethod
    def of(cls, references: Sequence[LayerReference], first_weight: float) -> "Targets":
        """The segments of the first layer have `first_weight`, all others 1."""
        parts = [part for reference in references for part in reference.pairs]
        lengths = tuple(len(part) for part in parts)
        kept = tuple(len(reference.pairs) for reference in references)
        values = torch.cat(parts)
        weights = values.new_ones(len(parts))
        weights[: kept[0]] = first_weight
        return cls(values, lengths, torch.tensor(lengths, device=values.device), weights, kept)

    def distance(self, measured: Sequence[Tensor]) -> Tensor:
        """Return the weighted sum of the distances of measured segments as a scalar tensor."""
        difference = torch.cat(list(measured)) - self.values
        return self._weigh(_SegmentNorms.apply(difference, self.lengths, self.repeats))

    def size(self) -> Tensor:
        """Return the weighted sum of the norms of the targets, which have no gradient."""
        return self._weigh(_norms(self.values, self.lengths))

    def _weigh(self, norms: Tensor) -> Tensor:
        return (self.weights * norms).sum()


class _SegmentNorms(torch.autograd.Function):
    """The norms of the segments of a vector (T,); the gradient of a norm of 0 is 0."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, lengths: Sequence[int], repeats: Tensor) -> Tensor:
        norms = _norms(values, lengths)
        ctx.save_for_backward(values, norms, repeats)
        return norms

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        values, norms, repeats = ctx.saved_tensors
        factors = torch.where(norms == 0.0, torch.zeros_like(norms), grad / norms)
        return values * factors.repeat_interleave(repeats, output_size=len(values)), None, None


def _norms(values: Tensor, lengths: Sequence[int]) -> Tensor:
    return torch.stack(torch._foreach_norm(torch.split(values, list(lengths))))
