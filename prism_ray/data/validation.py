"""The validation split: training images of any source that are kept back."""

import numpy as np
import numpy.typing as npt

from prism_ray.data.base import Images, RealImages, Split, held_out
from prism_ray.data.cropping import BoxesOf, Cut


class KeptBack(RealImages):
    """A source with a share of each class's training images moved to the validation split.

    The choice depends only on source, class and item, so all runs on one source are tuned on the same images.
    """

    def __init__(self, source: RealImages, fraction: float) -> None:
        self._source = source
        self.class_names = source.class_names
        self.channels = source.channels
        labels = source.labels["train"]
        kept = np.zeros(len(labels), dtype=np.bool_)
        for label, name in enumerate(source.class_names):
            indices = source.train_indices(label)
            if len(indices) > 1:
                items = [source.item("train", int(index)) for index in indices]
                kept[indices] = held_out("validation", name, items, fraction)
        self._indices: dict[Split, npt.NDArray[np.int64]] = {
            "train": np.flatnonzero(~kept),
            "validation": np.flatnonzero(kept),
        }
        self.labels = {split: labels[indices] for split, indices in self._indices.items()}
        self.labels["test"] = source.labels["test"]

    def identity(self) -> str:
        return self._source.identity()

    def item(self, split: Split, index: int) -> str:
        if split == "test":
            return self._source.item(split, index)
        return self._source.item("train", int(self._indices[split][index]))

    def read(self, split: Split, indices: npt.NDArray[np.int64]) -> Images:
        if split == "test":
            return self._source.read(split, indices)
        return self._source.read("train", self._indices[split][indices])

    def read_crops(
        self, split: Split, indices: npt.NDArray[np.int64], boxes_of: BoxesOf, height: int, width: int
    ) -> Cut:
        if split == "test":
            return self._source.read_crops(split, indices, boxes_of, height, width)
        return self._source.read_crops("train", self._indices[split][indices], boxes_of, height, width)
