"""The draw of random resized crops. numpy alone: `plan` draws views too, and loads no torch."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_NUM_TRIES = 10
_MAX_RATIO = 4.0 / 3.0  # aspect ratios between 3/4 and 4/3


@dataclass(frozen=True)
class Crops:
    """B boxes in pixels of their images; each field has the shape (B,)."""

    top: npt.NDArray[np.int64]
    left: npt.NDArray[np.int64]
    height: npt.NDArray[np.int64]
    width: npt.NDArray[np.int64]


@dataclass(frozen=True)
class CropNumbers:
    """The random numbers of B crops, in [0, 1): they are drawn before the size of the picture is known."""

    area: npt.NDArray[np.float64]  # B, tries
    ratio: npt.NDArray[np.float64]  # B, tries
    top: npt.NDArray[np.float64]  # B
    left: npt.NDArray[np.float64]  # B

    @classmethod
    def draw(cls, rng: np.random.Generator, count: int) -> "CropNumbers":
        """Draw the numbers of `count` crops."""
        shape = (count, _NUM_TRIES)
        return cls(rng.random(shape), rng.random(shape), rng.random(count), rng.random(count))

    def __getitem__(self, rows: slice) -> "CropNumbers":
        return CropNumbers(self.area[rows], self.ratio[rows], self.top[rows], self.left[rows])

    def boxes(
        self,
        height: int,
        width: int,
        scale: tuple[float | npt.NDArray[np.float64], float],
        max_ratio: float = _MAX_RATIO,
    ) -> Crops:
        """Return the boxes of the crops in a picture of `height` x `width` pixels.

        The distribution is that of torchvision's RandomResizedCrop: the share of the area is uniform in
        `scale`, the logarithm of the aspect ratio is uniform between those of `max_ratio` and its inverse,
        and if none of ten tries fits, the crop is the largest one in the middle whose aspect ratio is
        allowed. The lower end of `scale` can be an array with a value per crop.
        """
        count = len(self.top)
        lowest = np.broadcast_to(scale[0], count)[:, None]
        area = height * width * (lowest + (scale[1] - lowest) * self.area)
        ratio = np.exp(float(np.log(max_ratio)) * (2.0 * self.ratio - 1.0))
        widths = np.rint(np.sqrt(area * ratio)).astype(np.int64)
        heights = np.rint(np.sqrt(area / ratio)).astype(np.int64)
        fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
        first = fits.argmax(axis=1)
        row = np.arange(count)
        found = fits[row, first]
        middle_height = min(height, round(width * max_ratio))
        middle_width = min(width, round(height * max_ratio))
        out_height = np.where(found, heights[row, first], middle_height)
        out_width = np.where(found, widths[row, first], middle_width)
        top = (self.top * (height - out_height + 1)).astype(np.int64)
        left = (self.left * (width - out_width + 1)).astype(np.int64)
        return Crops(
            top=np.where(found, top, (height - middle_height) // 2),
            left=np.where(found, left, (width - middle_width) // 2),
            height=out_height,
            width=out_width,
        )


def draw_crops(
    rng: np.random.Generator, count: int, size: int, scale: tuple[float | npt.NDArray[np.float64], float]
) -> Crops:
    """Draw `count` random resized crops of a `size` x `size` image; see `CropNumbers.boxes`."""
    return CropNumbers.draw(rng, count).boxes(size, size, scale)
