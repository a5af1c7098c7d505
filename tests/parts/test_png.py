"""PNG: lossless, and no larger in memory than the run's images are."""

import io
import struct
import zlib

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from prism_ray.parts.png import decode_png, encode_png


def noise(channels: int, size: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (channels, size, size), dtype=np.uint8)


IMAGES = st.tuples(st.sampled_from([1, 3]), st.integers(1, 12)).flatmap(
    lambda shape: hnp.arrays(np.uint8, (*shape, shape[1]))
)


@settings(deadline=None)
@given(image=IMAGES)
def test_png_is_lossless(image: npt.NDArray[np.uint8]) -> None:
    """Pixels changed by the codec: grey made RGB, channels or sides exchanged, or a lossy format."""
    data = encode_png(image)
    decoded = decode_png(data, image.shape[0], image.shape[1])
    assert decoded.dtype == np.uint8
    assert decoded.shape == image.shape
    assert np.array_equal(decoded, image)
    assert encode_png(image) == data


def test_the_memory_order_of_the_pixels_does_not_matter() -> None:
    """A transposed view whose raw memory is written in place of its pixels."""
    image = noise(3, 8)
    turned = np.asfortranarray(image)
    assert encode_png(turned) == encode_png(image)
    assert np.array_equal(decode_png(encode_png(image[:, ::2, 1::2]), 3, 4), image[:, ::2, 1::2])


def test_only_png_is_decoded() -> None:
    """A file of the store that makes Pillow run one of its rarer decoders."""
    sink = io.BytesIO()
    Image.new("RGB", (4, 4)).save(sink, format="BMP")
    with pytest.raises(ValueError, match="is not a complete PNG: cannot identify"):
        decode_png(sink.getvalue(), 3, 4)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, depth: int = 8, colour: int = 0, more: bytes = b"") -> bytes:
    """Return a PNG whose header claims a size, and which has no more than a few pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(72)))
    return b"\x89PNG\r\n\x1a\n" + header + more + pixels + chunk(b"IEND", b"")


LONG_COMMENT = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8)))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (png_of(60_000, 60_000), "is not a complete PNG: Image size .3600000000 pixels. exceeds"),
        (png_of(9_000, 9_000), "is L of 9000 x 9000 pixels, not L of 8 x 8"),
        (png_of(9_000, 9_000, colour=2), "is RGB of 9000 x 9000 pixels, not L of 8 x 8"),
        (png_of(8, 9), "is L of 8 x 9 pixels"),
        (png_of(8, 8, colour=6), "is RGBA of"),
        (png_of(8, 8, colour=3), "is P of"),
        (png_of(0, 8), "is not a complete PNG"),
        (png_of(8, 8)[:-30], "is not a complete PNG"),
        (png_of(8, 8, more=LONG_COMMENT), "is not a complete PNG: Decompressed data too large"),
    ],
)
def test_what_is_larger_than_it_may_be_is_not_unpacked(data: bytes, problem: str) -> None:
    """Catches a decompression bomb: kilobytes that unpack to gigabytes of pixels, or of comments."""
    with pytest.raises(ValueError, match=problem):  # not that it is truncated, as one that is unpacked
        decode_png(data, 1, 8)


def test_the_small_file_of_these_tests_is_read() -> None:
    """Catches every file above refused for something else than its size."""
    assert decode_png(png_of(8, 8), 1, 8).shape == (1, 8, 8)
