"""Crops of original pictures at their full size: boxes that follow from the size, and the cut itself."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from prism_ray.crops import Crops

# Row of the picture in a batch, its height and width in pixels -> its K boxes.
BoxesOf = Callable[[int, int, int], Crops]
Cut = tuple[npt.NDArray[np.uint8], Crops]  # crops (B, channels, height, width), and their B boxes


def cut(
    image: Image.Image,
    boxes: Crops,
    height: int,
    width: int,
    convert: Callable[[Image.Image], Image.Image] = lambda piece: piece,
    scale: int = 1,
    shift: tuple[float, float] = (0.0, 0.0),
) -> npt.NDArray[np.uint8]:
    """Return the crops of an image, resized to (B, channels, height, width).

    Equal to torchvision's resized_crop of a Pillow image (bilinear, antialiased). `convert` changes the mode
    of a piece before it is resized. A box is in pixels of the picture at full size; the image is `scale`
    times smaller, and the picture begins `shift` (x, y) pixels inside of it.
    """
    crops = []
    for top, left, tall, wide in _rows(boxes):
        x0, x1 = left / scale + shift[0], (left + wide) / scale + shift[0]
        y0, y1 = top / scale + shift[1], (top + tall) / scale + shift[1]
        first_x, first_y = math.floor(x0), math.floor(y0)
        # Cropped first: the filter would see pixels outside of the box otherwise.
        piece = convert(image.crop((first_x, first_y, math.ceil(x1), math.ceil(y1))))
        box = (x0 - first_x, y0 - first_y, x1 - first_x, y1 - first_y)
        pixels = np.asarray(piece.resize((width, height), Image.Resampling.BILINEAR, box=box))
        crops.append(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))
    return np.stack(crops)


def check_inside(boxes: Crops, height: int, width: int) -> None:
    """Raise ValueError if a box is empty or not inside a picture of `height` x `width` pixels."""
    for top, left, tall, wide in _rows(boxes):
        if not (0 <= left < left + wide <= width and 0 <= top < top + tall <= height):
            raise ValueError(
                f"a crop of {wide} x {tall} pixels at ({left}, {top}) is not inside its "
                f"{width} x {height} pixels"
            )


def join(cuts: Sequence[Cut]) -> Cut:
    """Join the crops of several pictures, at least one."""
    boxes = [one for _, one in cuts]
    return np.concatenate([crops for crops, _ in cuts]), Crops(
        top=np.concatenate([one.top for one in boxes]),
        left=np.concatenate([one.left for one in boxes]),
        height=np.concatenate([one.height for one in boxes]),
        width=np.concatenate([one.width for one in boxes]),
    )


def _rows(boxes: Crops) -> list[list[int]]:
    """Return (top, left, height, width) of each box as Python's integers, which cannot overflow."""
    rows: list[list[int]] = np.stack([boxes.top, boxes.left, boxes.height, boxes.width], axis=1).tolist()
    return rows
