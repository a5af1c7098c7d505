"""A loaded teacher: its frozen network, and the preprocessing of its input."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from prism_ray.config.base import Precision
from prism_ray.geometry import resize
from prism_ray.teachers.precision import logits_of

Triple = tuple[float, float, float]  # of red, green and blue


def triple(values: Iterable[Any]) -> Triple:
    """Return three numbers as floats; raises ValueError if there are more or fewer."""
    red, green, blue = (float(value) for value in values)
    return red, green, blue


@dataclass(frozen=True)
class Preprocessing:
    """The input that a network was trained on: RGB in [0, 1], minus mean, over std, at `size` pixels."""

    mean: Triple
    std: Triple
    size: int

    def mean_std(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and std as (3, 1, 1), on the device and in the dtype of `like`; do not change them."""
        return _on_device(self.mean, like.dtype, like.device), _on_device(self.std, like.dtype, like.device)

    def apply(self, pixels: Tensor) -> Tensor:
        """Return pixels (B, 1 or 3, H, W) in [0, 1] as input (B, 3, size, size) of the network."""
        mean, std = self.mean_std(pixels)
        normalised = (resize(pixels, self.size).expand(-1, 3, -1, -1) - mean) / std
        return normalised.contiguous(memory_format=torch.channels_last)


@cache
def _on_device(values: tuple[float, float, float], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return (3, 1, 1), made once: every copy from the host makes a step wait until the device is idle."""
    return torch.tensor(values, dtype=dtype, device=device)[:, None, None]


@dataclass(frozen=True)
class Teacher:
    """A network in evaluation mode whose parameters take no gradient.

    If the network's classes differ from the data's, `class_indices` (C,) has its output for each class of
    the data.
    """

    name: str
    network: nn.Module
    preprocessing: Preprocessing
    class_indices: Tensor | None = None  # C, on the network's device

    def pick_classes(self, logits: Tensor) -> Tensor:
        """Return the logits of the data's classes (B, C) from all outputs of the network (B, outputs)."""
        return logits if self.class_indices is None else logits[:, self.class_indices]

    def output_labels(self, labels: Tensor) -> Tensor:
        """Return the network's outputs (B,) for the data's labels (B,)."""
        return labels if self.class_indices is None else self.class_indices[labels]


def prior_shares(priors: Sequence[float], temperature: float) -> Tensor:
    """Return the shares of teachers by their prior accuracies in percent: softmax(priors / temperature).

    They are float64, and sum to 1. Source: the votes of CV-DD, arXiv 2501.07575.
    """
    return torch.softmax(torch.tensor(priors, dtype=torch.float64) / temperature, dim=0)


def teacher_logits(teacher: Teacher, pixels: Tensor, precision: Precision = "fp32") -> Tensor:
    """Return a teacher's logits for the data's classes (b, C) of pixels (b, channels, H, W) in [0, 1]."""
    return teacher.pick_classes(logits_of(teacher.network, teacher.preprocessing.apply(pixels), precision))


def freeze(network: nn.Module, device: torch.device) -> nn.Module:
    """Return the network on `device`, in evaluation mode, channels last, without parameter gradients."""
    return channels_last(network.to(device)).eval().requires_grad_(False)


def channels_last(network: nn.Module) -> nn.Module:
    """Return the network with its tensors of rank 4 channels last. torch's own conversion fails at rank 5."""
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.to(memory_format=torch.channels_last)
    return network


def to_pixels(images: Tensor) -> Tensor:
    """Return uint8 images as float in [0, 1]."""
    return images.to(torch.get_default_dtype()) / 255.0
