"""The alignment term R_m of one teacher, measured during its forward pass.

    R_m = sum_l w_l gap_l          w_1 = first_weight, w_l = 1; layers in the order in which they run
    gap of a BN layer     ||var - running_var||_2 + ||mean - running_mean||_2
    gap of a convolution  the same with the statistics of the real images, and also for its patches

mean/var are of the layer's input over (N, H, W), biased. Source: SRe2L, arXiv 2306.13092; convolutions,
patches and the moving average: G-VBSM, arXiv 2311.17950; category-aware gaps: EDC, arXiv 2404.13733.
"""

import operator
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from functools import partial, reduce
from typing import Self

import torch
from torch import Tensor, nn

from prism_ray.config import StatisticsConfig
from prism_ray.errors import MissingLayerError
from prism_ray.recover.recompute import is_recomputing
from prism_ray.teachers.batchnorm import find_batchnorm, running_statistics
from prism_ray.teachers.layers import (
    LayerReference,
    TeacherReference,
    matched_layers,
    measure_channels,
    measure_patches,
)


class StatisticsAlignment:
    """R_m of one teacher. A context manager: the hooks exist only inside it.

    While `active`, a forward pass of the network measures its layers, and `pop` computes R_m from that. These
    are two steps because a pass that runs again for its gradient (recompute.py) must measure again, by the
    same operations, but must not count, neither in the sum nor in the moving averages.
    """

    def __init__(
        self, network: nn.Module, config: StatisticsConfig, reference: TeacherReference, patch_size: int
    ) -> None:
        """Raises ValueError if the network has no BatchNorm layer with running statistics."""
        self._layers = matched_layers(network, convolutions=config.layers == "bn+conv")
        if not find_batchnorm(network):
            raise ValueError(f"a BN teacher needs BatchNorm layers, {type(network).__name__} has none")
        self._config = config
        self._reference = reference
        self._patch_size = patch_size
        self._of_classes: dict[str, LayerReference] = {}
        self._past: dict[str, tuple[Tensor, ...]] = {}  # layer -> moving averages
        self._hooks = ExitStack()
        self._measured: list[tuple[str, tuple[Tensor, ...]]] = []  # in the order in which the layers ran
        self.active = True

    def __enter__(self) -> Self:
        for name, layer in self._layers.items():
            self._hooks.callback(layer.register_forward_pre_hook(partial(self._measure, name)).remove)
        return self

    def __exit__(self, *exception: object) -> None:
        self._hooks.close()
        self._measured, self._past = [], {}

    def state(self) -> dict[str, Tensor]:
        """Return the moving averages as `<layer>/<number>`; nothing else is kept from step to step."""
        return {
            f"{name}/{number}": value
            for name, averages in self._past.items()
            for number, value in enumerate(averages)
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Resume from what `state` returned."""
        found: dict[str, list[Tensor]] = {}
        for key, value in sorted(state.items()):
            found.setdefault(key.rpartition("/")[0], []).append(value)
        self._past = {name: tuple(averages) for name, averages in found.items()}

    def set_labels(self, labels: Tensor) -> None:
        """Set the classes (B) of the next images, for category-aware matching."""
        if self._config.class_share > 0.0:
            self._of_classes = self._reference.average(labels)

    def pop(self) -> Tensor:
        """Return R_m of the last forward pass as a scalar tensor, and discard the measurements."""
        terms, sizes = [], []
        for name, measured in self._measured:
            found = self._smooth(name, measured)
            layer = self._layers[name]
            if isinstance(layer, nn.Conv2d):
                target = _of_layer(self._reference.layers, name)
            else:
                target = LayerReference(*running_statistics(layer))
            terms.append(self._mix(name, partial(_gap, found), target))
            if self._config.scale == "relative":
                sizes.append(self._mix(name, _size, target))  # norm of the target
        self._measured = []
        total = self._weigh(terms)
        return total / self._weigh(sizes) if sizes else total

    def _measure(self, name: str, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if not self.active:
            return
        features = inputs[0]  # N, F, ...
        found: tuple[Tensor, ...] = measure_channels(features)
        if isinstance(layer, nn.Conv2d):
            found += measure_patches(features, self._patch_size)
        if not is_recomputing.get():
            self._measured.append((name, found))

    def _weigh(self, terms: list[Tensor]) -> Tensor:
        return torch.stack([self._config.first_weight * terms[0], *terms[1:]]).sum()

    def _mix(self, name: str, value: Callable[[LayerReference], Tensor], target: LayerReference) -> Tensor:
        """Return `value` of the target, mixed with that of the batch's classes by their share."""
        share = self._config.class_share
        if share == 0.0:
            return value(target)
        return (1.0 - share) * value(target) + share * value(_of_layer(self._of_classes, name))

    def _smooth(self, name: str, found: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return moving averages: their values include the past, their gradients are of this batch alone."""
        share = self._config.momentum
        if share == 0.0:
            return found
        now = tuple(value.detach() for value in found)
        past = self._past.get(name, now)  # the first batch starts the average
        average = tuple(share * old + (1.0 - share) * new for old, new in zip(past, now, strict=True))
        self._past[name] = average
        return tuple(mean + (value - value.detach()) for mean, value in zip(average, found, strict=True))


def _of_layer(layers: Mapping[str, LayerReference], name: str) -> LayerReference:
    """Return the statistics of a layer; raises MissingLayerError if they were not collected."""
    if name not in layers:
        raise MissingLayerError(name)
    return layers[name]


def _gap(found: tuple[Tensor, ...], target: LayerReference) -> Tensor:
    """Return the sum of the distances; a target without patches is compared without them."""
    return _sum(torch.linalg.vector_norm(a - b) for a, b in zip(found, target.pairs, strict=False))


def _size(target: LayerReference) -> Tensor:
    return _sum(torch.linalg.vector_norm(values) for values in target.pairs)


def _sum(scalars: Iterable[Tensor]) -> Tensor:
    """Add two or four scalars: one small operation each, fewer than with torch.stack."""
    return reduce(operator.add, scalars)
