"""PNG files of single images, grey or RGB. A PNG is unpacked only if its header has the right size."""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]  # channels, H, W


def encode_png(image: Pixels) -> bytes:
    """Return a (channels, H, W) image as PNG: grey for 1 channel, RGB for 3."""
    pixels = image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0)
    sink = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(sink, format="PNG")
    return sink.getvalue()


def decode_png(data: bytes, channels: int, size: int) -> Pixels:
    """Return the pixels (channels, size, size) of a PNG.

    Raises ValueError if it has another size, which is checked before it is unpacked, or is not complete.
    """
    mode = "L" if channels == 1 else "RGB"
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            fits = image.size == (size, size) and image.mode == mode
            found = f"{image.mode} of {image.width} x {image.height} pixels"
            pixels = np.asarray(image) if fits else np.empty(0, np.uint8)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"is not a complete PNG: {error}") from None
    if not fits:
        raise ValueError(f"is {found}, not {mode} of {size} x {size}")
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)
