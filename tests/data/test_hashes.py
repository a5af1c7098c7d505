"""Images that are there twice: in both splits, or in two classes."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prism_ray.data import index_folder
from prism_ray.errors import DataError
from tests.data.folders import config_of


def noise(root: Path, numbers: range) -> Path:
    """Make two classes of images that all differ, in files of equal size."""
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in numbers:
            seed = [number, ord(name[0])]
            pixels = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.bmp")
    return root


def test_test_images_that_are_training_images_are_counted_and_named(tmp_path: Path) -> None:
    """Students tested on training images under another name: an accuracy that nobody doubts."""
    train, test = noise(tmp_path / "train", range(5)), noise(tmp_path / "test", range(5, 8))
    assert index_folder(config_of(train, test)).notes == ()
    for number in range(4):
        shutil.copy(train / "cat" / f"{number}.bmp", test / "cat" / f"copy{number}.bmp")
    (note,) = index_folder(config_of(train, test)).notes
    assert note.startswith("4 of 10 test images are also training images")
    assert "cat/copy0.bmp = cat/0.bmp, cat/copy1.bmp = cat/1.bmp, cat/copy2.bmp = cat/2.bmp" in note


def test_a_copy_of_the_training_images_is_no_test_set(tmp_path: Path) -> None:
    """data.test_path is a copy of data.path."""
    train = noise(tmp_path / "train", range(5))
    shutil.copytree(train, tmp_path / "test")
    with pytest.raises(DataError, match="all 10 test images are also training images"):
        index_folder(config_of(train, tmp_path / "test"))


def test_an_image_in_two_classes_is_named(tmp_path: Path) -> None:
    """One picture with two labels, which no network can learn."""
    root = noise(tmp_path / "train", range(5))
    shutil.copy(root / "cat" / "0.bmp", root / "dog" / "too.bmp")
    notes = index_folder(config_of(root)).notes
    assert any(
        note.startswith("1 images are in more than one class: cat/0.bmp = dog/too.bmp") for note in notes
    )


def test_equal_beginnings_are_no_duplicates(tmp_path: Path) -> None:
    """Raw pictures with the same sky counted as one picture: only the end of the file tells them apart."""
    root = tmp_path / "train"
    for label, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for number in range(4):
            pixels = np.zeros((128, 128, 3), np.uint8)
            pixels[0] = 250 - 20 * number - label  # the first row is the last one in the file
            Image.fromarray(pixels).save(root / name / f"{number}.bmp")
    index = index_folder(config_of(root))
    assert len(set(index.heads["train"])) == 1
    assert index.notes == ()
    assert all(index.hashes["train"])
