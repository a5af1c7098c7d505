"""Anyone's own images: what is listed, what is refused by name, and what is held out."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prism_ray.config import DataConfig
from prism_ray.data import FolderIndex, index_folder, open_data
from prism_ray.data.folder import FolderImages
from prism_ray.errors import DataError
from tests.data.folders import RED, config_of, save


def complaint(config: DataConfig) -> str:
    """Index a folder that must be refused; return the message."""
    with pytest.raises(DataError) as caught:
        index_folder(config)
    return str(caught.value)


def listed(index: FolderIndex) -> list[str]:
    return sorted([*index.paths["train"], *index.paths["test"]])


# Listing


def test_classes_are_the_folders_in_alphabetical_order(root: Path) -> None:
    """Labels in the order of the file system: another machine, other labels."""
    index = index_folder(config_of(root))
    assert index.class_names == ("cat", "dog", "owl")
    assert len(listed(index)) == 15
    for split in ("train", "test"):
        names = [path.split("/")[0] for path in index.paths[split]]
        assert names == [index.class_names[label] for label in index.labels[split]]


def test_paths_are_relative_and_in_order(root: Path, tmp_path: Path) -> None:
    """An index that names this machine's folders, or that another machine lists in another order."""
    index = index_folder(config_of(root))
    assert list(index.paths["train"]) == sorted(index.paths["train"])
    moved = root.rename(tmp_path / "elsewhere")
    assert index_folder(config_of(moved)).paths == index.paths


def test_every_kind_of_image_is_listed(root: Path) -> None:
    """JPEG in capitals, WebP, or images in folders below the class left out without a word."""
    save(root / "cat" / "a.jpg")
    save(root / "cat" / "b.JPEG")
    save(root / "cat" / "c.webp")
    save(root / "cat" / "d.bmp")
    save(root / "cat" / "2019" / "may" / "e.png")
    paths = listed(index_folder(config_of(root)))
    expected = ["cat/2019/may/e.png", "cat/a.jpg", "cat/b.JPEG", "cat/c.webp", "cat/d.bmp"]
    assert [path for path in paths if path not in {f"cat/{k}.png" for k in range(5)}][:5] == expected


def test_what_is_no_image_is_left_alone(root: Path) -> None:
    """README.txt, a .DS_Store or a thumbnail folder at the top stop the run, or become images."""
    before = index_folder(config_of(root))
    (root / "README.txt").write_text("About these images")
    (root / "cat" / "README.txt").write_text("About cats")
    (root / "cat" / "labels.csv").write_text("a,b")
    (root / "cat" / ".DS_Store").write_bytes(b"\x00\x01")
    (root / "cat" / "._0.png").write_bytes(b"a Mac was here")
    (root / ".git" / "objects").mkdir(parents=True)
    after = index_folder(config_of(root))
    assert after.paths == before.paths
    assert after.class_names == before.class_names


def test_a_hidden_folder_inside_a_class_is_left_alone(root: Path) -> None:
    """Jupyter's and viewers' hidden copies counted as images of the class, some of them held out."""
    before = index_folder(config_of(root))
    save(root / "cat" / ".ipynb_checkpoints" / "0-checkpoint.png")
    assert index_folder(config_of(root)).paths == before.paths


def test_a_class_folder_may_be_a_link(root: Path, tmp_path: Path) -> None:
    """Classes that are links to a shared data set are not seen."""
    (root / "owl").rename(tmp_path / "owls")
    (root / "owl").symlink_to(tmp_path / "owls")
    assert index_folder(config_of(root)).class_names == ("cat", "dog", "owl")


def test_a_link_that_leads_back_is_followed_once(root: Path) -> None:
    """A link to its own folder: every image counted forty times, until the path is too long."""
    (root / "cat" / "loop").symlink_to(root / "cat", target_is_directory=True)
    assert len(listed(index_folder(config_of(root)))) == 15


@pytest.mark.parametrize("name", ["猫", "chat élégant", "a'b", "100%", "ünïcödé 🐈"])
def test_names_in_any_script_survive(root: Path, name: str) -> None:
    """A class or file name outside ASCII that is garbled in the index."""
    save(root / name / f"{name}.png", RED)
    save(root / name / "2.png", RED)
    index = index_folder(config_of(root))
    assert name in index.class_names
    read = FolderIndex.from_parquet(index.to_parquet())
    assert (read.class_names, read.paths) == (index.class_names, index.paths)
    label = index.class_names.index(name)
    data = open_data(config_of(root), read)
    assert data.read("train", data.train_indices(label)).shape == (1, 3, 16, 16)


