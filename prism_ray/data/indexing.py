"""Makes the index of an image folder: looks at every file once, and holds test images out.

Nothing is left out in silence: a class that loses images is an error, unless data.allow_left_out is true.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from prism_ray.config import DataConfig
from prism_ray.data.base import Split, held_out
from prism_ray.data.formats import FileKind, look_at_all
from prism_ray.data.hashes import Hashes, class_of
from prism_ray.data.index import FolderIndex, LeftOut
from prism_ray.data.listing import Listing, alike, check_places, list_classes, roots_of
from prism_ray.data.value_range import check_range
from prism_ray.errors import DataError

_NUM_NAMED = 20  # maximum number of bad files in an error
_NUM_EXAMPLES = 3

_Kinds = dict[str, FileKind]  # of the taken images, by path


def index_folder(config: DataConfig, known_order: Sequence[str] = ()) -> FolderIndex:
    """List the class folders of `config.path` (and `config.test_path`), and look at each file.

    `known_order` is the order of the classes in a run that exists. Raises DataError for folders that are
    missing, empty or splits, images that would be left out, and values that use a fraction of their range.
    """
    roots = roots_of(config)
    if config.test_path is not None:
        check_places(roots["train"], roots["test"])
    train, listing, left_out = _take_images(config, roots["train"], "data.path")
    class_names = order_of(tuple(train), config, known_order)
    passed_over = list(listing.passed_over)
    if config.test_path is not None:
        test, listing, more = _take_images(config, roots["test"], "data.test_path")
        left_out += more
        passed_over += listing.passed_over
        _check_same_classes(config, train, test)
    else:
        train, test = _hold_out(config, roots["train"], train)
    kinds: dict[Split, dict[str, _Kinds]] = {"train": train, "test": test}
    paths: dict[Split, tuple[str, ...]]
    paths = {split: tuple(p for name in class_names for p in found[name]) for split, found in kinds.items()}
    files: dict[Split, list[FileKind]]
    files = {split: [k for name in class_names for k in kinds[split][name].values()] for split in paths}
    taken_by_class = [[(path, kind.depth) for path, kind in found.items()] for found in train.values()]
    range_notes = check_range(config, roots["train"], taken_by_class)
    hashes = Hashes(config, roots, paths, files)
    notes = [f"passed over: {folder}" for folder in passed_over]
    notes += alike(class_names) + _deep(paths) + _animated(paths, files) + range_notes + hashes.duplicates()
    return FolderIndex(
        class_names=class_names,
        paths=paths,
        labels={split: _labels([len(found[name]) for name in class_names]) for split, found in kinds.items()},
        sizes={split: _integers(kind.num_bytes for kind in found) for split, found in files.items()},
        modified={split: _integers(kind.modified_ns for kind in found) for split, found in files.items()},
        heads={split: tuple(kind.head for kind in found) for split, found in files.items()},
        hashes={split: hashes.known(split) for split in paths},
        left_out=tuple(left_out),
        notes=tuple(notes),
    )


def order_of(names: Sequence[str], config: DataConfig, known_order: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the class folders in the order of the labels; raises DataError if data.classes has others.

    >>> order_of(["10", "9"], config)
    ('9', '10')
    """
    if config.classes is not None:
        unknown = [name for name in config.classes if name not in names]
        missing = sorted(set(names) - set(config.classes))
        if unknown or missing:
            problem = f"{config.path} has no class folder {unknown[0]!r}" if unknown else ""
            problem = problem or f"it lacks {missing[0]!r}, a class folder of {config.path}"
            raise DataError(
                f"data.classes: {problem}; name each class folder once, in the order of the labels"
            )
        return config.classes
    if set(known_order) == set(names):
        return tuple(known_order)
    if all(name.isascii() and name.isdigit() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def _take_images(
    config: DataConfig, root: Path, key: str
) -> tuple[dict[str, _Kinds], Listing, list[LeftOut]]:
    """Return the images of each class folder that can be read, the listing, and what is left out."""
    listing = list_classes(root, key)
    everything = [path for files in listing.files.values() for path in files] + listing.loose
    kinds = dict(
        zip(everything, look_at_all([root / path for path in everything], config.max_megapixels), strict=True)
    )
    problems = {path: _problem(path, kind, config) for path, kind in kinds.items()}
    taken: dict[str, _Kinds] = {}
    left_out: list[LeftOut] = []
    for name, files in [*listing.files.items(), ("", listing.loose)]:
        by_reason: dict[tuple[str, bool], list[str]] = defaultdict(list)
        for path in files:
            if problems[path]:
                by_reason[problems[path], kinds[path].is_image].append(path)
        for (reason, is_image), found in by_reason.items():
            examples = tuple(found[:_NUM_EXAMPLES])
            left_out.append(LeftOut(name, reason, len(found), examples, is_image))
        if name:
            taken[name] = {path: kinds[path] for path in files if not problems[path]}
    lost = [path for path in everything if problems[path] and kinds[path].is_image]
    if lost and not config.allow_left_out:
        raise DataError(_name_lost_images(root, key, listing, lost, problems))
    empty = [name for name, found in taken.items() if not found]
    if empty:
        raise DataError(
            f"{key}: the class folders {', '.join(empty)} of {root} have no images; add images or remove them"
        )
    return taken, listing, left_out


def _problem(path: str, kind: FileKind, config: DataConfig) -> str:
    """Return why a file is left out, empty for an image that is taken."""
    if not kind.is_image:
        return "no image"
    if kind.problem:
        return kind.problem
    if "/" not in path:
        return "beside the class folders; move it into one"
    if path.rpartition("/")[2].startswith("."):
        return "hidden; rename it without the dot"
    if kind.depth == 32 and config.full_scale is None:
        return "32 bits per channel have no known range; set data.full_scale to the value of white"
    return ""


def _name_lost_images(
    root: Path, key: str, listing: Listing, lost: Sequence[str], problems: dict[str, str]
) -> str:
    lines = [f"  {root / path} ({problems[path]})" for path in lost[:_NUM_NAMED]]
    if len(lost) > _NUM_NAMED:
        lines.append(f"  and {len(lost) - _NUM_NAMED} more")
    gone = set(lost)
    numbers = {name: len(gone.intersection(files)) for name, files in listing.files.items()}
    classes = [f"{name} {count} of {len(listing.files[name])}" for name, count in numbers.items() if count]
    of_classes = f"; by class: {', '.join(classes[:_NUM_NAMED])}" if classes else ""
    files = "1 image file" if len(lost) == 1 else f"{len(lost)} image files"
    return (
        f"{key}: {files} cannot be read{of_classes}\n"
        + "\n".join(lines)
        + "\nRepair, convert or remove them "
        "before a run starts, or set data.allow_left_out to true to begin without them."
    )


def _check_same_classes(config: DataConfig, train: dict[str, _Kinds], test: dict[str, _Kinds]) -> None:
    unknown, missing = sorted(test.keys() - train.keys()), sorted(train.keys() - test.keys())
    if unknown or missing:
        forms = alike([*train, *unknown])
        if forms:
            raise DataError(
                f"data.test_path: {config.test_path} and {config.path}: {forms[0]}; rename them alike"
            )
        has = f"the class folders {', '.join(unknown)}, which are not in"
        lacks = f"no class folders {', '.join(missing)}, which are in"
        raise DataError(
            f"data.test_path: {config.test_path} has {has if unknown else lacks} {config.path}; both "
            "need the same class folders"
        )


def _hold_out(
    config: DataConfig, root: Path, taken: dict[str, _Kinds]
) -> tuple[dict[str, _Kinds], dict[str, _Kinds]]:
    """Divide the images of each class between training and test."""
    train, test = {}, {}
    for name, found in taken.items():
        files = list(found)
        if len(files) < 2:
            raise DataError(
                f"data.path: class folder {root / name} has only {len(files)} image, but one is held out for "
                "the test; add images, or set data.test_path"
            )
        is_test = held_out("image-folder", name, files, config.test_fraction)
        train[name] = {file: found[file] for file, held in zip(files, is_test, strict=True) if not held}
        test[name] = {file: found[file] for file, held in zip(files, is_test, strict=True) if held}
    return train, test


def _labels(counts: list[int]) -> npt.NDArray[np.int64]:
    return np.repeat(np.arange(len(counts), dtype=np.int64), counts)


def _integers(values: Iterable[int]) -> npt.NDArray[np.int64]:
    return np.fromiter(values, dtype=np.int64)


def _deep(paths: dict[Split, tuple[str, ...]]) -> list[str]:
    """Return a note on images in folders below their class folder, which may be classes of their own."""
    deep = [path for found in paths.values() for path in found if path.count("/") > 1]
    if not deep:
        return []
    named = f"{deep[0]} is of class {class_of(deep[0])}"
    return [f"{len(deep):,} images are in folders below their class folder: {named}"]


def _animated(paths: dict[Split, tuple[str, ...]], files: dict[Split, list[FileKind]]) -> list[str]:
    found = [
        path
        for split, kinds in files.items()
        for path, kind in zip(paths[split], kinds, strict=True)
        if kind.is_animated
    ]
    named = ", ".join(found[:_NUM_EXAMPLES])
    return (
        [f"{len(found):,} files have several frames, of which the first is taken: {named}"] if found else []
    )
