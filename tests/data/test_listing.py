"""Which folders are classes: splits, folders of the system and links that lead back are none."""

import re
from pathlib import Path

import pytest

from prism_ray.data.listing import alike, check_places, list_classes
from prism_ray.errors import DataError
from tests.data.folders import save


@pytest.mark.parametrize(
    ("splits", "train", "test"),
    [
        (("train", "val"), "train", "val"),
        (("Training", "Test"), "Training", "Test"),
        (("test", "train", "valid"), "train", "test"),
        (("train",), "train", None),
        (("dev", "test"), "dev", "test"),
    ],
)
def test_folders_of_splits_are_refused_with_the_path_to_give(
    tmp_path: Path, splits: tuple[str, ...], train: str, test: str | None
) -> None:
    """Two classes called "train" and "val", and every network with 100 % accuracy at nothing."""
    for split in splits:
        for name in ("cat", "dog"):
            save(tmp_path / split / name / "0.png")
    (tmp_path / "annotations").mkdir(exist_ok=len(splits) == 1)
    if len(splits) == 1:
        (tmp_path / "annotations").rmdir()
    with pytest.raises(DataError, match="are splits and no classes") as caught:
        list_classes(tmp_path, "data.path")
    assert f"set data.path to {tmp_path / train}" in str(caught.value)
    assert (f"data.test_path to {tmp_path}" in str(caught.value)) is (test is not None)
    if test is not None:
        assert str(caught.value).endswith(f"data.test_path to {tmp_path / test}")


@pytest.mark.parametrize(
    ("splits", "train", "test"),
    [
        (("images_train", "images_test", "labels"), "images_train", "images_test"),
        (("train2017", "val2017"), "train2017", "val2017"),
        (("seg_train/seg_train", "seg_test/seg_test"), "seg_train/seg_train", "seg_test/seg_test"),
        (("train", "val_images"), "train", "val_images"),
    ],
)
def test_folders_with_the_word_of_a_split_and_the_same_classes_are_splits(
    tmp_path: Path, splits: tuple[str, ...], train: str, test: str
) -> None:
    """Archives name their splits in many ways; each would be a class."""
    for split in splits:
        for name in ("cat", "dog"):
            save(tmp_path / split / name / "0.png")
    with pytest.raises(DataError, match="are splits and no classes") as caught:
        list_classes(tmp_path, "data.path")
    remedy = f"set data.path to {tmp_path / train} and data.test_path to {tmp_path / test}"
    assert str(caught.value).endswith(remedy)


def test_classes_with_the_word_of_a_split_and_other_folders_are_classes(tmp_path: Path) -> None:
    """Classes test tube and train station, with folders of their own kinds in them, refused."""
    for path in ("test tube/glass", "test tube/plastic", "train station/old", "train station/new", "val"):
        save(tmp_path / path / "0.png")
    assert len(list_classes(tmp_path, "data.path").files) == 3


def test_splits_without_class_folders_say_so(tmp_path: Path) -> None:
    """The advice to take a folder that has no class folders either."""
    for split in ("train", "val"):
        save(tmp_path / split / "0.png")
    with pytest.raises(DataError, match="their images are not in class folders"):
        list_classes(tmp_path, "data.path")


@pytest.mark.parametrize("names", [("train", "car", "bus"), ("test", "cat"), ("train", "dev", "boat")])
def test_a_class_may_have_the_name_of_a_split(tmp_path: Path, names: tuple[str, ...]) -> None:
    """CIFAR's class "train" refused as a split."""
    for name in names:
        save(tmp_path / name / "0.png")
    assert set(list_classes(tmp_path, "data.path").files) == set(names)


@pytest.mark.parametrize(
    "folder", ["@eaDir", "lost+found", "$RECYCLE.BIN", "__MACOSX", ".git", "#recycle", ".ipynb_checkpoints"]
)
def test_folders_of_the_system_are_no_classes(root: Path, folder: str) -> None:
    """Synology's thumbnails as a class of their own, or as images of a class."""
    save(root / folder / "0.png")
    save(root / "cat" / folder / "0.png")
    listing = list_classes(root, "data.path")
    assert list(listing.files) == ["cat", "dog", "owl"]
    assert len(listing.files["cat"]) == 5
    assert listing.passed_over == (f"{folder} (a folder of the system)",)


def test_a_link_back_to_a_parent_is_no_class(root: Path) -> None:
    """A class that has the images of all others."""
    (root / "all").symlink_to(root)
    (root / "up").symlink_to(root.parent)
    (root / "cat" / "back").symlink_to(root)
    (root / "cat" / "friend").symlink_to(root / "dog")
    listing = list_classes(root, "data.path")
    assert {name: len(files) for name, files in listing.files.items()} == {"cat": 5, "dog": 5, "owl": 5}
    assert [entry.split(" ")[0] for entry in listing.passed_over] == ["all", "up", "cat/back", "cat/friend"]


def test_one_folder_under_two_names_is_refused(root: Path) -> None:
    """The same images with two labels."""
    (root / "kitten").symlink_to(root / "cat")
    with pytest.raises(DataError, match=r"the class folders cat and kitten of .* are one folder"):
        list_classes(root, "data.path")


def test_a_folder_one_level_too_deep_says_so(root: Path) -> None:
    """The folder of one class given in place of the folder above."""
    with pytest.raises(DataError, match=r"has no class folders; it has 5 files itself.*to the folder above"):
        list_classes(root / "cat", "data.path")


@pytest.mark.parametrize("spelling", ["{}", "{}/", "{}/.", "{}/cat/..", "link"])
def test_training_images_are_no_test_images_in_any_spelling(
    root: Path, tmp_path: Path, spelling: str
) -> None:
    """A slash at the end, and the students are tested on what they learnt."""
    (tmp_path / "link").symlink_to(root)
    other = Path(str(tmp_path / "link") if spelling == "link" else spelling.format(root))
    with pytest.raises(DataError, match=re.escape("data.test_path = ") + ".* is the folder of data.path"):
        check_places(root, other)


def test_a_folder_inside_the_other_is_refused(root: Path, tmp_path: Path) -> None:
    """Test images in a folder of the training images count for both."""
    (root / "cat" / "test").mkdir()
    with pytest.raises(DataError, match=r"data.test_path = .* lies inside"):
        check_places(root, root / "cat" / "test")
    with pytest.raises(DataError, match=r"data.path = .* lies inside"):
        check_places(root / "cat" / "test", root)
    (tmp_path / "beside").mkdir()
    check_places(root, tmp_path / "beside")


def test_the_level_above_the_class_folders_is_refused(root: Path, tmp_path: Path) -> None:
    """One class "images" in place of the classes in that folder."""
    root.rename(tmp_path / "images")
    with pytest.raises(DataError, match=f"set data.path to {tmp_path / 'images'}"):
        list_classes(tmp_path, "data.path")


def test_names_that_look_alike_are_told() -> None:
    """One class in two folders: é of a Mac and é of Linux, Cat and cat."""
    assert alike(["cat", "dog"]) == []
    for one, other in (("Cat", "cat"), ("e\u0301t\u00e9", "\u00e9te\u0301"), ("cat ", "cat")):
        assert "differ only in case, blanks or Unicode form" in alike([one, "dog", other])[0]


@pytest.mark.parametrize("name", ["a\x1b[31m", "a\nb", "a\rb", "a\x9bb"])
def test_control_characters_in_names_are_refused(root: Path, name: str) -> None:
    """A class folder that colours the terminal, or moves its cursor."""
    (root / name).mkdir()
    with pytest.raises(DataError, match="has a control character; rename it"):
        list_classes(root, "data.path")
