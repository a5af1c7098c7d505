"""The draw of random resized crops. numpy alone: `plan` draws views too, and loads no torch."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_NUM_TRIES = 10
_LOG_RATIO = float(np.log(4.0 / 3.0))  # aspect ratios between 3/4 and 4/3


@dataclass(frozen=True)
class Crops:
    """Boxes in pixels of B square images; each field has the shape (B,)."""

    top: npt.NDArray[np.int64]
    left: npt.NDArray[np.int64]
    height: npt.NDArray[np.int64]
    width: npt.NDArray[np.int64]


def draw_crops(
    rng: np.random.Generator, count: int, size: int, scale: tuple[float | npt.NDArray[np.float64], float]
) -> Crops:
    """Draw `count` random resized crops of a `size` x `size` image.

    The distribution is that of torchvision's RandomResizedCrop: the share of the area is uniform in `scale`,
    the logarithm of the aspect ratio is uniform between those of 3/4 and 4/3, and if none of ten tries fits,
    the crop is the whole image. The lower end of `scale` can be an array with a value per crop.
    """
    lowest = np.broadcast_to(scale[0], count)[:, None]
    area = size * size * (lowest + (scale[1] - lowest) * rng.random((count, _NUM_TRIES)))
    ratio = np.exp(_LOG_RATIO * (2.0 * rng.random((count, _NUM_TRIES)) - 1.0))
    widths = np.rint(np.sqrt(area * ratio)).astype(np.int64)
    heights = np.rint(np.sqrt(area / ratio)).astype(np.int64)
    fits = (widths > 0) & (widths <= size) & (heights > 0) & (heights <= size)
    first = fits.argmax(axis=1)
    row = np.arange(count)
    found = fits[row, first]
    width = np.where(found, widths[row, first], size)
    height = np.where(found, heights[row, first], size)
    top = (rng.random(count) * (size - height + 1)).astype(np.int64)
    left = (rng.random(count) * (size - width + 1)).astype(np.int64)
    return Crops(top=top, left=left, height=height, width=width)
