"""The interface of a source of real images, and the checks of a config against the data. No torch."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from prism_ray.config import DISTILLED, AnyImageSet, Config, RecoverConfig
from prism_ray.data.cropping import BoxesOf, Cut, check_inside, cut, join
from prism_ray.encodings import find_encoding
from prism_ray.errors import ConfigError, DataError
from prism_ray.seeds import derive_seed
from prism_ray.wording import first_of

Split = Literal["train", "validation", "test"]
Images = npt.NDArray[np.uint8]  # B, channels, H, W
Labels = npt.NDArray[np.int64]  # B
IN_MEMORY_BYTES = 2**30  # decoded images up to this size are kept by whoever needs them again
_CHECKED_AT_ONCE = 1024


@dataclass(frozen=True)
class DataFacts:
    """The facts of the data that the plan needs. `identity` is a hash of the images and labels."""

    class_names: tuple[str, ...]
    train_counts: tuple[int, ...]
    num_test_images: int
    channels: int
    identity: str

    @property
    def num_classes(self) -> int:
        return len(self.class_names)


class RealImages(ABC):
    """Real images with labels in a train, a test and optionally a validation split, read on demand."""

    class_names: tuple[str, ...]
    channels: int
    labels: dict[Split, Labels]

    @abstractmethod
    def identity(self) -> str:
        """Return a hash that differs between data sets with different images or labels."""

    @abstractmethod
    def item(self, split: Split, index: int) -> str:
        """Return a name of an image that stays the same if other images are added or removed."""

    @abstractmethod
    def read(self, split: Split, indices: npt.NDArray[np.int64]) -> Images:
        """Return the images at `indices` as uint8 (B, channels, H, W) at the run's image size.

        Raises DataError, which names every image that cannot be read.
        """

    @abstractmethod
    def read_crops(
        self, split: Split, indices: npt.NDArray[np.int64], boxes_of: BoxesOf, height: int, width: int
    ) -> Cut:
        """Return K crops of each original picture at `indices` (N,), N at least 1, and their N * K boxes.

        The crops are uint8 (N * K, channels, height, width), those of a picture one after the other.
        `boxes_of(row, H, W)` gives the K boxes of the picture at `indices[row]`, which has H x W pixels. A
        picture is decoded once, and one at a time is in memory. Raises DataError, which names every image
        that cannot be read or does not contain its boxes.
        """

    def check_test_images(self) -> None:
        """Read all test images, so that an unreadable one is named before hours of training."""
        num_images = len(self.labels["test"])
        for first in range(0, num_images, _CHECKED_AT_ONCE):
            self.read("test", np.arange(first, min(first + _CHECKED_AT_ONCE, num_images)))

    def facts(self) -> DataFacts:
        """Return the facts that the plan needs."""
        counts = np.bincount(self.labels["train"], minlength=len(self.class_names))
        return DataFacts(
            class_names=self.class_names,
            train_counts=tuple(int(count) for count in counts),
            num_test_images=len(self.labels["test"]),
            channels=self.channels,
            identity=self.identity(),
        )

    @cached_property
    def _train_indices_by_class(self) -> list[npt.NDArray[np.int64]]:
        labels = self.labels["train"]
        by_class = np.argsort(labels, kind="stable")  # one pass for all classes: ImageNet has a thousand
        bounds = np.searchsorted(labels[by_class], np.arange(1, len(self.class_names)))
        return np.split(by_class, bounds)

    def train_indices(self, label: int) -> npt.NDArray[np.int64]:
        """Return the indices of the training images of a class, in the order of the source."""
        return self._train_indices_by_class[label]


class ArrayImages(RealImages):
    """A source that keeps all images in memory as grey arrays."""

    channels = 1

    def __init__(
        self,
        name: str,
        class_names: tuple[str, ...],
        images: dict[Split, npt.NDArray[np.uint8]],  # B, h, w
        labels: dict[Split, Labels],
        image_size: int,
    ) -> None:
        self.name = name
        self.class_names = class_names
        self.labels = labels
        self._images = images
        self._image_size = image_size

    def identity(self) -> str:
        digest = hashlib.sha256(self.name.encode())
        for split in ("train", "test"):
            digest.update(np.ascontiguousarray(self._images[split]).tobytes())
            digest.update(self.labels[split].astype("<i8").tobytes())
        return digest.hexdigest()

    def item(self, split: Split, index: int) -> str:
        return str(index)

    def read(self, split: Split, indices: npt.NDArray[np.int64]) -> Images:
        size = self._image_size
        picked = self._images[split][indices]
        if picked.shape[1:] != (size, size):
            resized = np.empty((len(picked), size, size), np.uint8)
            for index, image in enumerate(picked):
                picture = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)
                resized[index] = np.asarray(picture)
            picked = resized
        return np.ascontiguousarray(picked[:, None])

    def read_crops(
        self, split: Split, indices: npt.NDArray[np.int64], boxes_of: BoxesOf, height: int, width: int
    ) -> Cut:
        cuts = []
        for row, index in enumerate(indices):
            image = self._images[split][index]
            boxes = boxes_of(row, *image.shape)
            try:
                check_inside(boxes, *image.shape)
            except ValueError as error:
                raise DataError(f"{self.name}: image {index} of split {split}: {error}") from None
            cuts.append((cut(Image.fromarray(image), boxes, height, width), boxes))
        return join(cuts)


def held_out(source: str, class_name: str, items: Sequence[str], fraction: float) -> npt.NDArray[np.bool_]:
    """Choose the held-out items of a class: True for about `fraction` of them, at least one.

    Items are ranked by a hash of source, class and item, without the run's seed. So all runs on one source
    are tested on the same images, and other classes or files hardly change the choice.
    """
    num_test = min(max(1, round(len(items) * fraction)), len(items) - 1)
    ranked = sorted(range(len(items)), key=lambda i: derive_seed("held-out", source, class_name, items[i]))
    chosen = np.zeros(len(items), dtype=np.bool_)
    chosen[ranked[:num_test]] = True
    return chosen


def check_config(config: Config, facts: DataFacts, origin: str) -> None:
    """Raise ConfigError if `config` (read from `origin`) does not fit the data."""
    if facts.num_classes < 2:
        raise ConfigError(
            f"{origin}: data.path = {config.data.path!r}: the data has only one class "
            f"({facts.class_names[0]}); give it two or more class folders"
        )
    wanted = config.data.num_classes
    if wanted is not None and wanted != facts.num_classes:
        names = first_of(facts.class_names, 10)
        raise ConfigError(
            f"{origin}: data.num_classes = {wanted}: the data has {facts.num_classes} classes "
            f"({names}); correct the number or leave it out"
        )
    encoding = config.relabel.encoding
    if (least := find_encoding(encoding).least_classes) > facts.num_classes:
        raise ConfigError(
            f"{origin}: relabel.encoding = {encoding!r}: it needs data of {least} or more classes, and the "
            f"data has {facts.num_classes}; set relabel.encoding, for example to top-{facts.num_classes // 2}"
        )
    fewest = min(facts.train_counts)
    smallest = facts.class_names[facts.train_counts.index(fewest)]
    for name, image_set in config.image_sets.items():
        section = "recover" if name == DISTILLED else f"image_sets.{name}"
        need, have, limit = _real_images_needed(config, image_set, fewest)
        if need > have:
            start = f"init {image_set.init}"
            if image_set.replicate > 0:
                start += f" of replicate {image_set.replicate}"
            noise = f" or set {section}.init to noise" * isinstance(image_set, RecoverConfig)
            patches = " or collect.rded_patches_per_side" * (image_set.init == "rded")
            raise ConfigError(
                f"{origin}: {section}.ipc = {image_set.ipc}: {start} needs {need} training images per class, "
                f"but class {smallest!r} has {fewest}{limit}; lower {section}.ipc{patches}{noise}"
            )
        if isinstance(image_set, RecoverConfig) and image_set.selection.votes == "prior":
            # Priors are never accuracies on test images.
            selection = image_set.selection
            voters = config.candidates(image_set)
            _check_priors(config, origin, f"{section}.selection", "votes", voters, selection.priors)
    if config.relabel.ensemble == "prior":
        priors = config.relabel.priors
        _check_priors(config, origin, "relabel", "ensemble", config.label_teachers, priors)


def _check_priors(
    config: Config, origin: str, section: str, key: str, names: Sequence[str], given: Collection[str]
) -> None:
    """Raise ConfigError if the accuracy of a teacher is neither given nor will be measured."""
    unknown = [name for name in names if name not in given]
    if unknown and config.data.validation_fraction == 0.0:
        raise ConfigError(
            f"{origin}: {section}.{key} = 'prior' needs the accuracy of {', '.join(unknown)} on validation "
            "images, but there are none; set data.validation_fraction above 0, for example 0.1, or set "
            f"{section}.priors in percent"
        )


def _real_images_needed(config: Config, image_set: AnyImageSet, fewest: int) -> tuple[int, int, str]:
    """Return the number of real images per class that an init needs, the number it has, and its limit."""
    num_images, collect = image_set.ipc * (image_set.replicate + 1), config.collect
    most, key = fewest, ""
    if image_set.init == "median":
        most, key = collect.images_per_class or fewest, "images_per_class"
    elif image_set.init == "rded":
        most, key = collect.rded_images_per_class, "rded_images_per_class"
        num_images *= collect.rded_patches_per_side**2
    elif image_set.init != "real":
        num_images = 0
    return num_images, min(fewest, most), f" (collect.{key} = {most})" * (most < fewest)
