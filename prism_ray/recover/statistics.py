"""The alignment term R_m of one teacher, measured during its forward pass.

    R_m = sum_l w_l gap_l          w_1 = first_weight, w_l = 1; layers in the order in which they run
    gap of a BN layer     ||var - running_var||_2 + ||mean - running_mean||_2
    gap of a convolution  the same with the statistics of the real images, and also for its patches

mean/var are of the layer's input over (N, H, W), biased. Source: SRe2L, arXiv 2306.13092; convolutions,
patches and the moving average: G-VBSM, arXiv 2311.17950; category-aware gaps: EDC, arXiv 2404.13733.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any, Self

from torch import Tensor, nn

from prism_ray.config import StatisticsConfig
from prism_ray.errors import MissingLayerError
from prism_ray.recover.fused import BatchNormCall, with_statistics
from prism_ray.recover.gaps import Targets
from prism_ray.recover.recompute import is_recomputing
from prism_ray.teachers.batchnorm import find_batchnorm, running_statistics
from prism_ray.teachers.layers import (
    LayerReference,
    TeacherReference,
    matched_layers,
    measure_channels,
    measure_patches,
)
from prism_ray.teachers.override import Forward, take_over


class StatisticsAlignment:
    """R_m of one teacher. A context manager: layers are taken over only inside it.

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
        self._targets: dict[tuple[str, ...], list[Targets]] = {}  # by the layers that ran
        self._stack = ExitStack()
        self._measured: list[tuple[str, tuple[Tensor, ...]]] = []  # in the order in which the layers ran
        self.active = True

    def __enter__(self) -> Self:
        for name, layer in self._layers.items():
            around = self._convolve if isinstance(layer, nn.Conv2d) else self._normalise
            take_over(layer, partial(around, name, layer, layer.forward), self._stack)
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()
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
            self._targets = {}

    def pop(self) -> Tensor:
        """Return R_m of the last forward pass as a scalar tensor, and discard the measurements."""
        names = tuple(name for name, _ in self._measured)
        targets = self._targets_of(names)
        smoothed = [self._smooth(name, found) for name, found in self._measured]
        values = [v for found, kept in zip(smoothed, targets[0].kept, strict=True) for v in found[:kept]]
        self._measured = []
        total = self._mix([target.distance(values) for target in targets])
        if self._config.scale == "relative":
            total = total / self._mix([target.size() for target in targets])
        return total

    def _targets_of(self, names: tuple[str, ...]) -> list[Targets]:
        """Return the targets of layers: those of all images and, if they have a share, of the classes."""
        if names not in self._targets:
            sources = [self._general(name) for name in names]
            found = [Targets.of(sources, self._config.first_weight)]
            if self._config.class_share > 0.0:
                of_classes = [_of_layer(self._of_classes, name) for name in names]
                found.append(Targets.of(of_classes, self._config.first_weight))
            self._targets[names] = found
        return self._targets[names]

    def _general(self, name: str) -> LayerReference:
        """Return the statistics of a layer over all images."""
        layer = self._layers[name]
        if isinstance(layer, nn.Conv2d):
            return _of_layer(self._reference.layers, name)
        return LayerReference(*running_statistics(layer))

    def _mix(self, values: list[Tensor]) -> Tensor:
        """Return the value of all images, mixed with that of the batch's classes by their share."""
        share = self._config.class_share
        return values[0] if share == 0.0 else (1.0 - share) * values[0] + share * values[1]

    def _normalise(self, name: str, layer: nn.Module, forward: Forward, x: Tensor) -> Any:
        """Call a BatchNorm layer; measure its input with it."""
        if not self.active:
            return forward(x)
        with BatchNormCall(layer, x) as call:
            output = forward(x)
        if call.found is None:  # the layer computes in a way of its own
            self._keep(name, measure_channels(x))
        else:
            self._keep(name, call.found)
        return output

    def _convolve(self, name: str, layer: nn.Module, forward: Forward, x: Tensor) -> Any:
        """Call a convolution; measure its input."""
        if not self.active:
            return forward(x)
        x, *found = with_statistics(x)
        self._keep(name, (*found, *measure_patches(x, self._patch_size)))
        return forward(x)

    def _keep(self, name: str, found: tuple[Tensor, ...]) -> None:
        if not is_recomputing.get():
            self._measured.append((name, found))

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
