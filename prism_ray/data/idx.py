"""Fashion-MNIST from its four idx .gz files, in a folder or downloaded through torchvision."""

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
_MAX_BYTES = 2**26  # unpacked; the 60,000 training images have 47 MB
_PREFIXES: dict[Split, str] = {"train": "train", "test": "t10k"}
_KINDS = ("images-idx3", "labels-idx1")
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
    images: dict[Split, npt.NDArray[np.uint8]] = {}
    labels: dict[Split, npt.NDArray[np.int64]] = {}
    for split, prefix in _PREFIXES.items():
        images_path, labels_path = (folder / f"{prefix}-{kind}-ubyte.gz" for kind in _KINDS)
        images[split] = read_idx(images_path, num_dimensions=3)
        labels[split] = read_idx(labels_path, num_dimensions=1).astype(np.int64)
        if len(images[split]) != len(labels[split]):
            raise DataError(
                f"{images_path} has {len(images[split])} images, but {labels_path.name} has "
                f"{len(labels[split])} labels; get both files from the same source"
            )
        if len(labels[split]) == 0 or labels[split].max() >= len(CLASS_NAMES):
            raise DataError(f"{labels_path}: expected one label from 0 to 9 per image; replace the file")
    return ArrayImages("fashion-mnist", CLASS_NAMES, images, labels, config.image_size)


def read_idx(path: Path, num_dimensions: int) -> npt.NDArray[np.uint8]:
    """Read a gzipped idx file of unsigned bytes (two zero bytes, type 8, rank, sizes, data).

    Raises DataError if the file is missing, damaged or of another type or rank.
    """
    length = 4 + 4 * num_dimensions
    try:
        with gzip.open(path) as file:
            header = file.read(length)
            if len(header) < length or header[:4] != bytes([0, 0, 8, num_dimensions]):
                raise DataError(f"data.path: {path} is not an idx file of rank {num_dimensions}; replace it")
            shape = tuple(int(n) for n in np.frombuffer(header, dtype=">u4", offset=4))
            num_bytes = math.prod(shape)
            if num_bytes > _MAX_BYTES:
                raise DataError(
                    f"data.path: {path} is damaged: its header says {shape}, which is more than all of "
                    "Fashion-MNIST; replace it"
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


def _find_folder(path: Path, download: bool) -> Path:
    """Return the folder of the files: `path`, or the one into which torchvision downloads them."""
    downloaded = path / "FashionMNIST" / "raw"
    names = [f"{prefix}-{kind}-ubyte.gz" for prefix in ("train", "t10k") for kind in _KINDS]
    for folder in (path, downloaded):
        if all((folder / name).is_file() for name in names):
            return folder
    if not download:
        missing = [name for name in names if not (path / name).is_file()]
        raise DataError(f"data.path: {path} lacks {', '.join(missing)}{_REMEDY}")
    from torchvision.datasets import FashionMNIST  # late, because it imports torch

    try:
        FashionMNIST(str(path), train=True, download=True)
    except (RuntimeError, OSError) as error:
        raise DataError(
            f"data.download: Fashion-MNIST could not be downloaded into {path}: {error}; check the network "
            "connection, or set data.path to a folder with the four idx .gz files"
        ) from None
    return downloaded
