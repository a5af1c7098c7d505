"""All real training images as students see them: in memory if they are few, else read batch by batch."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from prism_ray.data import RealImages
from prism_ray.data.base import IN_MEMORY_BYTES
from prism_ray.parts.images import StoredImages
from prism_ray.parts.views import Ints, Views
from prism_ray.relabel.augment import rand_augment
from prism_ray.stages.formation import Slot


def full_data(
    data: RealImages, image_size: int, device: torch.device, max_bytes: int = IN_MEMORY_BYTES
) -> "StoredImages | FullData":
    """Return the training images; IPC indices count the images of a class in the order of the source."""
    labels = data.labels["train"]
    number = np.zeros(len(labels), dtype=np.int64)  # of each image in its class
    for label in range(len(data.class_names)):
        own = data.train_indices(label)
        number[own] = np.arange(len(own))
    indices = np.lexsort((labels, number))  # the order of views
    slots = tuple(map(Slot, labels[indices].tolist(), number[indices].tolist()))
    shape = (len(slots), data.channels, image_size, image_size)
    if np.prod(shape, dtype=np.int64) <= max_bytes:
        return StoredImages(slots, data.read("train", indices))
    return FullData(slots, data, indices, torch.Size(shape), device)


@dataclass(frozen=True)
class FullData:
    """Training images that do not fit in memory together."""

    slots: tuple[Slot, ...]  # N, in the order of views
    data: RealImages
    indices: Ints  # N: index of each image among the training images
    shape: torch.Size  # N, channels, H, W
    device: torch.device

    def of_epoch(self, views: Views) -> "FullDataInEpoch":
        """Return the images in an epoch, augmented as `views` say; `views` are in the order of the slots."""
        return FullDataInEpoch(self, views.augment_seed)


@dataclass(frozen=True)
class FullDataInEpoch:
    """The training images in one epoch: a `prism_ray.relabel.views.Pixels`."""

    images: FullData
    augment_seeds: Ints  # N; 0: no RandAugment

    @property
    def shape(self) -> torch.Size:
        return self.images.shape

    @property
    def device(self) -> torch.device:
        return self.images.device

    def __getitem__(self, index: Tensor, /) -> Tensor:
        """Read the images at `index` (b,). Raises DataError if one cannot be read."""
        wanted = index.cpu().numpy()
        read = self.images.data.read("train", self.images.indices[wanted])
        for number, seed in enumerate(self.augment_seeds[wanted].tolist()):
            if seed:
                read[number] = rand_augment(read[number], seed)
        return torch.from_numpy(read).to(self.device)
