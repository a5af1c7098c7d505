"""The test of a student on real images: top-1, top-5 and the accuracy of each class."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from prism_ray.config.base import Precision
from prism_ray.data import RealImages, Split
from prism_ray.teachers.teacher import Preprocessing
from prism_ray.teachers.training import logits_by_batch

_TOP = 5


@dataclass(frozen=True)
class StudentTest:
    """Accuracies as shares in [0, 1]."""

    accuracy: float
    top5_accuracy: float  # the class is among the five largest logits; 1.0 if there are at most five classes
    class_accuracies: tuple[float | None, ...]  # by label; None: no image of the class in the split


def take_test(
    student: nn.Module,
    data: RealImages,
    preprocessing: Preprocessing,
    device: torch.device,
    split: Split,
    precision: Precision = "fp32",
) -> StudentTest:
    """Test a student on all real images of a split, which must have some; it is left in evaluation mode."""
    labels = data.labels[split]
    is_first, is_in_top = [], []
    indices = np.arange(len(labels))
    for batch, logits in logits_by_batch(student, data, preprocessing, device, split, indices, precision):
        label = torch.from_numpy(labels[batch]).to(device)
        is_first.append(logits.argmax(dim=1) == label)
        own = logits.gather(1, label[:, None])
        is_in_top.append((logits > own).sum(dim=1) < _TOP)
    first = torch.cat(is_first).cpu().numpy()
    num_images = np.bincount(labels, minlength=len(data.class_names))
    num_right = np.bincount(labels[first], minlength=len(data.class_names))
    return StudentTest(
        accuracy=int(first.sum()) / len(labels),
        top5_accuracy=int(torch.cat(is_in_top).sum()) / len(labels),
        class_accuracies=tuple(
            right / count if count else None
            for right, count in zip(num_right.tolist(), num_images.tolist(), strict=True)
        ),
    )
