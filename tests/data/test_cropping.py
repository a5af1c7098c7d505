"""Crops of original pictures: where the box is, and what torchvision would cut."""

import io
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as TF

import prism_ray.data.decode
from prism_ray.config import DataConfig
from prism_ray.crops import CropNumbers, Crops
from prism_ray.data import index_folder, open_data
from prism_ray.data.base import ArrayImages
from prism_ray.data.decode import decode_crops
from prism_ray.errors import DataError
from tests.data.folders import config_of

ORIENTATION = 0x0112


def boxes(*rows: tuple[int, int, int, int]) -> Crops:
    """Boxes of (top, left, height, width)."""
    return Crops(*np.array(rows, np.int64).T)


def picture(height: int, width: int, mode: str = "RGB") -> Image.Image:
    """A picture with slopes, edges and a texture, another one in each channel."""
    y, x = np.mgrid[:height, :width]
    red, green = 255 * x / width, 255 * y / height
    blue = 127 + 60 * np.sin(x / 17) + 60 * np.cos(y / 23) + 7 * ((x // 40 + y // 60) % 2)
    return Image.fromarray(np.stack([red, green, blue], axis=2).astype(np.uint8)).convert(mode)


def file_of(image: Image.Image, kind: str, orientation: int = 1, **options: object) -> bytes:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image.save(file, kind, exif=exif, **options)
    return file.getvalue()


def expected(data: bytes, box: tuple[int, int, int, int], height: int, width: int) -> np.ndarray:
    """What torchvision cuts out of the picture, decoded in full and set upright."""
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    cut = TF.resized_crop(upright, *box, [height, width], InterpolationMode.BILINEAR, antialias=True)
    return np.asarray(cut).transpose(2, 0, 1)


def decoded(data: bytes, found: Crops, height: int, width: int) -> np.ndarray:
    return decode_crops(data, lambda *_: found, height, width, max_megapixels=180)[0]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_crops_are_those_of_torchvision_in_every_orientation(kind: str, orientation: int) -> None:
    """A box in the file's pixels instead of the upright picture's, or set upright twice (TIFF)."""
    data = file_of(picture(61, 90), kind, orientation)
    rows = [(0, 0, 61, 61), (3, 20, 40, 37), (5, 1, 9, 12)]  # reduced, and enlarged
    found = decoded(data, boxes(*rows), 24, 30)
    for crop, row in zip(found, rows, strict=True):
        assert np.array_equal(crop, expected(data, row, 24, 30))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_decoded_at_a_reduced_scale_has_the_same_crops(orientation: int) -> None:
    """Boxes that miss by up to a pixel of 8: sides that are no multiple of 8, turned to the other end."""
    data = file_of(picture(1003, 1301), "JPEG", orientation, quality=95)
    for side, num in ((1000, 60), (500, 60), (250, 60)):
        height, width = (1301, 1003) if orientation > 4 else (1003, 1301)
        rows = [(0, 0, side, side), (height - side, width - side, side, side)]
        found = decoded(data, boxes(*rows), num, num)
        for crop, row in zip(found, rows, strict=True):
            difference = np.abs(crop.astype(int) - expected(data, row, num, num))
            assert difference.mean() < 0.5
            assert difference.max() <= 6


@pytest.mark.parametrize("kind", ["grey", "cmyk", "progressive", "phone"])
def test_every_kind_of_jpeg_can_be_reduced(kind: str) -> None:
    """A kind of JPEG of which a reduced decoding is shifted, cut off, inverted or refused."""
    image = picture(803, 1001, {"grey": "L", "cmyk": "CMYK"}.get(kind, "RGB"))
    more = {"save_all": True, "append_images": [picture(80, 100)]} if kind == "phone" else {}
    container = "MPO" if kind == "phone" else "JPEG"
    data = file_of(image, container, 6, quality=95, progressive=kind == "progressive", **more)
    box = (101, 3, 800, 800)  # upright: 1001 x 803
    difference = np.abs(decoded(data, boxes(box), 50, 50)[0].astype(int) - expected(data, box, 50, 50))
    assert difference.mean() < 0.7
    assert difference.max() <= 8


def test_the_smallest_crop_says_how_far_a_jpeg_is_reduced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small crop blown up from an eighth, or 12 megapixels decoded for a thumbnail."""
    seen: list[tuple[int, int]] = []
    cut = prism_ray.data.decode.cut
    monkeypatch.setattr(
        prism_ray.data.decode, "cut", lambda image, *rest: seen.append(image.size) or cut(image, *rest)
    )
    data = file_of(picture(1000, 2000), "JPEG")
    for side in (100, 199, 200, 399, 400, 800, 1000):
        decoded(data, boxes((0, 0, 1000, 1000), (0, 9, side, side)), 50, 50)
    assert [size[0] for size in seen] == [2000, 2000, 1000, 1000, 500, 250, 250]
    decode_crops(data, lambda *_: boxes((0, 0, 1000, 1000)), 50, 50, 180, full_scale=255)
    assert seen[-1] == (2000, 1000)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK", "I;16"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    """A grey or transparent picture, or one with a palette, with wrong colours or the wrong shape."""
    image = picture(40, 50, "L" if mode in ("1", "I;16") else "RGB")
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    elif mode == "P":
        image = image.quantize(16)
        image.info["transparency"] = 3
    else:
        image = image.convert(mode)
    data = file_of(image, "TIFF" if mode == "CMYK" else "PNG")
    whole = decoded(data, boxes((0, 0, 40, 50)), 40, 50)[0]
    if mode == "I;16":
        reference = picture(40, 50, "L").convert("RGB")
    else:
        reference = (image.convert("RGBA") if mode == "P" else image).convert("RGB")
    assert np.array_equal(whole, np.asarray(reference).transpose(2, 0, 1))


def test_full_scale_holds_for_crops() -> None:
    """10-bit data that is black in crops and right as a whole."""
    values = np.arange(1024, dtype=np.uint16).reshape(32, 32)
    data = file_of(Image.fromarray(values), "PNG")
    crops, _ = decode_crops(data, lambda *_: boxes((0, 0, 32, 32), (16, 0, 16, 32)), 32, 32, 180, 1023)
    assert np.array_equal(crops[0, 0], np.round(values * (255 / 1023)))
    assert crops[1].min() > 120
    with pytest.raises(ValueError, match=r"data\.full_scale = 500"):
        decode_crops(data, lambda *_: boxes((0, 0, 32, 32)), 32, 32, 180, 500)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    seed=st.integers(0, 99),
    square=st.booleans(),
    low=st.floats(0.01, 0.9),
)
def test_boxes_are_inside_and_can_be_cut(
    height: int, width: int, seed: int, square: bool, low: float
) -> None:
    """A tall, wide or tiny picture whose box leaves it, has no pixel, or an aspect ratio out of range."""
    numbers = CropNumbers.draw(np.random.default_rng(seed), 3)
    found = numbers.boxes(height, width, (low, 1.0), max_ratio=1.0 if square else 4 / 3)
    data = file_of(picture(height, width), "PNG")
    assert decoded(data, found, 8, 5).shape == (3, 3, 8, 5)
    if square:
        assert np.array_equal(found.height, found.width)


def test_the_draw_is_over_the_whole_picture() -> None:
    """Crops of the square in the middle, which never see the borders of a wide picture."""
    numbers = CropNumbers.draw(np.random.default_rng(0), 4000)
    found = numbers.boxes(300, 400, (0.08, 0.3))
    share = found.height * found.width / (300 * 400)
    assert share.mean() == pytest.approx(0.19, abs=0.005)
    assert found.left.min() == 0
    assert (found.left + found.width).max() == 400
    assert (found.top + found.height).max() == 300
    room = 400 - found.width
    assert (found.left / room).mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("size", "max_ratio", "box"),
    [
        ((100, 1000), 1.0, (0, 450, 100, 100)),
        ((1000, 100), 1.0, (450, 0, 100, 100)),
        ((100, 1000), 4 / 3, (0, 433, 100, 133)),
        ((1000, 100), 4 / 3, (433, 0, 133, 100)),
    ],
)
def test_what_does_not_fit_is_cut_from_the_middle(
    size: tuple[int, int], max_ratio: float, box: tuple[int, int, int, int]
) -> None:
    """The whole of a panorama squeezed into a square, where torchvision cuts the middle."""
    found = CropNumbers.draw(np.random.default_rng(0), 2).boxes(*size, (0.99, 1.0), max_ratio)
    for top, left, height, width in zip(found.top, found.left, found.height, found.width, strict=True):
        assert (top, left, height, width) == box


# Sources


def test_a_damaged_file_is_named(folder: DataConfig) -> None:
    """Crops of half a picture, filled up with black; or an error that stops at the first file."""
    index = index_folder(folder)
    paths = [Path(str(folder.path)) / index.paths["train"][row] for row in (1, 4)]
    for path in paths:
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    data = open_data(folder, index_folder(folder))
    with pytest.raises(DataError, match="2 image files cannot be read") as caught:
        data.read_crops("train", np.array([0, 1, 4]), partial(row_of, wanted=[]), 8, 8)
    assert "changed" not in str(caught.value)
    assert all(str(path) in str(caught.value) for path in paths)


@pytest.fixture
def folder(tmp_path: Path) -> DataConfig:
    """Two classes of five pictures of several shapes, that are bright in the row of their number."""
    for name in ("ant", "bee"):
        for number in range(5):
            path = tmp_path / name / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            pixels = np.zeros((40 + number, 60 - number, 3), np.uint8)
            pixels[number] = 255
            Image.fromarray(pixels).save(path)
    return config_of(tmp_path)


def row_of(row: int, height: int, width: int, wanted: list[tuple[int, int]]) -> Crops:
    wanted.append((height, width))
    return boxes((0, width - 20, 10, 10), (5, 0, 5, 5))


def test_a_folder_gives_crops_in_the_order_asked_from_one_decoding_each(
    folder: DataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Crops of another picture, or a file that is decoded for each crop."""
    decodings: list[int] = []
    data = open_data(folder, index_folder(folder))
    indices = np.array([3, 0, 5])
    numbers = [int(Path(data.item("train", int(index))).stem) for index in indices]
    opened = prism_ray.data.decode.open_image
    monkeypatch.setattr(
        prism_ray.data.decode, "open_image", lambda *rest: decodings.append(1) or opened(*rest)
    )
    sizes: list[tuple[int, int]] = []
    images, found = data.read_crops("train", indices, partial(row_of, wanted=sizes), 10, 10)
    assert images.shape == (6, 3, 10, 10)
    assert len(decodings) == 3
    assert sizes == [(40 + number, 60 - number) for number in numbers]
    assert found.left.tolist() == [left for number in numbers for left in (40 - number, 0)]
    assert images[::2, 0, :, 0].argmax(axis=1).tolist() == numbers


def test_validation_images_are_not_cropped_for_training(folder: DataConfig) -> None:
    """Indices of the training split taken for those of all images."""
    config = folder.model_copy(update={"validation_fraction": 0.25})
    data, source = open_data(config, index_folder(folder)), open_data(folder, index_folder(folder))
    kept = {data.item("train", index): index for index in range(len(data.labels["train"]))}
    for index in range(len(source.labels["train"])):
        own = kept.get(source.item("train", index))
        if own is not None:
            cuts = [
                one.read_crops("train", np.array([place]), partial(row_of, wanted=[]), 10, 10)[0]
                for one, place in ((data, own), (source, index))
            ]
            assert np.array_equal(*cuts)


def test_a_box_outside_of_its_picture_is_refused_by_name(folder: DataConfig) -> None:
    """Black borders from scores of other pictures: Pillow crops outside without a word."""
    data = open_data(folder, index_folder(folder))
    for row in ((0, 0, 10, 61), (-1, 0, 5, 5), (0, 10**12, 5, 5), (0, 0, 0, 5)):
        with pytest.raises(DataError, match=r"\.png \(a crop of .* is not inside its \d+ x 4\d pixels"):
            data.read_crops("train", np.array([0]), lambda *_, row=row: boxes(row), 8, 8)
    grey = ArrayImages(
        "grey", ("a",), {"train": np.zeros((1, 8, 8), np.uint8)}, {"train": np.zeros(1, int)}, 4
    )
    with pytest.raises(DataError, match="grey: image 0 of split train: a crop of 9 x 8"):
        grey.read_crops("train", np.array([0]), lambda *_: boxes((0, 0, 8, 9)), 8, 8)


def test_arrays_are_cropped_at_their_own_size() -> None:
    """Crops of embedded data from the enlarged square, or with a dimension lost."""
    pixels = np.arange(128, dtype=np.uint8).reshape(2, 8, 8)
    data = ArrayImages("grey", ("a",), {"train": pixels}, {"train": np.zeros(2, np.int64)}, 32)
    images, _ = data.read_crops("train", np.array([1]), lambda *_: boxes((0, 0, 8, 8), (2, 3, 4, 4)), 4, 4)
    assert images.shape == (2, 1, 4, 4)
    assert np.array_equal(images[1, 0], pixels[1, 2:6, 3:7])
