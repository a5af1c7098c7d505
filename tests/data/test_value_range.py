"""Data that use a fraction of their range: refused with the key that scales them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prism_ray.data import index_folder, open_data
from prism_ray.errors import DataError
from tests.data.folders import config_of, save


def deep(root: Path, largest: int, kind: type = np.uint16) -> Path:
    """Make two classes of noise with values up to `largest`."""
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(4):
            pixels = rng.integers(0, largest + 1, (24, 24)).astype(kind)
            pixels[0, 0] = largest
            suffix = "tiff" if kind in (np.float32, np.int32) else "png"
            Image.fromarray(pixels).save(root / name / f"{number}.{suffix}")
    return root


@pytest.mark.parametrize(
    ("largest", "example"), [(1023, 1023), (4000, 4095), (16383, 16383), (255, 255), (1, 1)]
)
def test_data_of_few_bits_in_16_bits_are_refused_with_the_key(
    tmp_path: Path, largest: int, example: int
) -> None:
    """10-bit data in 16-bit PNG that come out nearly black without a word."""
    with pytest.raises(DataError, match=f"data.full_scale .* for example {example}, or to 65535") as caught:
        index_folder(config_of(deep(tmp_path, largest)))
    assert f"the largest value is {largest:,} of 65,535" in str(caught.value)


def test_data_of_few_bits_in_8_bits_are_refused_too(tmp_path: Path) -> None:
    """Values 0 to 15, as scikit-learn's digits have them, saved without scaling."""
    with pytest.raises(DataError, match=r"value is 15 of 255.* for example 15, or to 255"):
        index_folder(config_of(deep(tmp_path, 15, np.uint8)))


@pytest.mark.parametrize(("largest", "kind"), [(65535, np.uint16), (20000, np.uint16), (200, np.uint8)])
def test_data_that_use_their_range_are_taken(tmp_path: Path, largest: int, kind: type) -> None:
    """An error for ordinary pictures, or for a dark one among them."""
    root = deep(tmp_path, largest, kind)
    save(root / "cat" / "dark.png", (3, 3, 3))
    save(root / "cat" / "bright.png", (250, 250, 250))
    assert len(index_folder(config_of(root)).class_names) == 2


@pytest.mark.parametrize(
    ("largest", "kind", "full_scale"),
    [(1023, np.uint16, 1023), (15, np.uint8, 15), (1, np.float32, 1), (100_000, np.int32, 100_000)],
)
def test_the_key_scales_them(tmp_path: Path, largest: int, kind: type, full_scale: int) -> None:
    """A key that is named in an error and then does nothing; 32 bits, which have no range of their own."""
    config = config_of(deep(tmp_path, largest, kind)).model_copy(update={"full_scale": full_scale})
    data = open_data(config, index_folder(config))
    images = data.read("train", np.arange(len(data.labels["train"])))
    assert images.max() > 150
    assert images.min() < 100


def test_a_value_above_the_key_is_named(tmp_path: Path) -> None:
    """Values that wrap round to black."""
    config = config_of(deep(tmp_path, 4095)).model_copy(update={"full_scale": 1023})
    data = open_data(config, index_folder(config))
    with pytest.raises(DataError, match=r"its values are \d+ to 4095, and data.full_scale = 1023"):
        data.read("train", np.arange(2))


def test_the_key_leaves_smaller_formats_alone(tmp_path: Path) -> None:
    """A JPEG among 16-bit files made black by their key."""
    root = deep(tmp_path, 1023)
    save(root / "cat" / "9.png", (250, 0, 0))
    config = config_of(root, fraction=0.1).model_copy(update={"full_scale": 1023})
    data = open_data(config, index_folder(config))
    images = data.read("train", np.arange(len(data.labels["train"])))
    test = data.read("test", np.arange(2))
    assert [250, 0, 0] in [*images[:, :, 8, 8].tolist(), *test[:, :, 8, 8].tolist()]


def test_pixels_without_a_range_are_refused_when_listed(tmp_path: Path) -> None:
    """An hour of training before the first float picture is met."""
    with pytest.raises(DataError, match=r"32 bits per channel have no known range; set data.full_scale"):
        index_folder(config_of(deep(tmp_path, 1, np.float32)))


def test_transparent_pixels_are_told(tmp_path: Path) -> None:
    """Stickers on a background that nobody sees in a viewer, and that every network learns."""
    root = deep(tmp_path, 255, np.uint8)
    assert index_folder(config_of(root)).notes == ()
    pixels = np.full((20, 20, 4), 255, np.uint8)
    Image.fromarray(pixels).save(root / "cat" / "opaque.png")
    pixels[:5, :, 3] = 0
    Image.fromarray(pixels).save(root / "cat" / "sticker.png")
    Image.fromarray(pixels).save(root / "dog" / "sticker.gif")
    notes = index_folder(config_of(root, fraction=0.1)).notes
    assert any("have transparent pixels" in note for note in notes)
    assert "opaque" not in " ".join(notes)
