"""Anyone's own images: what is read of a file, and how it is decoded."""

import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import prism_ray.data.folder
from prism_ray.data import index_folder, open_data
from prism_ray.data.decode import decode_image
from prism_ray.errors import DataError
from tests.data.folders import BLUE, GREEN, RED, config_of, save


def decoded_file(path: Path, size: int) -> np.ndarray[Any, Any]:
    return decode_image(path.read_bytes(), size, max_megapixels=180)


def damage(path: Path) -> Path:
    """Cut an image file in half: its header is whole, its pixels are not."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


# Reading


@pytest.fixture(params=[True, False], ids=["cached", "uncached"])
def _cache(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test with the cache of decoded images, then without."""
    if not request.param:
        monkeypatch.setattr(prism_ray.data.folder, "IN_MEMORY_BYTES", 0)


def test_files_are_decoded_beside_each_other(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches one core for the 50,000 test images of ImageNet, five times for each student."""
    config = config_of(root)
    index = index_folder(config)
    indices = np.arange(len(index.paths["train"]))
    alone = open_data(config, index).read("train", indices)
    both = threading.Barrier(2, timeout=20)  # broken if a thread comes alone

    def decode(*arguments: Any) -> Any:
        both.wait()
        return decode_image(*arguments)

    monkeypatch.setattr(prism_ray.data.folder, "decode_image", decode)
    even = indices[: len(indices) // 2 * 2]
    np.testing.assert_array_equal(open_data(config, index, num_threads=2).read("train", even), alone[even])


@pytest.mark.usefixtures("_cache")
def test_read_returns_the_asked_images_in_the_asked_order(root: Path) -> None:
    """A cache that mixes up images, splits or orders; or memory that was never filled."""
    config = config_of(root)
    data = open_data(config, index_folder(config))
    colors = np.asarray([RED, GREEN, BLUE])
    rng = np.random.default_rng(0)
    for split in ("train", "test", "train"):
        for _ in range(5):
            indices = rng.integers(0, len(data.labels[split]), 4)
            images = data.read(split, indices)
            assert images.dtype == np.uint8
            assert images.shape == (4, 3, 16, 16)
            expected = colors[data.labels[split][indices]][:, :, None, None]
            assert np.array_equal(images, np.broadcast_to(expected, images.shape))
    assert data.read("train", np.zeros(0, np.int64)).shape == (0, 3, 16, 16)


@pytest.mark.usefixtures("_cache")
def test_what_is_read_can_be_written_to(root: Path) -> None:
    """Augmenting a batch in place would change the cached images."""
    config = config_of(root)
    data = open_data(config, index_folder(config))
    images = data.read("train", np.asarray([0, 1]))
    before = images.copy()
    images[:] = 7
    assert np.array_equal(data.read("train", np.asarray([0, 1])), before)


@pytest.mark.usefixtures("_cache")
def test_a_failed_read_leaves_nothing_behind(root: Path) -> None:
    """A cache that marks the images of a failed read as present and later gives out raw memory."""
    config = config_of(root)
    index = index_folder(config)
    data = open_data(config, index)
    path = root / index.paths["train"][0]
    whole = path.read_bytes()
    damage(path)
    with pytest.raises(DataError, match="cannot be read"):
        data.read("train", np.asarray([0, 1]))
    path.write_bytes(whole)
    assert np.array_equal(data.read("train", np.asarray([0]))[0, :, 0, 0], RED)


def test_the_cache_spares_a_second_decoding(root: Path) -> None:
    """Every epoch decodes every file again although all fit into memory."""
    config = config_of(root)
    data = open_data(config, index_folder(config))
    everything = np.arange(len(data.labels["train"]))
    first = data.read("train", everything)
    shutil.rmtree(root)
    assert np.array_equal(data.read("train", everything), first)


def test_facts_are_those_of_colour_images(root: Path) -> None:
    """Three channels announced as one: teachers are built for the wrong input."""
    config = config_of(root)
    facts = open_data(config).facts()
    assert (facts.class_names, facts.train_counts) == (("cat", "dog", "owl"), (4, 4, 4))
    assert (facts.num_test_images, facts.channels) == (3, 3)


def test_a_truncated_file_is_named_when_it_is_read(root: Path) -> None:
    """Half an image filled up with grey, or an OSError that does not say which of a million files."""
    config = config_of(root)
    index = index_folder(config)
    whole, bad, also = (root / index.paths["train"][k] for k in (2, 3, 7))
    damage(bad)
    damage(also)
    assert index_folder(config).paths == index.paths
    with pytest.raises(DataError) as caught:
        open_data(config, index).read("train", np.asarray([7, 2, 3]))
    message = str(caught.value)
    assert message.startswith("2 image files cannot be read; ")
    assert str(bad) in message
    assert str(also) in message
    assert str(whole) not in message


def test_a_file_that_is_gone_is_named_when_it_is_read(root: Path) -> None:
    """A file deleted after the index was made."""
    config = config_of(root)
    index = index_folder(config)
    gone = root / index.paths["train"][2]
    gone.unlink()
    with pytest.raises(DataError, match="cannot be read") as caught:
        open_data(config, index).read("train", np.asarray([1, 2]))
    assert str(gone) in str(caught.value)


def test_an_image_that_was_exchanged_is_refused_by_name(root: Path) -> None:
    """Images exchanged in the middle of a run, some of its parts made from the old and some from the new."""
    config = config_of(root)
    index = index_folder(config)
    save(root / "cat" / "1.png", BLUE, size=(50, 50))
    place = index.paths["train"].index("cat/1.png")
    with pytest.raises(DataError, match=r"cat/1\.png \(it has changed since it was listed"):
        open_data(config, index).read("train", np.asarray([place]))
    assert open_data(config, index).identity() != open_data(config, index_folder(config)).identity()


# Decoding


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA", "1", "CMYK", "I;16"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    """A grey, palette or 16-bit image with the wrong shape, or with its brightness clipped away."""
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    if mode == "I;16":
        Image.fromarray(np.full((20, 20), 153 * 257, np.uint16)).save(path)
    else:
        save(path, (153, 153, 153), mode=mode)
    pixels = decoded_file(path, 16)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (3, 16, 16)
    if mode != "1":
        assert np.all(np.abs(pixels.astype(int) - 153) <= 2)


def test_a_palette_with_transparency_is_read_without_a_warning(tmp_path: Path) -> None:
    """Pillow warns about such palettes on every actor, and as an error it stops the run."""
    path = tmp_path / "x.png"
    image = Image.new("P", (20, 20), 1)
    image.putpalette([0, 0, 0, *GREEN])
    image.save(path, transparency=b"\x00\x80")
    assert decoded_file(path, 16)[:, 8, 8].tolist() == list(GREEN)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".bmp", ".jpg"])
def test_every_format_keeps_its_colours(tmp_path: Path, suffix: str) -> None:
    """Channels in the order BGR, or rows and columns exchanged."""
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:16] = RED
    pixels[16:, 16:] = BLUE
    path = tmp_path / f"x{suffix}"
    options: dict[str, Any] = {"lossless": True} if suffix == ".webp" else {}
    Image.fromarray(pixels).save(path, **options)
    decoded = decoded_file(path, 32).astype(int)
    assert np.abs(decoded[:, 4, 28] - RED).max() < 20
    assert np.abs(decoded[:, 28, 28] - BLUE).max() < 20
    assert np.abs(decoded[:, 28, 4]).max() < 20


@settings(deadline=None, max_examples=60)
@given(width=st.integers(1, 90), height=st.integers(1, 90), size=st.integers(1, 48))
def test_every_size_becomes_a_square(
    tmp_path_factory: pytest.TempPathFactory, width: int, height: int, size: int
) -> None:
    """A crop that reaches beyond the image and is padded with black, or is a pixel too small."""
    path = tmp_path_factory.getbasetemp() / "size.png"
    save(path, (200, 100, 50), (width, height))
    pixels = decoded_file(path, size)
    assert pixels.shape == (3, size, size)
    assert np.all(pixels == np.asarray([200, 100, 50])[:, None, None])


@pytest.mark.parametrize("size", [(1, 60), (60, 1), (1, 1)])
def test_an_image_of_one_pixels_width_is_read(root: Path, size: tuple[int, int]) -> None:
    """A division by zero or an image of zero pixels for an odd file in a large set."""
    save(root / "cat" / "thin.png", RED, size)
    config = config_of(root)
    data = open_data(config)
    for split in ("train", "test"):
        data.read(split, np.arange(len(data.labels[split])))


def test_the_centre_is_kept_and_the_aspect_ratio_too(tmp_path: Path) -> None:
    """A wide image squeezed to a square, or cropped at its left end."""
    pixels = np.zeros((70, 210, 3), np.uint8)
    pixels[:, :70], pixels[:, 70:140], pixels[:, 140:] = RED, GREEN, BLUE
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    Image.fromarray(pixels.transpose(1, 0, 2)).save(tmp_path / "tall.png")
    for name in ("wide", "tall"):
        decoded = decoded_file(tmp_path / f"{name}.png", 28)
        assert np.all(decoded == np.asarray(GREEN)[:, None, None])


def test_the_shorter_side_becomes_eight_sevenths_of_the_size(tmp_path: Path) -> None:
    """The whole image in place of its centre, which the published preprocessing takes."""
    pixels = np.zeros((256, 256, 3), np.uint8)
    pixels[20:236, 20:236] = GREEN
    Image.fromarray(pixels).save(tmp_path / "x.png")
    decoded = decoded_file(tmp_path / "x.png", 224)
    assert decoded[1, 112].tolist().index(255) == 4


def test_a_photograph_held_sideways_is_upright(tmp_path: Path) -> None:
    """Pictures of a phone lying on their side, because the orientation stands beside the pixels."""
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[:20] = 255  # the upper half is white
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it: the left half is what was below
    Image.fromarray(pixels).save(tmp_path / "photo.png", exif=exif)
    seen = decoded_file(tmp_path / "photo.png", 8)
    assert seen[0, :, -1].tolist() == [255] * 8
    assert seen[0, :, 0].tolist() == [0] * 8
