"""The listing of class folders: which files belong to which class. No file is opened here.

What an operating system or a NAS keeps in folders of its own is passed over, and so are links that lead back.
Folders named like splits (train, val) are no classes.
"""

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from prism_ray.config import DataConfig
from prism_ray.data.base import Split
from prism_ray.errors import DataError

_SYSTEM = {
    "@eadir",  # Synology: thumbnails
    "@recycle",
    "@recently-snapshot",
    "#recycle",
    "#snapshot",
    "lost+found",
    "$recycle.bin",
    "system volume information",
    "__macosx",
    "__pycache__",
}
_TRAIN = {"train", "training", "trainset", "train_set"}
_TEST = {"val", "valid", "validation", "test", "testing", "eval", "dev", "testset", "test_set", "holdout"}
_SPLITS = _TRAIN | _TEST
_MAX_NESTED = 8  # folders that hold only the next one, as archives leave them
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Listing:
    """The files of each class folder, sorted and relative to the root; some may be no images."""

    files: dict[str, list[str]]  # class folder -> files
    loose: list[str]  # files beside the class folders
    passed_over: tuple[str, ...]  # folders that are no classes, and why


def roots_of(config: DataConfig) -> dict[Split, Path]:
    """Return the folder of the class folders of each split; without data.test_path both are one."""
    assert config.path is not None
    return {"train": Path(config.path), "test": Path(config.test_path or config.path)}


def is_system_folder(name: str) -> bool:
    """Return whether a folder is hidden, or one that a system creates."""
    return name.startswith(".") or name.lower() in _SYSTEM


def list_classes(root: Path, key: str) -> Listing:
    """List the class folders of `root`, which the config's key `key` names.

    Raises DataError if it has none, if they are splits, or if two are one folder.
    """
    if not root.is_dir():
        raise DataError(f"{key}: {root} is not a folder")
    top = os.path.realpath(root)
    classes: dict[str, str] = {}  # name -> real path
    loose, passed_over = [], []
    for entry in sorted(_entries(root), key=lambda entry: entry.name):
        if not entry.is_dir():
            if not entry.name.startswith("."):
                loose.append(_checked(entry.name))
            continue
        real = os.path.realpath(entry.path)
        if is_system_folder(entry.name):
            passed_over.append(f"{entry.name} (a folder of the system)")
        elif entry.is_symlink() and _is_inside(top, real):
            passed_over.append(f"{entry.name} (a link to {real}, which contains the class folders)")
        elif real in classes.values():
            other = next(name for name, path in classes.items() if path == real)
            raise DataError(
                f"{key}: the class folders {other} and {entry.name} of {root} are one folder, so its images "
                "would have two labels; remove one of them"
            )
        else:
            classes[_checked(entry.name)] = real
    if not classes:
        raise DataError(_no_classes(root, key, loose))
    _refuse_splits(root, key, list(classes))
    _refuse_level_above(root, key, list(classes))
    files = {name: sorted(_files_of(root, name, top, classes, passed_over)) for name in classes}
    return Listing(files, loose, tuple(passed_over))


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise _unreadable(str(folder), error) from None


def _no_classes(root: Path, key: str, loose: list[str]) -> str:
    found = f"; it has {len(loose):,} files itself, for example {loose[0]}" if loose else ""
    return (
        f"{key}: {root} has no class folders{found}. Put the images of each class into a folder in it, or "
        f"set {key} to the folder above"
    )


def _refuse_splits(root: Path, key: str, names: list[str]) -> None:
    """Raise DataError if the folders that hold others are splits; other folders may stand beside them."""
    splits = _splits_by_name(root, names) or _splits_by_word(root, names)
    if not splits:
        return
    train = next((name for name in splits if _words(name) & _TRAIN), splits[0])
    test = next((name for name in splits if _words(name) & _TEST and name != train), None)
    found = f"{key}: the folders of {root} are splits and no classes ({', '.join(splits)})"
    if not any(_folders(root / name) for name in splits):
        raise DataError(
            f"{found}, and their images are not in class folders; put the images of each class into a folder "
            f"in {root / train}"
        )
    remedy = f"set {key} to {_below_single(root / train)}"
    if test is not None and key == "data.path":
        remedy += f" and data.test_path to {_below_single(root / test)}"
    raise DataError(f"{found}; {remedy}")


def _splits_by_name(root: Path, names: list[str]) -> list[str]:
    """Return folders such as train and val, if they are not classes of that name."""
    splits = [name for name in names if name.lower() in _SPLITS]
    if len(splits) == len(names):
        return splits
    if len(splits) < 2:
        return []
    # A class may well be called `train`: then its folder has images, and other classes stand beside it.
    with_folders = {name for name in names if _folders(root / name)}
    return splits if with_folders and with_folders <= set(splits) else []


