"""The index: what was taken and what was left out, and the order of the classes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prism_ray.config import DataConfig
from prism_ray.data import FolderIndex, index_folder, open_data
from prism_ray.data.indexing import order_of
from prism_ray.errors import DataError
from tests.data.folders import config_of, save


def allowing(root: Path, **values: object) -> DataConfig:
    return config_of(root).model_copy(update={"allow_left_out": True, **values})


def test_a_class_that_loses_images_is_an_error_with_the_key(root: Path) -> None:
    """A class of 8 of which 3 are taken, without a word."""
    for number in range(3):
        (root / "dog" / f"{number}.nef").write_bytes(b"MM\0*\0\0\0\x08" + b"\0" * 64)
    (root / "owl" / "9.jpg").write_bytes(b"<html>")
    save(root / "owl" / ".hidden.png")
    save(root / "loose.png")
    with pytest.raises(DataError) as caught:
        index_folder(config_of(root))
    message = str(caught.value)
    assert message.startswith("data.path: 6 image files cannot be read; by class: dog 3 of 8, owl 2 of 7\n")
    for part in ("raw data of a camera", "hidden; rename", "beside the class folders", "data.allow_left_out"):
        assert part in message
    index = index_folder(allowing(root))
    assert len(index.paths["train"]) + len(index.paths["test"]) == 15
    assert {(each.label, each.number) for each in index.left_out} == {("dog", 3), ("owl", 1), ("", 1)}
    assert FolderIndex.from_parquet(index.to_parquet()).left_out == index.left_out
    text = "\n".join(index.describe())
    assert "left out: 3 images of class dog (raw data of a camera; save it as PNG or JPEG), for" in text


def test_files_that_are_no_images_are_counted(root: Path) -> None:
    """Annotations beside the images make an error, or the log does not tell of them."""
    for number in range(4):
        (root / "cat" / f"{number}.xml").write_text("<annotation/>")
    (root / "README.md").write_text("# Cats")
    index = index_folder(config_of(root))
    assert len(index.paths["train"]) + len(index.paths["test"]) == 15
    assert "5 files are no image, for example cat/0.xml" in index.describe()


def test_names_that_are_integers_are_in_the_order_of_the_numbers(tmp_path: Path) -> None:
    """Classes 0, 1, 10, 11, 2 for a teacher that answers 0, 1, 2, 3, 4."""
    for number in range(12):
        for image in range(2):
            save(tmp_path / str(number) / f"{image}.png", (20 * number, 200, 7 * image))
    assert index_folder(config_of(tmp_path)).class_names == tuple(map(str, range(12)))


def test_the_order_of_classes(root: Path) -> None:
    """Padded numbers, or one name that is no number, sorted in two ways."""
    config = config_of(root)
    assert order_of(["10", "9", "007"], config) == ("007", "9", "10")
    assert order_of(["10", "9", "x"], config) == ("10", "9", "x")
    assert order_of(["b", "a"], config, ["b", "a"]) == ("b", "a")
    assert order_of(["10", "9"], config, ["10", "9"]) == ("10", "9")  # a run of an earlier version
    assert order_of(["b", "a"], config, ["b", "c"]) == ("a", "b")


def test_a_class_list_gives_the_order(root: Path) -> None:
    """Ready weights whose order of the classes is neither that of text nor that of numbers."""
    config = config_of(root).model_copy(update={"classes": ("owl", "cat", "dog")})
    index = index_folder(config)
    assert index.class_names == ("owl", "cat", "dog")
    images = open_data(config, index).read("test", np.arange(3))
    assert images[:, :, 0, 0].tolist() == [[0, 0, 255], [255, 0, 0], [0, 255, 0]]
    for classes, problem in (
        (("owl", "cat"), "it lacks 'dog'"),
        (("owl", "cat", "dog", "elk"), "has no class folder 'elk'"),
    ):
        with pytest.raises(DataError, match=problem):
            index_folder(config.model_copy(update={"classes": classes}))


def test_several_frames_are_told(root: Path) -> None:
    """A film of which one frame is taken without a word."""
    frames = [Image.new("L", (8, 8), value) for value in (10, 200)]
    frames[0].save(root / "cat" / "two.gif", save_all=True, append_images=frames[1:])
    assert any("1 files have several frames" in note for note in index_folder(config_of(root)).notes)


def test_an_index_of_an_earlier_version_is_read(root: Path) -> None:
    """A store without hashes that cannot be resumed after an upgrade, or whose data count as other data."""
    old = index_folder(config_of(root)).without_hashes()
    read = FolderIndex.from_parquet(old.to_parquet())
    assert read.heads == {}
    assert read.identity() == old.identity() != index_folder(config_of(root)).identity()
    assert open_data(config_of(root), read).read("train", np.arange(2)).shape == (2, 3, 16, 16)
