"""Where image sets start: the same for a slot whatever batch it is in."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from prism_ray.config import CollectConfig, RecoverConfig, SelectConfig
from prism_ray.data import RealImages
from prism_ray.data.base import ArrayImages
from prism_ray.recover.initial import initial_images, initial_noise, shuffle_patches
from prism_ray.stages.formation import Slot

COUNTS = (6, 9)  # images of the two classes


@pytest.fixture
def tagged() -> RealImages:
    """Images of one level: 100 * class + place in the class, the classes interleaved."""
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1], COUNTS))
    levels = np.zeros(len(labels), np.uint8)
    for label, count in enumerate(COUNTS):
        levels[labels == label] = 100 * label + np.arange(count)
    pixels = np.broadcast_to(levels[:, None, None], (len(labels), 4, 4))
    return ArrayImages("tagged", ("a", "b"), {"train": pixels}, {"train": labels}, 4)


def config(init: str, ipc: int = 4, replicate: int = 0, **more: Any) -> RecoverConfig:
    return RecoverConfig(
        primary="p", init=init, ipc=ipc, replicate=replicate, iterations=9, iterations_step=0, **more
    )


def no_scores(label: int) -> Mapping[str, npt.NDArray[Any]]:
    raise AssertionError(f"nobody needs scores of class {label}")


def levels_of(
    slots: list[Slot],
    settings: RecoverConfig | SelectConfig,
    data: RealImages,
    scores: Any = no_scores,
    run_seed: int = 5,
) -> list[int]:
    """The levels of the top left corners."""
    images = initial_images(slots, settings, data, 4, run_seed, scores, CollectConfig())
    assert images.dtype == np.uint8
    assert images.shape == (len(slots), 1, 4, 4)
    return images[:, 0, 0, 0].tolist()


# real


def test_real_takes_the_kth_image_of_the_slots_class(tagged: RealImages) -> None:
    """Images of other classes, or the place in the batch instead of the IPC index."""
    slots = [Slot(1, 2), Slot(0, 0), Slot(1, 0), Slot(0, 3)]
    assert levels_of(slots, config("real"), tagged) == [102, 0, 100, 3]


def test_real_replicates_go_on_where_the_last_one_ended(tagged: RealImages) -> None:
    """Replicates that are copies, or an index beyond the end of a class."""
    slots = [Slot(label, index) for label in (0, 1) for index in range(4)]
    expected = [4, 5, 0, 1, 104, 105, 106, 107]
    assert levels_of(slots, config("real", replicate=1), tagged) == expected


# random


def test_random_takes_no_image_twice_before_all_have_come(tagged: RealImages) -> None:
    """Draws with replacement."""
    slots = [Slot(label, index) for label in (0, 1) for index in range(9)]
    found = levels_of(slots, config("random", ipc=9), tagged)
    assert sorted(found[:6]) == list(range(6))
    assert found[6:9] == found[:3]
    assert sorted(found[9:]) == [100 + place for place in range(9)]
    assert found[9:] != sorted(found[9:])


def test_random_depends_on_seed_and_replicate_and_not_on_the_batch(tagged: RealImages) -> None:
    """A set that changes with images_per_batch, or whose replicates are copies."""
    slots = [Slot(label, index) for label in (0, 1) for index in range(6)]
    together = levels_of(slots, config("random"), tagged)
    assert [levels_of([slot], config("random"), tagged)[0] for slot in slots] == together
    assert levels_of(slots, config("random", replicate=1), tagged) != together
    assert levels_of(slots, config("random"), tagged, run_seed=6) != together


def test_a_selected_set_takes_the_same_images_as_an_optimised_one(tagged: RealImages) -> None:
    """The control of random real images that is not the optimisation's start."""
    slots = [Slot(1, index) for index in range(4)]
    selected = SelectConfig(method="random-real", primary="p", init="random", ipc=4)
    assert levels_of(slots, selected, tagged) == levels_of(slots, config("random"), tagged)


# median and rded


def test_median_takes_the_median_first(tagged: RealImages) -> None:
    """The most or the least probable images first, or scores of another class."""

    def scores(label: int) -> Mapping[str, npt.NDArray[Any]]:
        probability = np.linspace(0.1, 0.9, COUNTS[label]).astype(np.float32)
        return {"probability": probability if label == 0 else probability[::-1]}

    slots = [*(Slot(0, index) for index in range(7)), Slot(1, 0), Slot(1, 1)]
    found = levels_of(slots, config("median", ipc=7), tagged, scores)
    assert found == [3, 4, 2, 5, 1, 0, 3, 103, 102]  # 9 images: rank 5 is place 3, rank 6 is place 2


