"""The layers of a network that methods match, and the statistics of the inputs of these layers.

The layers are BatchNorm and convolutions; the statistics are mean and variance of channels and, for
convolutions, of patches.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from prism_ray.geometry import resize
from prism_ray.teachers.batchnorm import find_batchnorm


def matched_layers(network: nn.Module, convolutions: bool) -> dict[str, nn.Module]:
    """Return BatchNorm layers, and with `convolutions` every Conv2d, by name, as they are registered."""
    batchnorm = {id(layer) for layer in find_batchnorm(network)}
    return {
        name: module
        for name, module in network.named_modules()
        if id(module) in batchnorm or (convolutions and isinstance(module, nn.Conv2d))
    }


@dataclass(frozen=True)
class LayerReference:
    """Statistics of a layer's input over real images; only convolutions have those of patches."""

    mean: Tensor  # F
    var: Tensor  # F, biased
    patch_mean: Tensor | None = None  # P
    patch_var: Tensor | None = None  # P, biased

    @property
    def pairs(self) -> tuple[Tensor, ...]:
        """The statistics in the order of `measure`."""
        every = (self.mean, self.var, self.patch_mean, self.patch_var)
        return tuple(value for value in every if value is not None)


@dataclass(frozen=True)
class TeacherReference:
    """Statistics of a teacher's layers, by name, from one pass over the real images."""

    layers: dict[str, LayerReference] = field(default_factory=dict)
    classes: dict[int, dict[str, LayerReference]] = field(default_factory=dict)  # label -> layers

    def average(self, labels: Tensor) -> dict[str, LayerReference]:
        """Return the mean over `labels` (B) of their classes' statistics, layer by layer."""
        rows = [self.classes[label] for label in labels.tolist()]
        averaged = {}
        for name in rows[0]:
            parts = zip(*(row[name].pairs for row in rows), strict=True)
            averaged[name] = LayerReference(*(torch.stack(part).mean(0) for part in parts))
        return averaged


def measure_channels(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of each channel of (N, F, ...), both (F,) and at least float32."""
    over = [dim for dim in range(features.dim()) if dim != 1]
    wide = features if features.dtype == torch.float64 else features.float()
    var, mean = torch.var_mean(wide, dim=over, correction=0)
    return mean, var


def measure_patches(features: Tensor, patch_size: int) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of each patch of square maps (N, F, S, S), both (P,).

    The maps are enlarged to the next multiple of `patch_size` and cut into patches of `patch_size` x
    `patch_size` pixels; each is pooled over images, channels and pixels. P = (S' / patch_size)^2.
    """
    height, width = features.shape[2:]
    if height != width:
        raise ValueError(f"patches are cut from square maps, got {height} x {width}")
    per_side = math.ceil(height / patch_size)
    maps = resize(features, per_side * patch_size)
    patches = maps.reshape(*maps.shape[:2], per_side, patch_size, per_side, patch_size)
    var, mean = torch.var_mean(patches, dim=(0, 1, 3, 5), correction=0)  # N, F, p, s, p, s -> p, p
    return mean.flatten(), var.flatten()
