"""Real images that are not there yet: as many as a user assumes, all of noise, for a forecast."""

import io
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from PIL import Image

from prism_ray.config import DataConfig
from prism_ray.data.base import DataFacts, Images, RealImages, Split
from prism_ray.data.cropping import BoxesOf, Cut, join
from prism_ray.data.decode import decode_crops, decode_image

_HEIGHT, _WIDTH = 375, 500  # pixels of a picture, as the median of ImageNet-1K
_GREY = ("digits", "fashion-mnist", "idx")  # sources of one channel, in memory


@dataclass(frozen=True)
class Assumption:
    """What a user assumes of real images that are not there."""

    num_classes: int
    images_per_class: int  # training images
    test_images_per_class: int | None = None  # None: as many as `data.test_fraction` would hold out

    def facts(self, config: DataConfig) -> DataFacts:
        """Return the facts of the data; those that are held out for test or validation are not trained on."""
        train, test = self.images_per_class, self.test_images_per_class
        if test is None:
            test = max(1, round(train * config.test_fraction))
            train -= test if config.test_path is None and config.source == "image-folder" else 0
        train -= round(train * config.validation_fraction)
        names = tuple(f"class-{label:05d}" for label in range(self.num_classes))
        channels = 1 if config.source in _GREY else 3
        counts = (max(1, train),) * self.num_classes
        return DataFacts(names, counts, test * self.num_classes, channels, "assumed")


class AssumedImages(RealImages):
    """Images of noise in the numbers of `facts`; those of an image folder are decoded from a JPEG."""

    def __init__(self, config: DataConfig, facts: DataFacts) -> None:
        self.class_names, self.channels = facts.class_names, facts.channels
        counts = np.array(facts.train_counts)
        test = facts.num_test_images // facts.num_classes
        self.labels = {
            "train": np.repeat(np.arange(facts.num_classes), counts),
            "test": np.repeat(np.arange(facts.num_classes), test),
        }
        self._config = config
        self._jpeg = _picture()
        rng = np.random.default_rng(0)
        self._grey = rng.integers(0, 256, (1, config.image_size, config.image_size), dtype=np.uint8)

    def identity(self) -> str:
        return "assumed"

    def item(self, split: Split, index: int) -> str:
        return str(index)

    def read(self, split: Split, indices: npt.NDArray[np.int64]) -> Images:
        if self.channels == 1:
            return np.repeat(self._grey[None], len(indices), axis=0)
        size, limit = self._config.image_size, self._config.max_megapixels
        return np.stack([decode_image(self._jpeg, size, limit) for _ in indices])

    def read_crops(
        self, split: Split, indices: npt.NDArray[np.int64], boxes_of: BoxesOf, height: int, width: int
    ) -> Cut:
        limit = self._config.max_megapixels
        return join(
            [
                decode_crops(self._jpeg, partial(boxes_of, row), height, width, limit)
                for row in range(len(indices))
            ]
        )


def _picture() -> bytes:
    """Return a JPEG of smoothed noise that takes about as long to decode as a photograph of its size."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (_HEIGHT // 3, _WIDTH // 3, 3), dtype=np.uint8)
    picture = Image.fromarray(small).resize((_WIDTH, _HEIGHT), Image.Resampling.BILINEAR)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90)
    return file.getvalue()