def test_a_file_name_that_is_no_unicode_is_refused_or_kept(root: Path) -> None:
    """A name in an old encoding: UnicodeEncodeError from the index or the identity, without the file."""
    os.rename(root / "cat" / "0.png", os.fsencode(root / "cat") + b"/\xff.png")
    try:
        index = index_folder(config_of(root))
    except DataError:
        return
    read = FolderIndex.from_parquet(index.to_parquet())
    assert read.paths == index.paths
    assert FolderImages(config_of(root), read).identity()


def test_a_class_name_with_a_line_break_is_refused_or_kept(root: Path) -> None:
    """One class that comes back from the index as two, so that every label after it is shifted."""
    (root / "dog").rename(root / "dog\nhound")
    try:
        index = index_folder(config_of(root))
    except DataError:
        return
    assert FolderIndex.from_parquet(index.to_parquet()).class_names == index.class_names


# What is refused


def test_a_corrupt_header_is_named(root: Path) -> None:
    """A broken file that is found on an actor an hour later, or skipped without a word."""
    bad = root / "dog" / "3.png"
    bad.write_bytes(b"this is no image")
    message = complaint(config_of(root))
    assert message.startswith("data.path: 1 image file cannot be read; by class: dog 1 of 5\n")
    assert str(bad) in message
    assert "dog/2.png" not in message


def test_all_corrupt_files_are_named_at_once_up_to_a_limit(root: Path) -> None:
    """One file per attempt, or a message of ten thousand lines."""
    for number in range(30):
        (root / "owl" / f"bad{number:02d}.jpg").write_bytes(b"")
    (root / "cat" / "0.png").write_bytes(b"")
    message = complaint(config_of(root))
    assert message.startswith(
        "data.path: 31 image files cannot be read; by class: cat 1 of 5, owl 30 of 35\n"
    )
    assert str(root / "cat" / "0.png") in message
    assert str(root / "owl" / "bad00.jpg") in message
    assert "\n  and 11 more\n" in message
    assert "data.allow_left_out" in message
    assert len(message.splitlines()) == 23


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """FileNotFoundError for a typing error in data.path."""
    assert complaint(config_of(tmp_path / "no")) == f"data.path: {tmp_path / 'no'} is not a folder"
    file = save(tmp_path / "file.png")
    assert complaint(config_of(file)) == f"data.path: {file} is not a folder"


def test_a_folder_without_class_folders_is_refused(tmp_path: Path) -> None:
    """The folder of one class given in place of the folder of classes."""
    save(tmp_path / "cat" / "0.png")
    message = complaint(config_of(tmp_path / "cat"))
    assert message.startswith(f"data.path: {tmp_path / 'cat'} has no class folders")


def test_empty_class_folders_are_named(root: Path) -> None:
    """A class of no images that shifts all labels after it, or that is skipped in silence."""
    (root / "bat").mkdir()
    (root / "elk").mkdir()
    (root / "elk" / "notes.txt").write_text("none yet")
    message = complaint(config_of(root))
    assert message.startswith(f"data.path: the class folders bat, elk of {root} have no images; ")


def test_a_class_of_a_single_image_is_refused_with_the_remedy(root: Path, tmp_path: Path) -> None:
    """A class without a test image, or without a training image."""
    save(root / "bat" / "only.png")
    message = complaint(config_of(root))
    assert message.startswith(f"data.path: class folder {root / 'bat'} has only 1 image, but one is held out")
    assert "data.test_path" in message
    for name in ("bat", "cat", "dog", "owl"):
        save(tmp_path / "test" / name / "other.png", (9, 9, 250))
    assert len(index_folder(config_of(root, tmp_path / "test")).class_names) == 4


# Splits


def test_the_held_out_split_is_disjoint_stable_and_in_every_class(root: Path) -> None:
    """Test images that were trained on, or a split that another listing changes."""
    one, other = index_folder(config_of(root, fraction=0.4)), index_folder(config_of(root, fraction=0.4))
    assert one.paths == other.paths
    assert set(one.paths["train"]).isdisjoint(one.paths["test"])
    assert np.bincount(one.labels["train"]).tolist() == [3, 3, 3]
    assert np.bincount(one.labels["test"]).tolist() == [2, 2, 2]


def test_the_split_is_pinned(root: Path) -> None:
    """A change of the choice makes accuracies of earlier runs on the same folder incomparable."""
    assert index_folder(config_of(root)).paths["test"] == ("cat/3.png", "dog/0.png", "owl/1.png")


