"""RandAugment on stored images, repeated from the seed of a view: the student sees what the teachers saw.

The operations are timm's, on Pillow images on the CPU, and draw from the global generators of `random` and
numpy. These are seeded for each image and restored afterwards, so that other draws do not change.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from timm.data.auto_augment import rand_augment_transform
from torch import Tensor

from prism_ray.parts.images import StoredImages
from prism_ray.parts.views import Views

Images = npt.NDArray[np.uint8]

_POLICY = "rand-m6-n2-mstd1.0"
_FILL = (124, 116, 104)  # colour of uncovered borders: the mean colour of ImageNet, as in DELT


def rand_augment(image: Images, seed: int) -> Images:
    """Return `image` (1 or 3, H, W) after RandAugment with the generators seeded by `seed`.

    A grey image is augmented as RGB and returned with one channel. Source: DELT, arXiv 2411.19946, whose
    public code uses this policy of timm.
    """
    is_grey = image.shape[0] == 1
    shown = Image.fromarray(np.ascontiguousarray(image[0] if is_grey else image.transpose(1, 2, 0)))
    with _seeded(seed):
        shown = _transform()(shown.convert("RGB"))
    pixels = np.asarray(shown.convert("L") if is_grey else shown)
    return pixels[None] if is_grey else pixels.transpose(2, 0, 1)


class ShownImages:
    """The images of a set on the device, before the views of an epoch crop them."""

    def __init__(self, stored: StoredImages, device: torch.device) -> None:
        self._stored = stored
        self._device = device
        self._unchanged: Tensor | None = None

    def of_epoch(self, views: Views) -> Tensor:
        """Return uint8 (N, channels, H, W) in the order of the stored images, augmented as `views` say.

        Images without a view, or with a view without a seed, are returned as they are stored.
        """
        if not views.augment_seed.any():
            if self._unchanged is None:
                self._unchanged = torch.from_numpy(self._stored.images).to(self._device)
            return self._unchanged
        keys = zip(views.label.tolist(), views.ipc_index.tolist(), strict=True)
        seeds = dict(zip(keys, views.augment_seed.tolist(), strict=True))
        augmented = self._stored.images.copy()
        for slot, image in zip(self._stored.slots, augmented, strict=True):
            if seed := seeds.get((slot.label, slot.ipc_index), 0):
                image[:] = rand_augment(image, seed)
        return torch.from_numpy(augmented).to(self._device)


@cache
def _transform() -> Callable[[Image.Image], Image.Image]:
    transform: Callable[[Image.Image], Image.Image] = rand_augment_transform(_POLICY, {"img_mean": _FILL})
    return transform


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of `random` and numpy inside this context, then restore them."""
    before, numpy_before = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed([seed & 0xFFFFFFFF, seed >> 32])
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(numpy_before)
