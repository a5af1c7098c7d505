"""Image folders: one folder per class. Listed once (the list is kept in the store), read on demand."""

import hashlib
import io
import json
import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageOps

from prism_ray.config import DataConfig
from prism_ray.data.base import Images, RealImages, Split, held_out
from prism_ray.errors import DataError
from prism_ray.parquet import read_table

_INDEX = pa.schema(
    [("path", pa.string()), ("label", pa.int64()), ("num_bytes", pa.int64()), ("split", pa.string())]
)
_SLACK_BYTES = 2**20
_MOST_PACKED = 256  # largest ratio of unpacked to packed bytes; a real index has a small one
_CACHE_BYTES = 2**30  # decoded images kept per actor; a larger set is decoded at each read
_NUM_NAMED = 20  # maximum number of bad files in an error


@dataclass(frozen=True)
class FolderIndex:
    """The list of image files and their classes; paths are relative to data.path or data.test_path."""

    class_names: tuple[str, ...]
    paths: dict[Split, tuple[str, ...]]
    labels: dict[Split, npt.NDArray[np.int64]]
    sizes: dict[Split, npt.NDArray[np.int64]]  # of the files, in bytes

    def to_parquet(self) -> bytes:
        """Return the index as the bytes of a Parquet file."""
        columns = {
            "path": [*self.paths["train"], *self.paths["test"]],
            "label": np.concatenate([self.labels["train"], self.labels["test"]]),
            "num_bytes": np.concatenate([self.sizes["train"], self.sizes["test"]]),
            "split": [split for split in ("train", "test") for _ in self.paths[split]],
        }
        table = pa.table(columns, metadata={"class_names": json.dumps(self.class_names)})
        sink = io.BytesIO()
        pq.write_table(table, sink)
        return sink.getvalue()

    @classmethod
    def from_parquet(cls, data: bytes) -> "FolderIndex":
        """Read the bytes that `to_parquet` returned.

        Raises ValueError if `data` is not an index, or names a file outside of the folders.
        """
        table = read_table(io.BytesIO(data), _INDEX, _SLACK_BYTES + _MOST_PACKED * len(data))
        names = _class_names((table.schema.metadata or {}).get(b"class_names", b""))
        if any(column.null_count for column in table.columns):
            raise ValueError("it has empty cells")
        split = np.asarray(table["split"].to_pylist())
        labels = table["label"].to_numpy().astype(np.int64)
        sizes = table["num_bytes"].to_numpy().astype(np.int64)
        paths = np.asarray(table["path"].to_pylist(), dtype=object)
        if not set(split) <= {"train", "test"} or not set(np.unique(labels)) <= set(range(len(names))):
            raise ValueError("it has an unknown split or class")
        for path in paths:
            if path.startswith("/") or "\0" in path or ".." in path.split("/"):
                raise ValueError(f"it names {path!r}, which is outside of the folder")
        return cls(
            class_names=names,
            paths={key: tuple(paths[split == key]) for key in ("train", "test")},
            labels={key: labels[split == key] for key in ("train", "test")},
            sizes={key: sizes[split == key] for key in ("train", "test")},
        )


