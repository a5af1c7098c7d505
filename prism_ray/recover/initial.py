"""Where an image set starts: real images, collages of patches, or noise. For selection, that is the set.

All of it depends on the run's seed and an image's class, IPC index and replicate; never on its batch.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from prism_ray.collect.collage import collage
from prism_ray.collect.scores import ClassScores, median_order
from prism_ray.config import AnyImageSet
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
    patches_per_side: int,
) -> Images:
    """Return the real images, or collages of them, that the slots start from.

    IPC index k of replicate r, of N training images in its class, counted round and round:
    real: number k + r * ipc. random: the k-th of an order drawn for r and the class. median: number
    k + r * ipc in the order of DELT. rded: the k-th collage of `patches_per_side` x `patches_per_side`
    patches, of those that the replicates before r leave.

    `scores(label)` gives the scores of kind median or rded, and is not called for the others. The quarters
    are not shuffled yet. Raises DataError if a class has too few patches.
    """
    if config.init == "rded":
        return _collages(slots, config, data, image_size, scores, patches_per_side)
    orders = {label: _order(label, config, data, run_seed, scores) for label in {s.label for s in slots}}
    first = 0 if config.init == "random" else config.replicate * config.ipc
    picks = []
    for slot in slots:
        order = orders[slot.label]
        place = order[(first + slot.ipc_index) % len(order)]
        picks.append(data.train_indices(slot.label)[place])
    return data.read("train", np.array(picks, dtype=np.int64))


def _order(
    label: int,
    config: AnyImageSet,
    data: RealImages,
    run_seed: int,
    scores: Callable[[int], ClassScores],
) -> npt.NDArray[np.int64]:
    """Return the places of a class's training images in the order in which they are taken."""
    count = len(data.train_indices(label))
    if config.init == "real":
        return np.arange(count)
    if config.init == "random":
        seed = derive_seed(run_seed, "random-real", config.replicate, label)
        return np.random.default_rng(seed).permutation(count)
    assert config.init == "median", config.init
    return median_order(scores(label)["probability"])


def _collages(
    slots: Sequence[Slot],
    config: AnyImageSet,
    data: RealImages,
    image_size: int,
    scores: Callable[[int], ClassScores],
    patches_per_side: int,
) -> Images:
    out = np.empty((len(slots), data.channels, image_size, image_size), np.uint8)
    for label in sorted({slot.label for slot in slots}):
        places = [place for place, slot in enumerate(slots) if slot.label == label]
        ipc_indices = [slots[place].ipc_index for place in places]
        first = config.replicate * config.ipc * patches_per_side**2
        left = {name: values[first:] for name, values in scores(label).items()}
        out[places] = collage(left, ipc_indices, config.ipc, patches_per_side, label, data, image_size)
    return out


def initial_noise(
    slots: Sequence[Slot], config: AnyImageSet, channels: int, image_size: int, run_seed: int
) -> npt.NDArray[np.float32]:
    """Return standard normal noise (B, channels, size, size), drawn for each slot alone."""
    shape = (channels, image_size, image_size)
    noise = np.empty((len(slots), *shape), np.float32)
    for place, slot in enumerate(slots):
        rng = _rng_of(slot, config, run_seed, "noise")
        rng.standard_normal(dtype=np.float32, out=noise[place])
    return noise


def shuffle_patches(images: Images, slots: Sequence[Slot], config: AnyImageSet, run_seed: int) -> Images:
    """Return the images with their quarters in an order drawn for each slot, uniform among all 24.

    A quarter has half the side, rounded down; of an odd side the middle row and column stay. Source: EDC,
    arXiv 2404.13733 (whose public code draws the order and then does not use it).
    """
    shuffled = images.copy()
    size = images.shape[-1]
    half = size // 2
    first, second = slice(0, half), slice(size - half, size)
    quarters = [(rows, columns) for rows in (first, second) for columns in (first, second)]
    for place, slot in enumerate(slots):
        order = _rng_of(slot, config, run_seed, "patch-shuffle").permutation(4)
        for (rows, columns), source in zip(quarters, order, strict=True):
            from_rows, from_columns = quarters[source]
            shuffled[place, :, rows, columns] = images[place, :, from_rows, from_columns]
    return shuffled


def _rng_of(slot: Slot, config: AnyImageSet, run_seed: int, what: str) -> np.random.Generator:
    """Return the generator of one slot for one purpose."""
    return np.random.default_rng(derive_seed(run_seed, what, config.replicate, slot.label, slot.ipc_index))
