"""The first images of the first classes of real images, for a run of a minute."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from prism_ray.data import RealImages, Split
from prism_ray.data.base import Images
from prism_ray.data.cropping import BoxesOf, Cut


class FewImages(RealImages):
    """The classes from 0 to `num_classes` - 1 of other real images, and some images of each."""

    def __init__(self, source: RealImages, num_classes: int, train_per_class: int, num_test: int) -> None:
        """`num_test` images of all classes together are for the test; there are none for validation."""
        self._source = source
        self.class_names, self.channels = source.class_names[:num_classes], source.channels
        labels = source.labels
        test = np.flatnonzero(labels["test"] < num_classes)
        spread = np.linspace(0, len(test) - 1, min(num_test, len(test))).astype(np.int64)
        train = [source.train_indices(label)[:train_per_class] for label in range(num_classes)]
        self._indices: Mapping[Split, npt.NDArray[np.int64]] = {
            "train": np.concatenate(train),
            "test": test[spread],
        }
        self.labels = {split: labels[split][indices] for split, indices in self._indices.items()}

    def identity(self) -> str:
        return "few"

    def item(self, split: Split, index: int) -> str:
        return self._source.item(split, int(self._indices[split][index]))

    def read(self, split: Split, indices: npt.NDArray[np.int64]) -> Images:
        return self._source.read(split, self._indices[split][indices])

    def read_crops(
        self, split: Split, indices: npt.NDArray[np.int64], boxes_of: BoxesOf, height: int, width: int
    ) -> Cut:
        return self._source.read_crops(split, self._indices[split][indices], boxes_of, height, width)
