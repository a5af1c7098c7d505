"""Sets in the file format of MNIST: four idx .gz files in a folder; Fashion-MNIST is also downloaded."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from prism_ray.config import DataConfig
from prism_ray.data.base import ArrayImages, Split
from prism_ray.errors import DataError

_CLASS_NAMES = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"
CLASS_NAMES = tuple(_CLASS_NAMES.split(","))
_MAX_BYTES = {"fashion-mnist": 2**26, "idx": 2**30}  # unpacked; Fashion-MNIST has 47 MB, EMNIST up to 547
_NAMES_FILE = "classes.txt"
_PREFIXES: dict[Split, str] = {"train": "train", "test": "t10k"}
_KINDS = ("images-idx3", "labels-idx1")
_FILES = tuple(f"{prefix}-{kind}-ubyte.gz" for prefix in _PREFIXES.values() for kind in _KINDS)
_REMEDY = (
    "; set data.path to the folder of the four idx .gz files (Debian's package dataset-fashion-mnist has "
    "them), or set data.download to true"
)


def open_fashion_mnist(config: DataConfig) -> ArrayImages:
    """Return Fashion-MNIST (60,000 + 10,000 images of 28x28).

    Raises DataError if a file is missing (and cannot be downloaded) or is not an idx file.
    """
    assert config.path is not None
    folder = _find_folder(Path(config.path), config.download)
    return _read_splits("fashion-mnist", folder, CLASS_NAMES, config.image_size)


def open_idx(config: DataConfig) -> ArrayImages:
    """Return a set such as MNIST or EMNIST.

    Line k of classes.txt in the folder names the class of label k. Without that file the classes are the
    labels of the training images, in their order, named by their numbers.

    Raises DataError if a file is missing or damaged, or if a label has no name.
    """
    assert config.path is not None
    folder = Path(config.path)
    missing = _missing(folder)
    if missing:
        raise DataError(
            f"data.path: {folder} lacks {', '.join(missing)}; data.source = 'idx' needs the four files of "
            "MNIST's format under these names"
        )
    return _read_splits("idx", folder, _read_names(folder), config.image_size)


def _read_names(folder: Path) -> tuple[str, ...] | None:
    """Return the lines of classes.txt, one name per class, or None if there is no such file."""
    path = folder / _NAMES_FILE
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"data.path: {path} cannot be read as UTF-8: {error}; repair or remove it") from None
    names = tuple(line.strip() for line in lines if line.strip())
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"data.path: {path} names {twice!r} twice; give each class a name of its own")
    return names


def _read_splits(name: str, folder: Path, names: tuple[str, ...] | None, image_size: int) -> ArrayImages:
    """Read images and labels of both splits. Without names, classes have the numbers of their labels."""
    images: dict[Split, npt.NDArray[np.uint8]] = {}
    labels: dict[Split, npt.NDArray[np.int64]] = {}
    for split, prefix in _PREFIXES.items():
        images_path, labels_path = (folder / f"{prefix}-{kind}-ubyte.gz" for kind in _KINDS)
        images[split] = read_idx(images_path, 3, _MAX_BYTES[name])
        labels[split] = read_idx(labels_path, 1, _MAX_BYTES[name]).astype(np.int64)
        if len(images[split]) != len(labels[split]):
            raise DataError(
                f"{images_path} has {len(images[split])} images, but {labels_path.name} has "
                f"{len(labels[split])} labels; get both files from the same source"
            )
        if len(labels[split]) == 0:
            raise DataError(f"data.path: {images_path} has no images; replace the file")
        if names is not None and labels[split].max() >= len(names):
            raise DataError(
                f"data.path: {labels_path} has the label {labels[split].max()}, but there are {len(names)} "
                "classes; replace the file"
                + (f", or complete {folder / _NAMES_FILE}" if name == "idx" else "")
            )
    if names is None:  # EMNIST's letters begin with label 1
        known = np.unique(labels["train"])
        unknown = np.setdiff1d(labels["test"], known)
        if len(unknown):
            raise DataError(
                f"data.path: {folder} has test images of label {unknown[0]}, but no training image; get both "
                "splits from the same source"
            )
        names = tuple(str(label) for label in known)
        labels = {split: np.searchsorted(known, values) for split, values in labels.items()}
    absent = np.setdiff1d(np.arange(len(names)), labels["train"])
    if len(absent):
        named = ", ".join(repr(names[label]) for label in absent[:5])
        raise DataError(f"data.path: {folder} has no training image of {named}; each class needs one")
    return ArrayImages(name, names, images, labels, image_size)


def read_idx(path: Path, num_dimensions: int, max_bytes: int) -> npt.NDArray[np.uint8]:
    """Read a gzipped idx file of unsigned bytes (two zero bytes, type 8, rank, sizes, data).

    Raises DataError if the file is missing, damaged, of another type or rank, or larger than `max_bytes`.
    """
    length = 4 + 4 * num_dimensions
    try:
        with gzip.open(path) as file:
            header = file.read(length)
            if len(header) < length or header[:4] != bytes([0, 0, 8, num_dimensions]):
                raise DataError(f"data.path: {path} is not an idx file of rank {num_dimensions}; replace it")
            shape = tuple(int(n) for n in np.frombuffer(header, dtype=">u4", offset=4))
            num_bytes = math.prod(shape)
            if num_bytes > max_bytes:
                raise DataError(
                    f"data.path: {path} is damaged: its header says {shape}, more than "
                    f"{max_bytes:,} bytes; replace it"
                )
            data = file.read(num_bytes + 1)  # one more byte, to reach the checksum at the end
    except FileNotFoundError:
        raise DataError(f"data.path: {path} does not exist{_REMEDY}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"data.path: {path} cannot be read as gzip: {error}; replace it") from None
    if len(data) != num_bytes:
        found = f"{len(data)}" if len(data) < num_bytes else "more"
        raise DataError(
            f"data.path: {path} is damaged: its header says {shape}, but {found} bytes follow; replace it"
        )
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def _missing(folder: Path) -> list[str]:
    """Return the names of the files that a folder lacks."""
    return [name for name in _FILES if not (folder / name).is_file()]


def _find_folder(path: Path, download: bool) -> Path:
    """Return the folder of the files: `path`, or the one into which torchvision downloads them."""
    downloaded = path / "FashionMNIST" / "raw"
    for folder in (path, downloaded):
        if not _missing(folder):
            return folder
    if not download:
        raise DataError(f"data.path: {path} lacks {', '.join(_missing(path))}{_REMEDY}")
    from torchvision.datasets import FashionMNIST  # late, because it imports torch

    try:
        FashionMNIST(str(path), train=True, download=True)
    except (RuntimeError, OSError) as error:
        raise DataError(
            f"data.download: Fashion-MNIST could not be downloaded into {path}: {error}; check the network "
            "connection, or set data.path to a folder with the four idx .gz files"
        ) from None
    return downloaded
