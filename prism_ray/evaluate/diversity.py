"""Measures of the images of a set: intra-class cosine similarity and verifier accuracy, without a student."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prism_ray.errors import EngineError
from prism_ray.teachers.teacher import Teacher, teacher_logits, to_pixels
from prism_ray.teachers.training import split_evenly

Images = npt.NDArray[np.uint8]

_BATCH = 256


@dataclass(frozen=True)
class IntraClassCosine:
    """Cosine similarity of the features of all pairs of images within each class.

    Classes of fewer than two images have no pair and do not count in the means. These are None if no class
    has a pair.
    """

    mean: float | None  # over the classes, of the mean over a class's pairs
    variance: float | None  # over the classes, of the variance over a class's pairs
    per_class: tuple[float | None, ...]  # mean over the pairs of each class from 0, None without a pair
    variance_per_class: tuple[float | None, ...]  # variance over these pairs


@torch.no_grad()
def penultimate_features(teacher: Teacher, images: Images, device: torch.device) -> Tensor:
    """Return the inputs of the network's classifier for the images, (N, F), on the device.

    `images` is uint8 (N, channels, H, W). The classifier is the linear layer or the 1x1 convolution that
    runs last; its input is flattened. Raises EngineError if there is neither.
    """
    inputs: list[Tensor] = []  # of the layer that ran last
    features: list[Tensor] = []

    def keep_input(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        inputs[:] = arguments[:1]

    with ExitStack() as hooks:
        for module in teacher.network.modules():
            is_pointwise = isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)  # as in SqueezeNet
            if is_pointwise or isinstance(module, nn.Linear):
                hooks.callback(module.register_forward_pre_hook(keep_input).remove)
        for _ in _logits(teacher, images, device):
            if not inputs:
                raise EngineError(
                    f"teacher {teacher.name} has neither a linear layer nor a 1x1 convolution, so it has no "
                    "penultimate features; choose another teacher as analyze.feature_teacher"
                )
            features.append(inputs[0].flatten(start_dim=1))
    return torch.cat(features)


def intra_class_cosine(features: Tensor, labels: Tensor) -> IntraClassCosine:
    """Return the cosine similarities within classes of features (N, F) with labels (N,), in float64.

    Each pair i < j of a class counts once; the variance over a class's pairs is the biased one. The
    similarity of a feature of zeros to every other is 0. Lower is more diverse. Source: DELT,
    arXiv 2411.19946, and PRISM, arXiv 2511.09905.
    """
    unit = F.normalize(features.double(), dim=1)
    means: dict[int, float] = {}
    variances: dict[int, float] = {}
    num_classes = int(labels.max()) + 1 if len(labels) else 0
    for label in range(num_classes):
        own = unit[labels.to(unit.device) == label]  # n, F
        if len(own) >= 2:
            first, second = torch.triu_indices(len(own), len(own), offset=1, device=own.device)
            pairs = (own @ own.T)[first, second]
            means[label] = float(pairs.mean())
            variances[label] = float(pairs.var(correction=0))
    return IntraClassCosine(
        mean=sum(means.values()) / len(means) if means else None,
        variance=_mean(list(variances.values())),
        per_class=tuple(means.get(label) for label in range(num_classes)),
        variance_per_class=tuple(variances.get(label) for label in range(num_classes)),
    )


def _mean(values: list[float]) -> float | None:
    return float(torch.tensor(values, dtype=torch.float64).mean()) if values else None


@dataclass(frozen=True)
class Verified:
    """The share of images that a teacher gives their labels."""

    share: float
    per_class: tuple[float | None, ...]  # of the images of each class from 0, None without an image


@torch.no_grad()
def verify_images(teacher: Teacher, images: Images, labels: Tensor, device: torch.device) -> Verified:
    """Return the share of the images, uint8 (N, channels, H, W), that a teacher gives their labels (N,)."""
    predicted = torch.cat([logits.argmax(dim=1) for logits in _logits(teacher, images, device)])
    is_right, labels = (predicted == labels.to(device)).cpu(), labels.cpu()
    counts, right = torch.bincount(labels), torch.bincount(labels[is_right], minlength=int(labels.max()) + 1)
    per_class = (r / n if n else None for r, n in zip(right.tolist(), counts.tolist(), strict=True))
    return Verified(int(is_right.sum()) / len(images), tuple(per_class))


def _logits(teacher: Teacher, images: Images, device: torch.device) -> Iterator[Tensor]:
    for batch in split_evenly(len(images), _BATCH):
        yield teacher_logits(teacher, to_pixels(torch.from_numpy(images[batch]).to(device)))
