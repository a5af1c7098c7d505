"""Thumbnails of the images: which ones, how large, and many in one picture, an atlas.

An atlas has the images of one image set for some classes in order: a row per class, a column per IPC index.
The page decodes it when one of its classes comes into view.
"""

import base64
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from prism_ray.report.supervision import evenly
from prism_ray.stages.formation import Slot

MAX_BYTES = 21 * 10**6  # of all atlases as base64
_MAX_SIDE = 16_000  # of an atlas in pixels: WebP allows 16,383
_ATLAS_IMAGES = 400  # about so many are in one
_MARGIN = 1.1  # of the estimate
_SAMPLE = 100  # images that the estimate is made from
_GREY = 128  # of a missing image
_CORNER = 256  # pixels of a side
_WITHOUT_LOSS = {"lossless": True, "quality": 60, "method": 3}
_HOPELESS = 2.0  # ratio of bytes in a corner beyond which the whole is not encoded without loss

Images = npt.NDArray[np.uint8]  # B, channels, H, W
# Size of a thumbnail in pixels, images per class (None: all of them) and quality of WebP, from the best.
_RUNGS: tuple[tuple[int, int | None, int], ...] = (
    *((128, None, 82), (96, None, 82), (64, None, 82), (48, None, 75), (40, None, 60)),
    *(
        (40, 25, 60),
        (32, 25, 60),
        (32, 20, 60),
        (32, 15, 60),
        (32, 10, 60),
        (32, 5, 60),
        (24, 3, 60),
        (24, 1, 60),
    ),
)


@dataclass(frozen=True)
class Form:
    """The thumbnails of a page."""

    side: int  # pixels
    num_ipc: int  # most images per class
    quality: int  # of WebP
    labels: tuple[int, ...]  # classes

    def slots(self, ipc: int) -> list[Slot]:
        """Return the slots of an image set with `ipc` images per class that have a thumbnail."""
        return [Slot(label, k) for label in self.labels for k in range(min(ipc, self.num_ipc))]


@dataclass(frozen=True)
class Atlas:
    """The thumbnails of one image set for some classes."""

    labels: tuple[int, ...]  # its rows
    num_columns: int
    data: str  # WebP as base64
    missing: tuple[tuple[int, int], ...]  # (label, IPC index) of images that are not there


def choose_form(sample: Images, ipcs: Sequence[int], num_classes: int, max_bytes: int = MAX_BYTES) -> Form:
    """Return the best form whose atlases fit into `max_bytes`; `ipcs` has the IPC of each row of the page.

    The estimate is made from the first images of `sample`. If even one small image of each class is too much,
    some classes are left out, evenly.
    """
    native, labels = sample.shape[-1], tuple(range(num_classes))
    for side, limit, quality in _RUNGS:
        form = Form(min(side, native), min(limit or max(ipcs), max(ipcs)), quality, labels)
        if _estimate(sample, form, ipcs) <= max_bytes:
            return form
    per_class = _estimate(sample, form, ipcs) / num_classes
    kept = evenly(labels, max(1, int(max_bytes / per_class)))
    return Form(form.side, form.num_ipc, form.quality, tuple(kept))


def _estimate(sample: Images, form: Form, ipcs: Sequence[int]) -> float:
    some = shrink(sample[:_SAMPLE], form.side)
    per_image = len(_encode(_mosaic(list(some), 10, form.side), form.quality)) / len(some)
    num_images = sum(min(ipc, form.num_ipc) for ipc in ipcs) * len(form.labels)
    return _MARGIN * per_image * num_images * 4 / 3


def shrink(images: Images, side: int) -> Images:
    """Return images as RGB, (B, 3, side, side)."""
    rgb = np.repeat(images, 3, axis=1) if images.shape[1] == 1 else images
    if images.shape[-1] == side:
        return rgb
    out = np.empty((len(rgb), 3, side, side), np.uint8)
    kind = Image.Resampling.LANCZOS if images.shape[-1] > side else Image.Resampling.NEAREST
    for row, image in enumerate(rgb):
        picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
        out[row] = np.asarray(picture.resize((side, side), kind)).transpose(2, 0, 1)
    return out


def blocks(form: Form) -> Iterator[tuple[int, ...]]:
    """Yield the classes of each atlas; they are the same for all image sets."""
    columns = max(1, form.num_ipc)
    num_classes = max(1, min(_ATLAS_IMAGES // columns, _MAX_SIDE // form.side))
    for first in range(0, len(form.labels), num_classes):
        yield form.labels[first : first + num_classes]


def make_atlas(
    labels: tuple[int, ...], num_columns: int, form: Form, image_of: Callable[[Slot], Images | None]
) -> Atlas:
    """Return the atlas of some classes; `image_of` gives a thumbnail (3, side, side) or None."""
    cells, missing = [], []
    for label in labels:
        for k in range(num_columns):
            image = image_of(Slot(label, k))
            if image is None:
                missing.append((label, k))
            cells.append(image)
    data = base64.b64encode(_encode(_mosaic(cells, num_columns, form.side), form.quality)).decode()
    return Atlas(labels, num_columns, data, tuple(missing))


def _mosaic(cells: Sequence[Images | None], num_columns: int, side: int) -> Image.Image:
    num_rows = -(-len(cells) // num_columns)
    out = np.full((num_rows * side, num_columns * side, 3), _GREY, np.uint8)
    for index, cell in enumerate(cells):
        if cell is not None:
            row, column = (side * each for each in divmod(index, num_columns))
            out[row : row + side, column : column + side] = cell.transpose(1, 2, 0)
    return Image.fromarray(out)


def _encode(picture: Image.Image, quality: int) -> bytes:
    """Return WebP: lossless where that is not larger, as for small grey images.

    A corner tells whether that may be. To encode photographs without loss takes four times as long, for
    nothing.
    """
    with_loss = {"quality": quality, "method": 4}
    lossy = _webp(picture, with_loss)
    corner = picture.crop((0, 0, min(picture.width, _CORNER), min(picture.height, _CORNER)))
    if corner.size != picture.size and (
        len(_webp(corner, _WITHOUT_LOSS)) > _HOPELESS * len(_webp(corner, with_loss))
    ):
        return lossy
    return min(lossy, _webp(picture, _WITHOUT_LOSS), key=len)


def _webp(picture: Image.Image, options: Mapping[str, Any]) -> bytes:
    sink = io.BytesIO()
    picture.save(sink, format="WEBP", **options)
    return sink.getvalue()
