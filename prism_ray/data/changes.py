"""The difference between an image folder and its index: files that were changed, removed or added."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from prism_ray.config import DataConfig
from prism_ray.data.base import Split
from prism_ray.data.formats import HEAD_BYTES, head_digest, look_at, named_like_an_image
from prism_ray.data.hashes import file_sha256
from prism_ray.data.index import FolderIndex
from prism_ray.data.listing import list_classes, roots_of
from prism_ray.errors import DataError
from prism_ray.wording import first_of

_NUM_THREADS = 8
_NUM_EXAMPLES = 3
_NUM_ALWAYS_READ = 256  # files whose content is compared although their time is that of the index


@dataclass(frozen=True)
class Changes:
    """The files that are not as in the index, as paths with the folder."""

    changed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    is_absent: bool = False  # the folders are not on this machine, so nothing was compared

    @property
    def problem(self) -> str | None:
        """What makes the images others than those that the run began with, None: nothing."""
        return " and ".join(Changes(self.changed, self.missing).all_lines) or None

    @property
    def all_lines(self) -> list[str]:
        """All differences, one a line."""
        sides = ((self.changed, "changed"), (self.missing, "missing"), (self.added, "added"))
        return [
            f"{_counted(found)} {what} ({first_of(found, _NUM_EXAMPLES)})" for found, what in sides if found
        ]

    @property
    def note(self) -> str | None:
        """What the user should know although the run can be resumed, None: nothing."""
        if self.is_absent:
            return "the image folder is not on this machine, so it was not compared with the run's index"
        if not self.added:
            return None
        return (
            f"{_counted(self.added)} added since the run began ({first_of(self.added, _NUM_EXAMPLES)}): the "
            "run goes on without; a new --store takes all"
        )


def _counted(paths: tuple[str, ...]) -> str:
    return "1 image is" if len(paths) == 1 else f"{len(paths):,} images are"


def find_changes(config: DataConfig, index: FolderIndex) -> Changes:
    """Compare the folders of a config with an index: sizes, times, and contents where the time is another.

    Some files are always read, because a copy can keep sizes and times. Reads no image of an unchanged folder
    otherwise. Raises DataError if a folder cannot be listed.
    """
    roots = roots_of(config)
    if not all(root.is_dir() for root in roots.values()):
        return Changes(is_absent=True)
    files = [(split, number) for split in roots for number in range(len(index.paths[split]))]
    always = set(files[:: -(-len(files) // _NUM_ALWAYS_READ) or 1])

    def state(key: tuple[Split, int]) -> str:
        return _compare(roots[key[0]], index, *key, key in always)

    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        states = list(pool.map(state, files))
    found: dict[str, list[str]] = {"changed": [], "missing": []}
    for (split, number), what in zip(files, states, strict=True):
        if what:
            found[what].append(str(roots[split] / index.paths[split][number]))
    added = _added(config, roots, index)
    return Changes(tuple(found["changed"]), tuple(found["missing"]), tuple(added))


def _compare(root: Path, index: FolderIndex, split: Split, number: int, reads: bool) -> str:
    """Return "changed" or "missing" for a file that is not as listed, else ""; `reads` its content anyway."""
    path = root / index.paths[split][number]
    try:
        status = path.stat()
    except OSError:
        return "missing"
    if status.st_size != index.sizes[split][number]:
        return "changed"
    if not index.heads or (status.st_mtime_ns == index.modified[split][number] and not reads):
        return ""
    known = index.hashes[split][number]
    try:
        if known:
            is_same = file_sha256(path) == known
        else:
            with path.open("rb") as file:
                is_same = head_digest(file.read(HEAD_BYTES)) == index.heads[split][number]
    except (OSError, DataError):
        return "changed"
    return "" if is_same else "changed"


def _added(config: DataConfig, roots: dict[Split, Path], index: FolderIndex) -> list[str]:
    """Return the image files that the index does not have; those that it left out count as known."""
    known = {split: set(index.paths[split]) for split in roots}
    sides: list[tuple[Path, set[str], str]] = [(roots["train"], known["train"], "data.path")]
    if config.test_path is None:
        sides = [(roots["train"], known["train"] | known["test"], "data.path")]
    else:
        sides.append((roots["test"], known["test"], "data.test_path"))
    found = []
    for root, listed, key in sides:
        try:
            folders = list_classes(root, key).files
        except DataError:
            continue  # the folder is another one: its files are missing
        for files in folders.values():
            for path in files:
                name = path.rpartition("/")[2]
                may_be_image = name[0] != "." and ("." not in name or named_like_an_image(name))
                if path not in listed and may_be_image:
                    found += [str(root / path)] * look_at(root / path, config.max_megapixels).is_taken
    return found
