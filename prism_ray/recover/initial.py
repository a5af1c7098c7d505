"""The initial images of a set: real images, collages of patches, or noise. Selections are these images.

They depend on the run's seed and an image's class, IPC index and replicate, never on its batch.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from prism_ray.collect.collage import collage
from prism_ray.collect.scores import ClassScores, median_order
from prism_ray.config import AnyImageSet, CollectConfig
from prism_ray.data import RealImages
from prism_ray.seeds import derive_seed
from prism_ray.stages.formation import Slot

Images = npt.NDArray[np.uint8]  # B, channels, H, W


def initial_images(
    slots: Sequence[Slot],
    config: AnyImageSet,
    data: RealImages,
    image_size: int,
    run_seed: int,
    scores: Callable[[int], ClassScores],
    collect: CollectConfig,
) -> Images:
    """Return the initial real images of the slots, or collages of real images.

    For IPC index k of replicate r, in a class of N training images (indices modulo N):

        real      image k + r * ipc
        random    image k of an order drawn for r and the class
        median    image k + r * ipc in the order of DELT
        rded      collage k of `collect.rded_patches_per_side` squared patches that replicates before r left

    `scores(label)` gives the scores of kind median or rded, and is not called for other kinds. The quarters
    are not shuffled yet. Raises DataError if a class has too few patches.
    """
    if config.init == "rded":
        return _collages(slots, config, data, image_size, scores, collect)
    assert config.init != "noise"
    first = 0 if config.init == "random" else config.replicate * config.ipc
    orders: dict[int, npt.NDArray[np.int64]] = {}  # label -> indices of its images, as they are taken
    for label in {slot.label for slot in slots}:
        order = data.train_indices(label)
        if config.init == "random":
            seed = derive_seed(run_seed, "random-real", config.replicate, label)
            order = order[np.random.default_rng(seed).permutation(len(order))]
        elif config.init == "median":
            order = order[median_order(scores(label)["probability"])]
        orders[label] = order
    picks = [orders[slot.label][(first + slot.ipc_index) % len(orders[slot.label])] for slot in slots]
    return data.read("train", np.array(picks, dtype=np.int64))


def _collages(
    slots: Sequence[Slot],
    config: AnyImageSet,
    data: RealImages,
    image_size: int,
    scores: Callable[[int], ClassScores],
    collect: CollectConfig,
) -> Images:
    patches_per_side = collect.rded_patches_per_side
    out = np.empty((len(slots), data.channels, image_size, image_size), np.uint8)
    for label in sorted({slot.label for slot in slots}):
        rows = [row for row, slot in enumerate(slots) if slot.label == label]
        ipc_indices = [slots[row].ipc_index for row in rows]
        first = config.replicate * config.ipc * patches_per_side**2
        left = {name: values[first:] for name, values in scores(label).items()}
        out[rows] = collage(
            left, ipc_indices, config.ipc, patches_per_side, label, data, image_size, collect.crop_from
        )
    return out


def initial_noise(
    slots: Sequence[Slot], config: AnyImageSet, channels: int, image_size: int, run_seed: int
) -> npt.NDArray[np.float32]:
    """Return standard normal noise (B, channels, size, size), drawn separately for each slot."""
    noise = np.empty((len(slots), channels, image_size, image_size), np.float32)
    for slot, row in zip(slots, noise, strict=True):
        _rng_of(slot, config, run_seed, "noise").standard_normal(dtype=np.float32, out=row)
    return noise


def shuffle_patches(images: Images, slots: Sequence[Slot], config: AnyImageSet, run_seed: int) -> Images:
    """Return the images with their quarters in a random order, drawn for each slot from all 24.

    A quarter has half the side, rounded down; if the side is odd, the middle row and column stay. Source:
    EDC, arXiv 2404.13733 (its public code draws the order and then does not use it).
    """
    shuffled = images.copy()
    size = images.shape[-1]
    half = size // 2
    first, second = slice(0, half), slice(size - half, size)
    quarters = [(rows, columns) for rows in (first, second) for columns in (first, second)]
    for index, slot in enumerate(slots):
        order = _rng_of(slot, config, run_seed, "patch-shuffle").permutation(4)
        for (rows, columns), source in zip(quarters, order, strict=True):
            from_rows, from_columns = quarters[source]
            shuffled[index, :, rows, columns] = images[index, :, from_rows, from_columns]
    return shuffled


def _rng_of(slot: Slot, config: AnyImageSet, run_seed: int, what: str) -> np.random.Generator:
    """Return the random generator of one slot for one purpose."""
    return np.random.default_rng(derive_seed(run_seed, what, config.replicate, slot.label, slot.ipc_index))
