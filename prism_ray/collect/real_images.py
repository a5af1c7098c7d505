"""The real training images of a pass: their indices, and their pixels on the device."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from prism_ray.crops import Crops
from prism_ray.data import RealImages
from prism_ray.data.cropping import BoxesOf
from prism_ray.errors import DataError
from prism_ray.teachers.teacher import to_pixels

Indices = npt.NDArray[np.int64]


def training_indices(data: RealImages, label: int, at_most: int | None) -> Indices:
    """Return the indices of a class's first `at_most` training images, or all; DataError if it has none."""
    indices = data.train_indices(label)[:at_most]
    if len(indices) == 0:
        raise DataError(
            f"class {data.class_names[label]!r} has no training image; add some, or remove the class"
        )
    return indices


def side_of(data: RealImages) -> int:
    """Return the height and width of the (square) images in pixels."""
    return int(data.read("train", np.zeros(1, np.int64)).shape[-1])


def read_pixels(data: RealImages, indices: Indices, device: torch.device) -> Tensor:
    """Return training images as pixels in [0, 1], (B, channels, H, W)."""
    images = torch.from_numpy(data.read("train", indices))
    return to_pixels(images.to(device, non_blocking=True))


def read_crops(
    data: RealImages, indices: Indices, boxes_of: BoxesOf, size: int, device: torch.device
) -> tuple[Tensor, Crops]:
    """Return crops of original training pictures as pixels in [0, 1], (B, channels, size, size), and boxes.

    Arguments as for `RealImages.read_crops`.
    """
    images, boxes = data.read_crops("train", indices, boxes_of, size, size)
    return to_pixels(torch.from_numpy(images).to(device, non_blocking=True)), boxes
