"""The hashes of an image folder's files: which are known, and which images are there twice."""

import hashlib
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from prism_ray.config import DataConfig
from prism_ray.data.base import Split
from prism_ray.data.formats import FileKind
from prism_ray.errors import DataError
from prism_ray.seeds import derive_seed

_NUM_THREADS = 8
_NUM_EXAMPLES = 3
_ALL_HASHED_BYTES = 2**30  # a smaller set is hashed in full
_HASHED_PER_CLASS = 8


class Hashes:
    """The SHA-256 of those files whose content must be known: a sample, or all; and possible duplicates."""

    def __init__(
        self,
        config: DataConfig,
        roots: dict[Split, Path],
        paths: dict[Split, tuple[str, ...]],
        files: dict[Split, list[FileKind]],
    ) -> None:
        self._roots, self._paths = roots, paths
        self._by_head: dict[tuple[int, str], list[tuple[Split, str]]] = defaultdict(list)
        for split, kinds in files.items():
            for path, kind in zip(paths[split], kinds, strict=True):
                self._by_head[kind.num_bytes, kind.head].append((split, path))
        num_bytes = sum(kind.num_bytes for kinds in files.values() for kind in kinds)
        wanted: set[tuple[Split, str]] = set()
        for group in self._by_head.values():
            if len({(split, class_of(path)) for split, path in group}) > 1:
                wanted.update(group)
        takes_all = config.hashed == "all" or num_bytes <= _ALL_HASHED_BYTES
        for split, listed in paths.items():
            by_class: dict[str, list[str]] = defaultdict(list)
            for path in listed:
                by_class[class_of(path)].append(path)
            for found in by_class.values():
                if not takes_all:
                    found.sort(key=lambda path: derive_seed("hashed", path))
                wanted.update((split, path) for path in (found if takes_all else found[:_HASHED_PER_CLASS]))
        keys = sorted(wanted)
        with ThreadPoolExecutor(_NUM_THREADS) as pool:
            digests = pool.map(lambda key: file_sha256(roots[key[0]] / key[1]), keys)
            self._digests = dict(zip(keys, digests, strict=True))

    def known(self, split: Split) -> tuple[str, ...]:
        """Return the SHA-256 of each file of a split, empty where it is not known."""
        return tuple(self._digests.get((split, path), "") for path in self._paths[split])

    def duplicates(self) -> list[str]:
        """Return a note on images that are in both splits, and one on those that are in several classes.

        Raises DataError if all test images are among the training images.
        """
        in_both: list[str] = []
        in_classes: list[str] = []
        for group in self._by_head.values():
            if len(group) < 2:
                continue
            by_content: dict[str, list[tuple[Split, str]]] = defaultdict(list)
            for key in group:
                by_content[self._digests.get(key, "")].append(key)
            for digest, same in by_content.items():
                if digest == "":
                    continue
                train = [path for split, path in same if split == "train"]
                in_both += [f"{path} = {train[0]}" for split, path in same if split == "test" and train]
                classes = {class_of(path) for _, path in same}
                if len(classes) > 1:
                    first = same[0][1]
                    other = next(p for _, p in same if class_of(p) != class_of(first))
                    in_classes.append(f"{first} = {other}")
        num_test = len(self._paths["test"])
        if len(in_both) == num_test and self._roots["train"] != self._roots["test"]:
            raise DataError(
                f"data.test_path: all {num_test:,} test images are also training images "
                f"({', '.join(in_both[:_NUM_EXAMPLES])}), so students would be tested on what they learnt; "
                "set data.test_path to other images, or leave it out"
            )
        notes = []
        if in_both:
            named = ", ".join(in_both[:_NUM_EXAMPLES])
            notes.append(
                f"{len(in_both):,} of {num_test:,} test images are also training images, so accuracies are "
                f"too high: {named}"
            )
        if in_classes:
            named = ", ".join(in_classes[:_NUM_EXAMPLES])
            notes.append(f"{len(in_classes):,} images are in more than one class: {named}")
        return notes


def class_of(path: str) -> str:
    """Return the class folder of a path."""
    return path.partition("/")[0]


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content; raises DataError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"the image file {path} cannot be read: {error.strerror or error}") from None