def index_folder(config: DataConfig) -> FolderIndex:
    """List the class folders of `config.path` (and `config.test_path`) and read the header of each file.

    Raises DataError, which names the folders that are missing or empty, and the files that are not images.
    """
    assert config.path is not None
    root = Path(config.path)
    files = _list_classes(root, "data.path")
    class_names = tuple(sorted(files))
    test_root, test_files = root, {}
    if config.test_path is not None:
        test_root = Path(config.test_path)
        test_files = _list_classes(test_root, "data.test_path")
        unknown, missing = sorted(test_files.keys() - files.keys()), sorted(files.keys() - test_files.keys())
        if unknown or missing:
            has = f"the class folders {', '.join(unknown)}, which are not in"
            lacks = f"no class folders {', '.join(missing)}, which are in"
            raise DataError(
                f"data.test_path: {config.test_path} has {has if unknown else lacks} {config.path}; both "
                "need the same class folders"
            )
    else:
        for name in class_names:
            if len(files[name]) < 2:
                raise DataError(
                    f"data.path: class folder {root / name} has only {len(files[name])} image, but one is "
                    "held out for the test; add images, or set data.test_path"
                )
            is_test = held_out("image-folder", name, files[name], config.test_fraction)
            test_files[name] = [file for file, test in zip(files[name], is_test, strict=True) if test]
            files[name] = [file for file, test in zip(files[name], is_test, strict=True) if not test]
    paths: dict[Split, tuple[str, ...]] = {}
    labels: dict[Split, npt.NDArray[np.int64]] = {}
    sizes: dict[Split, npt.NDArray[np.int64]] = {}
    sides: tuple[tuple[Split, Path, dict[str, list[str]]], ...]
    sides = (("train", root, files), ("test", test_root, test_files))
    for split, folder, found in sides:
        paths[split] = tuple(file for name in class_names for file in found[name])
        counts = [len(found[name]) for name in class_names]
        labels[split] = np.repeat(np.arange(len(class_names), dtype=np.int64), counts)
        sizes[split] = np.asarray([(folder / file).stat().st_size for file in paths[split]], dtype=np.int64)
    return FolderIndex(class_names, paths, labels, sizes)


class FolderImages(RealImages):
    """Images of class folders in RGB, with the shorter side resized to 8/7 of image_size, centre-cropped."""

    channels = 3

    def __init__(self, config: DataConfig, index: FolderIndex) -> None:
        assert config.path is not None
        self.class_names, self.labels = index.class_names, index.labels
        self._index, self._size = index, config.image_size
        test_path = config.test_path or config.path
        self._roots: dict[Split, Path] = {"train": Path(config.path), "test": Path(test_path)}
        self._cache: dict[Split, tuple[Images, npt.NDArray[np.bool_]]] = {}

    def identity(self) -> str:
        """Return a hash of names, labels and sizes; a hash of the pixels of a large set would take hours."""
        digest = hashlib.sha256()
        for split in ("train", "test"):
            files = zip(self._index.paths[split], self.labels[split], self._index.sizes[split], strict=True)
            for path, label, size in files:
                digest.update(f"{split}\0{label}\0{size}\0{path}\n".encode())
        return digest.hexdigest()

    def item(self, split: Split, index: int) -> str:
        return self._index.paths[split][index]

    def read(self, split: Split, indices: npt.NDArray[np.int64]) -> Images:
        shape = (len(self.labels[split]), self.channels, self._size, self._size)
        if math.prod(shape) > _CACHE_BYTES:
            return self._decode(split, indices)
        if split not in self._cache:
            self._cache[split] = np.empty(shape, np.uint8), np.zeros(len(self.labels[split]), np.bool_)
        images, present = self._cache[split]
        missing = indices[~present[indices]]
        if len(missing):
            images[missing] = self._decode(split, missing)
            present[missing] = True
        return images[indices]

    def _decode(self, split: Split, indices: npt.NDArray[np.int64]) -> Images:
        decoded = np.empty((len(indices), self.channels, self._size, self._size), np.uint8)
        bad: list[str] = []
        for row, index in enumerate(indices):
            path = self._roots[split] / self._index.paths[split][index]
            try:
                if path.stat().st_size != self._index.sizes[split][index]:
                    raise ValueError("it has changed since it was listed at the start of the run")
                decoded[row] = decode_image(path, self._size)
            except Exception as error:  # Pillow raises whatever it meets in a damaged file
                bad.append(f"{path} ({error})")
        if bad:
            raise DataError(_name_bad_files(bad))
        return decoded


