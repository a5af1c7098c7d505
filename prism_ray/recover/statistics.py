"""The BN alignment term R_m of one teacher, collected while its forward pass runs."""

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from prism_ray.teachers.batchnorm import find_batchnorm


class BatchNormAlignment:
    """R_m = sum_l w_l (||var_l - running_var_l||_2 + ||mean_l - running_mean_l||_2).

    mean_l and var_l (biased) are taken over (N, H, W) of the input of BN layer l, in the order in which
    the layers run; w_1 = `first_weight`, the other w_l = 1. Source: PRISM, arXiv 2511.09905.

    Used as a context: hooks stand only inside it. Every forward pass of the network fills the terms, and
    `pop` returns their sum.
    """

    def __init__(self, network: nn.Module, first_weight: float) -> None:
        """Raises ValueError if the network has no BatchNorm layer with running statistics."""
        self._layers = find_batchnorm(network)
        if not self._layers:
            raise ValueError(f"a BN teacher needs BatchNorm layers, {type(network).__name__} has none")
        self._first_weight = first_weight
        self._handles: list[RemovableHandle] = []
        self._terms: list[Tensor] = []

    def __enter__(self) -> Self:
        self._handles = [layer.register_forward_pre_hook(self._collect) for layer in self._layers]
        return self

    def __exit__(self, *exception: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._terms = []

    def pop(self) -> Tensor:
        """Return R_m of the last forward pass as a scalar tensor, and forget its terms."""
        terms, self._terms = self._terms, []
        weighted = [self._first_weight * terms[0], *terms[1:]]
        return torch.stack(weighted).sum()

    def _collect(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        features = inputs[0]  # N, F, ...
        assert isinstance(layer, _BatchNorm)
        assert layer.running_mean is not None
        assert layer.running_var is not None
        over = [dim for dim in range(features.dim()) if dim != 1]
        var, mean = torch.var_mean(features, dim=over, correction=0)
        var_gap = torch.linalg.vector_norm(var - layer.running_var)
        mean_gap = torch.linalg.vector_norm(mean - layer.running_mean)
        self._terms.append(var_gap + mean_gap)
