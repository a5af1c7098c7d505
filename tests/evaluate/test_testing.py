"""The test of a student: top-1, top-5 and classes, by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prism_ray.data.base import ArrayImages
from prism_ray.evaluate.testing import take_test
from prism_ray.teachers.teacher import Preprocessing

CPU = torch.device("cpu")
PREPROCESSING = Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 4)


class Brightness(nn.Module):
    """Logits that fall with the distance of the class from the image's brightness, in steps of 10 / 255."""

    def forward(self, pixels: Tensor) -> Tensor:
        brightness = pixels.mean(dim=(1, 2, 3)) * 25.5
        return -(brightness[:, None] - torch.arange(7.0)[None, :]).abs()


def images_of(brightness: list[int], labels: list[int]) -> ArrayImages:
    images = np.repeat(np.asarray(brightness, np.uint8), 16).reshape(-1, 4, 4)
    empty = np.zeros((7, 4, 4), np.uint8)
    return ArrayImages(
        "steps",
        tuple("abcdefg"),
        {"train": empty, "test": images},
        {"train": np.arange(7), "test": np.asarray(labels)},
        4,
    )


def test_accuracies_by_hand() -> None:
    """Would catch ranks from the wrong end, and classes without test images that count as 0 %."""
    # Brightness 10 is class 1; of class 6 the first image is on place 7, the second on place 1.
    data = images_of([10, 20, 2, 60, 10], [1, 1, 6, 6, 5])
    found = take_test(Brightness(), data, PREPROCESSING, CPU, "test")
    assert found.accuracy == pytest.approx(2 / 5)
    # Image 2 (class 1, brightness 20): place 2 or 3; image 5 (class 5, brightness 10): place 6.
    assert found.top5_accuracy == pytest.approx(3 / 5)
    assert found.class_accuracies == (None, 0.5, None, None, None, 0.0, 0.5)


def test_with_five_classes_or_fewer_top_five_is_all() -> None:
    """Would catch an error of topk, or a share below 1 where nothing else is possible."""

    class Few(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            return Brightness()(pixels)[:, :3]

    data = images_of([0, 10, 20], [2, 2, 2])
    assert take_test(Few(), data, PREPROCESSING, CPU, "test").top5_accuracy == 1.0