def decode_image(path: Path, size: int) -> npt.NDArray[np.uint8]:
    """Return an image as RGB (3, size, size), upright: shorter side to 8/7 of size, then a centre crop."""
    with Image.open(path, formats=image_formats()) as opened:
        image = ImageOps.exif_transpose(opened)
        if image.mode.startswith("I;16"):  # Pillow would clip it to 255
            image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
        elif image.mode in ("I", "F"):
            raise ValueError(
                f"pixels of mode {image.mode} have no known range; save it with 8 bits per channel"
            )
        elif image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")
        side = min(image.size) * size / round(size * 8 / 7)  # of the crop, in pixels of the file
        left, top = (image.width - side) / 2, (image.height - side) / 2
        box = (left, top, left + side, top + side)
        cropped = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR, box=box)
    return np.asarray(cropped).transpose(2, 0, 1)


@cache
def image_formats() -> tuple[str, ...]:
    """Return the formats that Pillow reads without another program; for EPS it starts Ghostscript."""
    Image.init()
    return tuple(kind for kind in Image.ID if kind in Image.OPEN and kind != "EPS")


def _class_names(text: bytes) -> tuple[str, ...]:
    try:
        names = json.loads(text)
    except RecursionError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("it has no class names")
    return tuple(names)


def _list_classes(root: Path, key: str) -> dict[str, list[str]]:
    """Return the image files of each class folder, sorted and relative to `root`; check their headers."""
    if not root.is_dir():
        raise DataError(f"{key}: {root} is not a folder")
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and entry.name[0] != ".")
    if not folders:
        raise DataError(
            f"{key}: {root} has no class folders; put the images of each class into a folder in it"
        )
    files = {folder.name: sorted(_image_files(folder, root)) for folder in folders}
    empty = [name for name, names in files.items() if not names]
    if empty:
        raise DataError(
            f"{key}: the class folders {', '.join(empty)} of {root} have no images; add images or remove them"
        )
    everything = [root / name for names in files.values() for name in names]
    with ThreadPoolExecutor(max_workers=8) as pool:
        bad = [problem for problem in pool.map(_check_header, everything) if problem]
    if bad:
        raise DataError(_name_bad_files(bad))
    return files


def _image_files(folder: Path, root: Path) -> Iterator[str]:
    """Yield the files whose suffix Pillow knows; other files are ignored."""
    formats = image_formats()
    suffixes = {suffix for suffix, kind in Image.registered_extensions().items() if kind in formats}
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True, onerror=_refuse_unreadable):
        seen.add(os.path.realpath(parent))
        visible = (name for name in folders if name[0] != ".")
        folders[:] = [name for name in visible if os.path.realpath(os.path.join(parent, name)) not in seen]
        for name in names:
            if name[0] != "." and Path(name).suffix.lower() in suffixes:
                path = (Path(parent) / name).relative_to(root).as_posix()
                try:
                    path.encode()
                except UnicodeEncodeError:
                    raise DataError(f"the name of the image file {path!r} is not UTF-8; rename it") from None
                yield path


def _refuse_unreadable(error: OSError) -> None:
    raise DataError(
        f"the folder {error.filename} cannot be listed: {error.strerror}; make it readable or remove it"
    )


def _check_header(path: Path) -> str | None:
    try:
        if not path.is_file():
            raise ValueError("not a regular file")
        with Image.open(path, formats=image_formats()):
            return None
    except Exception as error:  # Pillow raises whatever it meets in a damaged file
        return f"{path} ({error})"


def _name_bad_files(bad: list[str]) -> str:
    more = f"\n  and {len(bad) - _NUM_NAMED} more" if len(bad) > _NUM_NAMED else ""
    named = "".join(f"\n  {problem}" for problem in bad[:_NUM_NAMED])
    files = "1 image file" if len(bad) == 1 else f"{len(bad)} image files"
    return f"{files} cannot be read; repair or restore them, or remove them before a run starts:{named}{more}"
