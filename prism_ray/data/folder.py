"""Image folders: one folder per class. Listed once (the index is kept in the store), read on demand."""

import hashlib
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from prism_ray.config import DataConfig
from prism_ray.data.base import IN_MEMORY_BYTES, Images, RealImages, Split
from prism_ray.data.cropping import BoxesOf, Cut, join
from prism_ray.data.decode import decode_crops, decode_image
from prism_ray.data.formats import head_digest
from prism_ray.data.index import FolderIndex
from prism_ray.data.listing import roots_of
from prism_ray.errors import DataError

_NUM_NAMED = 20  # maximum number of bad files in an error


class FolderImages(RealImages):
    """Images of class folders in RGB, with the shorter side resized to 8/7 of image_size, centre-cropped."""

    channels = 3

    def __init__(self, config: DataConfig, index: FolderIndex, num_threads: int = 1) -> None:
        """`num_threads` files are decoded at a time by `read`."""
        self._num_threads = num_threads
        self.class_names, self.labels = index.class_names, index.labels
        self._index, self._size = index, config.image_size
        self._max_megapixels, self._full_scale = config.max_megapixels, config.full_scale
        self._roots = roots_of(config)
        self._cache: dict[Split, tuple[Images, npt.NDArray[np.bool_]]] = {}

    def identity(self) -> str:
        return self._index.identity()

    def item(self, split: Split, index: int) -> str:
        return self._index.paths[split][index]

    def read(self, split: Split, indices: npt.NDArray[np.int64]) -> Images:
        shape = (len(self.labels[split]), self.channels, self._size, self._size)
        if math.prod(shape) > IN_MEMORY_BYTES:
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

        def decode(row: int, data: bytes) -> None:
            decoded[row] = decode_image(data, self._size, self._max_megapixels, self._full_scale)

        self._each(split, indices, decode, self._num_threads)
        return decoded

    def read_crops(
        self, split: Split, indices: npt.NDArray[np.int64], boxes_of: BoxesOf, height: int, width: int
    ) -> Cut:
        cuts: list[Cut] = []

        def decode(row: int, data: bytes) -> None:
            boxes = partial(boxes_of, row)
            limits = self._max_megapixels, self._full_scale
            cuts.append(decode_crops(data, boxes, height, width, *limits))

        self._each(split, indices, decode)
        return join(cuts)

    def _each(
        self,
        split: Split,
        indices: npt.NDArray[np.int64],
        decode: Callable[[int, bytes], None],
        num_threads: int = 1,
    ) -> None:
        """Call `decode` with the row and the bytes of each file; raise DataError that names all bad files.

        With several threads the calls are beside each other, so each must write to a place of its own.
        """

        def problem(row: int, index: np.int64) -> str | None:
            path = self._roots[split] / self._index.paths[split][index]
            try:
                decode(row, self._content(split, int(index), path))
            except Exception as error:  # Pillow raises whatever it meets in a damaged file
                return f"{path} ({error})"
            return None

        if num_threads == 1:
            problems = list(map(problem, range(len(indices)), indices))
        else:
            with ThreadPoolExecutor(num_threads) as pool:  # Pillow decodes and resizes without Python's lock
                problems = list(pool.map(problem, range(len(indices)), indices))
        if bad := [each for each in problems if each is not None]:
            raise DataError(_name_bad_files(bad))

    def _content(self, split: Split, index: int, path: Path) -> bytes:
        """Return the bytes of a file; raises ValueError if they are not those that were listed."""
        listed = int(self._index.sizes[split][index])
        is_same = path.stat().st_size == listed  # before a large file is read
        data = path.read_bytes() if is_same else b""
        if is_same and self._index.heads:
            known = self._index.hashes[split][index]  # covers the beginning too
            digest = hashlib.sha256(data).hexdigest() if known else head_digest(data)
            is_same = digest == (known or self._index.heads[split][index])
        if not is_same:
            raise ValueError("it has changed since it was listed at the start of the run")
        return data


def _name_bad_files(bad: list[str]) -> str:
    more = f"\n  and {len(bad) - _NUM_NAMED} more" if len(bad) > _NUM_NAMED else ""
    named = "".join(f"\n  {problem}" for problem in bad[:_NUM_NAMED])
    files = "1 image file" if len(bad) == 1 else f"{len(bad)} image files"
    return f"{files} cannot be read; repair or restore them, or remove them before a run starts:{named}{more}"