@pytest.mark.parametrize("selected", [True, False])
def test_rded_puts_each_collage_into_its_slot(tagged: RealImages, selected: bool) -> None:
    """Collages of one class in another's slots when a batch goes across classes."""
    asked: list[int] = []

    def scores(label: int) -> Mapping[str, npt.NDArray[Any]]:
        asked.append(label)
        zero = np.zeros(4, np.int64)
        return {"place": np.array([3, 1, 0, 2]), "top": zero, "left": zero, "side": zero + 4}

    slots = [Slot(1, 0), Slot(0, 0)]
    settings = SelectConfig(method="rded", primary="p", init="rded", ipc=1) if selected else config("rded", 1)
    images = initial_images(slots, settings, tagged, 4, 5, scores, CollectConfig())
    assert images[0, 0, ::2, ::2].tolist() == [[103, 101], [100, 102]]
    assert images[1, 0, ::2, ::2].tolist() == [[3, 1], [0, 2]]
    assert sorted(asked) == [0, 1]


# noise


def test_noise_is_the_slots_own() -> None:
    """Noise that depends on the batch, so that two sets in other batches cannot be compared."""
    slots = [Slot(label, index) for label in (0, 1) for index in (0, 1)]
    together = initial_noise(slots, config("noise"), 3, 8, 5)
    assert together.shape == (4, 3, 8, 8)
    assert together.dtype == np.float32
    for place, slot in enumerate(slots):
        assert np.array_equal(initial_noise([slot], config("noise"), 3, 8, 5)[0], together[place])
    others = [
        initial_noise(slots, config("noise", replicate=1), 3, 8, 5),
        initial_noise(slots, config("noise"), 3, 8, 6),
    ]
    values = np.concatenate([together, *others])
    assert len(np.unique(values.reshape(12, -1)[:, 0])) == 12


def test_noise_is_standard_normal() -> None:
    """Uniform noise, or another spread."""
    noise = initial_noise([Slot(0, index) for index in range(20)], config("noise"), 3, 32, 5)
    assert noise.mean() == pytest.approx(0.0, abs=0.02)
    assert noise.std() == pytest.approx(1.0, abs=0.02)
    assert (np.abs(noise) < 1.0).mean() == pytest.approx(0.683, abs=0.01)


# patch shuffle


def quarters_of(image: npt.NDArray[np.uint8]) -> list[bytes]:
    """The four corners of half the side, row by row."""
    size = image.shape[-1]
    half = size // 2
    starts = (0, size - half)
    return [image[:, top : top + half, left : left + half].tobytes() for top in starts for left in starts]


@pytest.mark.parametrize("size", [6, 7])
def test_quarters_change_places_and_nothing_else(size: int) -> None:
    """A shuffle that is drawn and not used, quarters lost or doubled, an odd size that fails."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (200, 3, size, size), dtype=np.uint8)
    before = images.copy()
    slots = [Slot(place // 10, place % 10) for place in range(200)]
    shuffled = shuffle_patches(images, slots, config("rded"), 5)
    assert np.array_equal(images, before)
    orders = set()
    for old, new in zip(images, shuffled, strict=True):
        was, now = quarters_of(old), quarters_of(new)
        orders.add(tuple(was.index(quarter) for quarter in now))
        assert sorted(was) == sorted(now)
        if size % 2:
            assert np.array_equal(old[:, size // 2], new[:, size // 2])
            assert np.array_equal(old[:, :, size // 2], new[:, :, size // 2])
    assert len(orders) == 24


def test_the_shuffle_is_the_slots_own() -> None:
    """An order that depends on the batch."""
    images = np.random.default_rng(0).integers(0, 256, (8, 1, 4, 4), dtype=np.uint8)
    slots = [Slot(place, 0) for place in range(8)]
    together = shuffle_patches(images, slots, config("rded"), 5)
    alone = [
        shuffle_patches(images[[place]], [slot], config("rded"), 5)[0] for place, slot in enumerate(slots)
    ]
    assert np.array_equal(np.stack(alone), together)
    assert not np.array_equal(shuffle_patches(images, slots, config("rded", replicate=1), 5), together)