def test_a_test_folder_is_taken_whole_and_nothing_held_out(root: Path, tmp_path: Path) -> None:
    """Training images held out although there are test images, or the two folders mixed up."""
    test = tmp_path / "test"
    save(test / "cat" / "7.png", (250, 1, 1))
    save(test / "dog" / "9.png", (1, 250, 1))
    config = config_of(root, test)
    assert "has no class folders owl" in complaint(config)
    save(test / "owl" / "8.png", (1, 1, 250))
    index = index_folder(config)
    assert len(index.paths["train"]) == 15
    assert index.paths["test"] == ("cat/7.png", "dog/9.png", "owl/8.png")
    assert index.labels["test"].tolist() == [0, 1, 2]
    images = open_data(config, index).read("test", np.asarray([2]))
    assert images[0, :, 0, 0].tolist() == [1, 1, 250]


def test_a_test_class_without_training_images_is_refused(root: Path, tmp_path: Path) -> None:
    """A label of the test set that no network has, or that is another class's number."""
    save(tmp_path / "test" / "dog" / "9.png")
    save(tmp_path / "test" / "elk" / "9.png")
    message = complaint(config_of(root, tmp_path / "test"))
    start = f"data.test_path: {tmp_path / 'test'} has the class folders elk, which are not in {root}; "
    assert message.startswith(start)


def test_a_missing_test_folder_is_called_by_its_key(root: Path, tmp_path: Path) -> None:
    """data.path blamed for data.test_path."""
    assert complaint(config_of(root, tmp_path / "no")).startswith("data.test_path: ")


# The index


def test_the_index_survives_its_parquet_file(root: Path) -> None:
    """Actors that read another list of files than the driver made."""
    index = index_folder(config_of(root))
    read = FolderIndex.from_parquet(index.to_parquet())
    assert (read.class_names, read.paths) == (index.class_names, index.paths)
    for split in ("train", "test"):
        assert read.labels[split].dtype == np.int64
        assert np.array_equal(read.labels[split], index.labels[split])


def test_the_index_of_one_listing_is_one_file(root: Path) -> None:
    """A file that differs each time it is made cannot be adopted by a second driver."""
    assert index_folder(config_of(root)).to_parquet() == index_folder(config_of(root)).to_parquet()


NAME = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=8)


@settings(deadline=None, max_examples=50)
@given(
    names=st.lists(NAME, min_size=1, max_size=5, unique=True), counts=st.lists(st.integers(0, 3), max_size=5)
)
def test_any_index_survives_its_parquet_file(names: list[str], counts: list[int]) -> None:
    """A split without images, or a name with a character that Parquet's metadata does not keep."""
    labels = [min(label, len(names) - 1) for label, count in enumerate(counts) for _ in range(count)]
    index = FolderIndex(
        class_names=tuple(names),
        paths={"train": (names[0],), "test": tuple(f"{names[k]}/{i}" for i, k in enumerate(labels))},
        labels={"train": np.zeros(1, np.int64), "test": np.asarray(labels, np.int64)},
        sizes={"train": np.full(1, 2**40), "test": np.arange(len(labels))},
    )
    read = FolderIndex.from_parquet(index.to_parquet())
    assert (read.class_names, read.paths) == (index.class_names, index.paths)
    assert all(np.array_equal(read.labels[split], index.labels[split]) for split in ("train", "test"))
    assert all(np.array_equal(read.sizes[split], index.sizes[split]) for split in ("train", "test"))


# Identity


def identity_of(config: DataConfig) -> str:
    return open_data(config, index_folder(config)).identity()


def test_the_identity_changes_with_the_listing(root: Path) -> None:
    """Images added, renamed or moved to another class between two halves of a run."""
    seen = {identity_of(config_of(root))}
    save(root / "cat" / "9.png")
    seen.add(identity_of(config_of(root)))
    (root / "cat" / "9.png").rename(root / "cat" / "8.png")
    seen.add(identity_of(config_of(root)))
    (root / "cat" / "8.png").rename(root / "dog" / "8.png")
    seen.add(identity_of(config_of(root)))
    seen.add(identity_of(config_of(root, fraction=0.5)))
    assert len(seen) == 5


def test_the_identity_stays_when_the_folder_moves(root: Path, tmp_path: Path) -> None:
    """A run that cannot go on after its images were mounted elsewhere."""
    before = identity_of(config_of(root))
    shutil.copytree(root, tmp_path / "copy")
    assert identity_of(config_of(tmp_path / "copy")) == before
