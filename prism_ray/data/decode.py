"""Decoding of image files: upright, RGB, square or in crops; and the range of values that they use."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from prism_ray.crops import Crops
from prism_ray.data.cropping import Cut, check_inside, cut
from prism_ray.data.formats import open_image

_LARGEST = {8: 255, 16: 65535}  # bits of a channel -> largest value
_SEEN_SIDE = 256  # pixels; to find the range of a large image, it is decoded at about this size
_REDUCING_GAP = 2.0  # least number of decoded pixels per pixel of a crop, across and down
# Orientations of EXIF, by what sets the picture upright.
_ON_ITS_SIDE = (5, 6, 7, 8)  # height and width change places
_MIRRORED = (2, 3, 6, 7)  # the left of the picture is at an end of the file's rows or columns
_UPSIDE_DOWN = (3, 4, 7, 8)  # so is the top


def decode_image(
    data: bytes, size: int, max_megapixels: float, full_scale: int | None = None
) -> npt.NDArray[np.uint8]:
    """Return an image file as RGB (3, size, size): shorter side to 8/7 of size, then a centre crop.

    `full_scale` is the value that becomes 255, None: the largest of the format. Raises ValueError if the
    image has larger values or too many pixels, and whatever Pillow raises for a damaged file.
    """
    with open_image(io.BytesIO(data), max_megapixels) as opened:
        image = _eight_bits(ImageOps.exif_transpose(opened), full_scale)
        side = min(image.size) * size / round(size * 8 / 7)  # of the crop, in pixels of the file
        left, top = (image.width - side) / 2, (image.height - side) / 2
        box = (left, top, left + side, top + side)
        cropped = image.resize((size, size), Image.Resampling.BILINEAR, box=box)
    return np.asarray(cropped).transpose(2, 0, 1)


def decode_crops(
    data: bytes,
    boxes_of: Callable[[int, int], Crops],
    height: int,
    width: int,
    max_megapixels: float,
    full_scale: int | None = None,
) -> Cut:
    """Return K crops of an image file in RGB, (K, 3, height, width), and their boxes, from one decoding.

    `boxes_of(height, width)` gives the boxes, in pixels of the upright picture at full size. A JPEG is
    decoded at the smallest scale (down to 1/8) that leaves two pixels for each pixel of a crop, across and
    down. Raises ValueError if a box is not inside the picture, and whatever `decode_image` raises.
    """
    with open_image(io.BytesIO(data), max_megapixels) as image:
        scale, orientation = 1, 1
        if isinstance(image, JpegImageFile):  # its upright size is known before it is decoded
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
            size = image.size[::-1] if orientation in _ON_ITS_SIDE else image.size
            boxes = _boxes_inside(boxes_of, size)
            if full_scale is None:
                scale = _reduce(image, boxes, height, width)
            ImageOps.exif_transpose(image, in_place=True)  # without a copy of upright ones
        else:
            ImageOps.exif_transpose(image, in_place=True)
            size = image.size
            boxes = _boxes_inside(boxes_of, size)
        # At a reduced scale the last row and column of the file may be partly beyond the picture.
        shift = (
            image.width - size[0] / scale if orientation in _MIRRORED else 0.0,
            image.height - size[1] / scale if orientation in _UPSIDE_DOWN else 0.0,
        )
        convert = partial(_eight_bits, full_scale=full_scale)
        return cut(image, boxes, height, width, convert, scale, shift), boxes


def _boxes_inside(boxes_of: Callable[[int, int], Crops], size: tuple[int, int]) -> Crops:
    """Return the boxes in a picture of `size` (width, height); ValueError if one is not inside."""
    width, height = size
    boxes = boxes_of(height, width)
    check_inside(boxes, height, width)
    return boxes


def _reduce(image: JpegImageFile, boxes: Crops, height: int, width: int) -> int:
    """Let a JPEG be decoded at a half, a quarter or an eighth if its crops allow; return 2, 4, 8 or 1."""
    least = min(boxes.height.min() / height, boxes.width.min() / width) / _REDUCING_GAP
    scale = next((scale for scale in (8, 4, 2) if scale <= least), 1)
    wanted = max(1, image.width // scale), max(1, image.height // scale)
    if scale == 1 or image.draft(None, wanted) is None:  # None: a JPEG that Pillow decodes in pieces
        return 1
    return scale


def _eight_bits(image: Image.Image, full_scale: int | None) -> Image.Image:
    """Return an image as RGB with 8 bits per channel."""
    if image.mode.startswith("I;16"):  # Pillow would clip it to 255
        values = np.asarray(image)
        if full_scale is None:
            return Image.fromarray((values // 257).astype(np.uint8)).convert("RGB")
        return Image.fromarray(_scaled(values, full_scale)).convert("RGB")
    if image.mode in ("I", "F"):
        if full_scale is None:
            raise ValueError(
                f"pixels of mode {image.mode} have no known range; set data.full_scale to the value of "
                "white, or save it with 8 bits per channel"
            )
        return Image.fromarray(_scaled(np.asarray(image), full_scale)).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    image = image.convert("RGB")
    if full_scale is not None and full_scale < _LARGEST[8]:
        return Image.fromarray(_scaled(np.asarray(image), full_scale))
    return image


def _scaled(values: npt.NDArray[np.generic], full_scale: int) -> npt.NDArray[np.uint8]:
    scaled = values.astype(np.float64)
    low, high = float(scaled.min()), float(scaled.max())
    if not (low >= 0.0 and high <= full_scale):  # NaN too
        raise ValueError(f"its values are {low:g} to {high:g}, and data.full_scale = {full_scale}")
    return np.round(scaled * (255.0 / full_scale)).astype(np.uint8)


@dataclass(frozen=True)
class Seen:
    """What a look at the pixels of an image shows."""

    largest: int
    full: int  # the largest value of its format: 255 or 65535
    is_transparent: bool  # some pixels are, and their hidden colours would be taken


def look_at_pixels(path: Path, max_megapixels: float) -> Seen:
    """Decode an image, a large JPEG at a reduced size. Raises whatever Pillow raises for a damaged file."""
    with open_image(path, max_megapixels) as image:
        if image.mode.startswith("I;16"):
            return Seen(int(np.asarray(image).max()), _LARGEST[16], False)
        image.draft(None, (_SEEN_SIDE, _SEEN_SIDE))
        is_transparent = image.has_transparency_data and np.asarray(image.convert("RGBA"))[..., 3].min() < 255
        if image.mode not in ("L", "RGB"):
            image = image.convert("RGBA" if is_transparent else "RGB").convert("RGB")
        return Seen(int(np.asarray(image).max()), _LARGEST[8], bool(is_transparent))


def holds_sixteen_bits_of_colour(path: Path, max_megapixels: float) -> bool:
    """Return whether Pillow drops the lower 8 of 16 bits of a colour image."""
    with open_image(path, max_megapixels) as image:
        return image.mode.startswith("RGB") and any(
            ";16" in str(tile[3]) for tile in getattr(image, "tile", ())
        )
