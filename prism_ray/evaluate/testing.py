"""The test of a student on real images: top-1, top-5 and the accuracy of each class."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from prism_ray.data import RealImages, Split
from prism_ray.teachers.teacher import Preprocessing, to_pixels
from prism_ray.teachers.training import split_evenly

_BATCH = 256
_TOP = 5


@dataclass(frozen=True)
class StudentTest:
    """Accuracies as shares in [0, 1]."""

    accuracy: float
    top5_accuracy: float  # the class is among the five largest logits; 1.0 if there are at most five classes
    class_accuracies: tuple[float | None, ...]  # by label; None: no image of the class in the split


@torch.no_grad()
def take_test(
    student: nn.Module,
    data: RealImages,
    preprocessing: Preprocessing,
    device: torch.device,
    split: Split,
) -> StudentTest:
    """Test a student on all real images of a split, which must have some; it is left in evaluation mode."""
    student.eval()
    labels = data.labels[split]
    is_first, is_in_top = [], []
    for batch in split_evenly(len(labels), _BATCH):
        images = torch.from_numpy(data.read(split, np.arange(batch.start, batch.stop))).to(device)
        logits: Tensor = student(preprocessing.apply(to_pixels(images)))
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