def _splits_by_word(root: Path, names: list[str]) -> list[str]:
    """Return folders such as images_train and test2017, if the same class folders are in each of them."""
    splits = [name for name in names if _words(name) & _SPLITS]
    if len(splits) < 2:
        return []
    classes = [_folders(_below_single(root / name)) for name in splits]
    return splits if len(set.intersection(*classes)) > 1 else []


def _words(name: str) -> set[str]:
    """Return a folder's name and the words in it."""
    return {name.lower(), *re.findall("[a-z]+", name.lower())}


def _folders(folder: Path) -> set[str]:
    return {entry.name for entry in _visible(folder) if entry.is_dir()}


def _below_single(folder: Path) -> Path:
    """Return the first folder from `folder` down that has more in it than one folder."""
    for _ in range(_MAX_NESTED):
        inside = _visible(folder)
        if len(inside) != 1 or not inside[0].is_dir():
            break
        folder = Path(inside[0].path)
    return folder


def _refuse_level_above(root: Path, key: str, names: list[str]) -> None:
    """Raise DataError if the only folder has nothing but the class folders in it."""
    if len(names) > 1:
        return
    inside = _visible(root / names[0])
    if len(inside) > 1 and all(entry.is_dir() for entry in inside):
        raise DataError(
            f"{key}: {root} has only one folder, and the class folders seem to be in it; set {key} to "
            f"{root / names[0]}"
        )


def alike(names: Iterable[str]) -> list[str]:
    """Return a note if names differ only in case, blanks or Unicode form."""
    by_form: dict[str, list[str]] = {}
    for name in names:
        by_form.setdefault(unicodedata.normalize("NFKC", name).strip().casefold(), []).append(name)
    pairs = [" and ".join(map(repr, found)) for found in by_form.values() if len(found) > 1]
    if not pairs:
        return []
    return [f"class folders differ only in case, blanks or Unicode form: {', '.join(pairs[:3])}"]


def _visible(folder: Path) -> list["os.DirEntry[str]"]:
    return [entry for entry in _entries(folder) if not is_system_folder(entry.name)]


def _files_of(
    root: Path, name: str, top: str, classes: dict[str, str], passed_over: list[str]
) -> Iterator[str]:
    """Yield the files of a class folder at any depth. Folders of other classes are not entered by links."""
    seen: set[str] = set()
    own = classes[name]
    others = set(classes.values()) - {own}
    for parent, folders, files in os.walk(root / name, followlinks=True, onerror=_refuse_unreadable):
        seen.add(os.path.realpath(parent))
        enter = []
        for folder in sorted(folders):
            path = os.path.join(parent, folder)
            real = os.path.realpath(path)
            shown = Path(path).relative_to(root).as_posix()
            if is_system_folder(folder) or real in seen:
                continue
            is_elsewhere = not others.isdisjoint(map(str, (Path(real), *Path(real).parents)))
            if _is_inside(top, real) or _is_inside(own, real) or is_elsewhere:
                passed_over.append(f"{shown} (a link to {real}, which has other classes or contains it)")
                continue
            enter.append(folder)
        folders[:] = enter
        for file in files:
            yield _checked(Path(parent, file).relative_to(root).as_posix())


def _is_inside(path: str, folder: str) -> bool:
    """Return whether a real path is a folder or lies in it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def check_places(train: Path, test: Path) -> None:
    """Raise DataError if the folders of training and test images are one, or one lies inside the other."""
    if not (train.is_dir() and test.is_dir()):
        return  # reported when they are listed
    for outer, inner, key in ((train, test, "data.test_path"), (test, train, "data.path")):
        real = Path(os.path.realpath(inner))
        inside = next((folder for folder in (real, *real.parents) if folder.samefile(outer)), None)
        if inside is not None and inside == real:
            raise DataError(
                f"data.test_path = {str(test)!r} is the folder of data.path = {str(train)!r}, so students "
                "would be tested on training images; give the test images a folder of their own, or leave "
                "data.test_path out"
            )
        if inside is not None:
            raise DataError(
                f"{key} = {str(inner)!r} lies inside {str(outer)!r}, so students could be tested on training "
                "images; give training and test images folders beside each other"
            )


def _checked(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DataError(f"the name of the file or folder {name!r} is not UTF-8; rename it") from None
    if _CONTROL.search(name):  # it would reach terminals and file names of the export
        raise DataError(f"the name of the file or folder {name!r} has a control character; rename it")
    return name


def _refuse_unreadable(error: OSError) -> None:
    raise _unreadable(error.filename, error)


def _unreadable(path: str, error: OSError) -> DataError:
    return DataError(f"the folder {path} cannot be listed: {error.strerror}; make it readable or remove it")
