"""Measures of the images of a set: how alike those of a class are, and what a verifier makes of them.

No student is trained here; FIELD's words are intra-class cosine similarity and verifier accuracy.
"""

from collections.abc import Iterator
from contextlib import contextmanager
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

    Classes of fewer than two images have no pair and are left out of the means, which are None if no class
    has one.
    """

    mean: float | None  # over the classes, of the mean over a class's pairs
    variance: float | None  # over the classes, of the variance over a class's pairs
    per_class: tuple[float | None, ...]  # mean over the pairs of each class from 0, None without a pair


@torch.no_grad()
def penultimate_features(teacher: Teacher, images: Images, device: torch.device) -> Tensor:
    """Return what the network's classifier sees of the images, (N, F), on the device.

    `images` is uint8 (N, channels, H, W). The classifier is the linear layer or the 1x1 convolution that
    runs last; its input is flattened. Raises EngineError if there is neither.
    """
    features: list[Tensor] = []
    with _classifier_inputs(teacher.network) as inputs:
        for batch in split_evenly(len(images), _BATCH):
            inputs.clear()
            teacher_logits(teacher, to_pixels(torch.from_numpy(images[batch]).to(device)))
            if not inputs:
                raise EngineError(
                    f"teacher {teacher.name} has neither a linear layer nor a 1x1 convolution, so there are "
                    "no penultimate features; name another analyze.feature_teacher"
                )
            features.append(inputs[0].flatten(start_dim=1))
    return torch.cat(features)


@contextmanager
def _classifier_inputs(network: nn.Module) -> Iterator[list[Tensor]]:
    """Hold the input of what ran last of the layers that can be a classifier, and of no other."""
    inputs: list[Tensor] = []

    def hold(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        inputs[:] = arguments[:1]

    handles = [
        module.register_forward_pre_hook(hold) for module in network.modules() if _can_classify(module)
    ]
    try:
        yield inputs
    finally:
        for handle in handles:
            handle.remove()


def _can_classify(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):  # SqueezeNet ends in one
        return module.kernel_size == (1, 1)
    return isinstance(module, nn.Linear)


def intra_class_cosine(features: Tensor, labels: Tensor) -> IntraClassCosine:
    """Return the cosine similarities within classes of features (N, F) with labels (N,), in float64.

    Each pair i < j of a class counts once; the variance over a class's pairs is that of all there are
    (divided by their number). A feature of zeros is at 0 to every other. Lower is more diverse. Source:
    DELT, arXiv 2411.19946, and PRISM, arXiv 2511.09905.
    """
    unit = F.normalize(features.double(), dim=1)
    means: list[Tensor | None] = []
    variances: list[Tensor] = []
    num_classes = int(labels.max()) + 1 if len(labels) else 0
    for label in range(num_classes):
        own = unit[labels.to(unit.device) == label]  # n, F
        if len(own) < 2:
            means.append(None)
            continue
        first, second = torch.triu_indices(len(own), len(own), offset=1, device=own.device)
        pairs = (own @ own.T)[first, second]
        means.append(pairs.mean())
        variances.append(pairs.var(correction=0))
    per_class = tuple(None if mean is None else float(mean) for mean in means)
    known = [mean for mean in per_class if mean is not None]
    return IntraClassCosine(
        mean=sum(known) / len(known) if known else None,
        variance=float(torch.stack(variances).mean()) if variances else None,
        per_class=per_class,
    )


@torch.no_grad()
def verifier_accuracy(teacher: Teacher, images: Images, labels: Tensor, device: torch.device) -> float:
    """Return the share in [0, 1] of the images, uint8 (N, channels, H, W), that a teacher classifies right.

    `labels` is (N,).
    """
    labels = labels.to(device)
    num_right = torch.zeros((), dtype=torch.int64, device=device)
    for batch in split_evenly(len(images), _BATCH):
        logits = teacher_logits(teacher, to_pixels(torch.from_numpy(images[batch]).to(device)))
        num_right += (logits.argmax(dim=1) == labels[batch]).sum()
    return int(num_right) / len(images)
