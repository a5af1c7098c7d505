"""The same folder on the second day: what was exchanged, removed or added."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from prism_ray.data import Changes, FolderIndex, find_changes, index_folder, open_data
from prism_ray.errors import DataError
from tests.data.folders import config_of, save
from tests.data.test_hashes import noise


def swap(one: Path, other: Path) -> None:
    """Exchange the contents of two files of equal size; times stay with the names."""
    times = [(path.stat().st_atime_ns, path.stat().st_mtime_ns) for path in (one, other)]
    first, second = one.read_bytes(), other.read_bytes()
    assert len(first) == len(second)
    one.write_bytes(second)
    other.write_bytes(first)
    for path, ns in zip((one, other), times, strict=True):
        os.utime(path, ns=ns)


def test_an_unchanged_folder_has_no_changes(tmp_path: Path) -> None:
    """A run that cannot be resumed because a backup touched its files, or copied them."""
    root = noise(tmp_path / "train", range(5))
    index = index_folder(config_of(root))
    assert find_changes(config_of(root), index) == Changes()
    for path in root.rglob("*.bmp"):
        path.touch()
    assert find_changes(config_of(root), index) == Changes()
    shutil.copytree(root, tmp_path / "copy")
    assert find_changes(config_of(tmp_path / "copy"), index) == Changes()


def test_files_of_equal_size_are_not_the_same_files(tmp_path: Path) -> None:
    """Teachers of one folder and images of another one, complete and whole: sizes alone identify nothing."""
    root, other = noise(tmp_path / "train", range(5)), noise(tmp_path / "other", range(5, 10))
    index = index_folder(config_of(root))
    for number in range(5):
        shutil.copyfile(other / "cat" / f"{number + 5}.bmp", root / "cat" / f"{number}.bmp")
    problem = find_changes(config_of(root), index).problem
    assert problem is not None
    assert problem.startswith("5 images are changed (")
    assert str(root / "cat" / "0.bmp") in problem
    with pytest.raises(DataError, match="it has changed since it was listed"):
        open_data(config_of(root), index).read("train", np.arange(2))


def test_an_exchange_that_keeps_size_and_time_is_found(tmp_path: Path) -> None:
    """rsync and cp -p keep the times: two labels exchanged in the middle of a run."""
    root = noise(tmp_path / "train", range(5))
    index = index_folder(config_of(root))
    swap(root / "cat" / "0.bmp", root / "dog" / "0.bmp")
    assert len(find_changes(config_of(root), index).changed) == 2


def test_what_was_added_or_removed_is_named(tmp_path: Path) -> None:
    """A file added after the run began is passed over without a word, or makes two hashes of a message."""
    root = noise(tmp_path / "train", range(5))
    index = index_folder(config_of(root))
    save(root / "dog" / "new.png")
    save(root / "dog" / "extensionless.png").rename(root / "dog" / "extensionless")
    (root / "dog" / "notes.txt").write_text("none")
    changes = find_changes(config_of(root), index)
    assert changes.problem is None
    assert changes.note is not None
    assert changes.note.startswith("2 images are added since the run began (")
    (root / "cat" / "3.bmp").unlink()
    assert find_changes(config_of(root), index).missing == (str(root / "cat" / "3.bmp"),)


def test_new_test_images_are_seen(tmp_path: Path) -> None:
    """Only the training folder is compared."""
    train, test = noise(tmp_path / "train", range(5)), noise(tmp_path / "test", range(5, 8))
    index = index_folder(config_of(train, test))
    save(test / "cat" / "new.png")
    swap(test / "cat" / "5.bmp", test / "dog" / "5.bmp")
    changes = find_changes(config_of(train, test), index)
    assert changes.added == (str(test / "cat" / "new.png"),)
    assert len(changes.changed) == 2


def test_a_folder_that_is_elsewhere_is_not_compared(tmp_path: Path) -> None:
    """A finished run that cannot be shown on a machine without the images."""
    root = noise(tmp_path / "train", range(5))
    index = index_folder(config_of(root))
    root.rename(tmp_path / "gone")
    changes = find_changes(config_of(root), index)
    assert changes.is_absent
    assert changes.problem is None
    assert "is not on this machine" in str(changes.note)


def test_an_index_without_hashes_is_compared_by_size(tmp_path: Path) -> None:
    """A store of an earlier version that cannot be resumed."""
    root = noise(tmp_path / "train", range(5))
    index = FolderIndex.from_parquet(index_folder(config_of(root)).without_hashes().to_parquet())
    assert find_changes(config_of(root), index) == Changes()
    (root / "cat" / "0.bmp").write_bytes(b"other")
    assert len(find_changes(config_of(root), index).changed) == 1
