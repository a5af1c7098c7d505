"""RandAugment of stored images: timm's own, the same whenever it is drawn, and harmless to other draws."""

import random
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from timm.data.auto_augment import rand_augment_transform

import prism_ray.relabel.augment
from prism_ray.config import RelabelConfig
from prism_ray.parts.images import StoredImages
from prism_ray.parts.views import Views, draw_views
from prism_ray.relabel.augment import ShownImages, rand_augment
from prism_ray.stages.formation import Slot

CPU = torch.device("cpu")
SEEDS = (1, 2**32, 2**53 + 1, 2**63 - 1)


def photo(seed: int = 0, channels: int = 3, size: int = 24) -> npt.NDArray[np.uint8]:
    """A smooth picture, on which shears, turns and sharpening differ."""
    noise = np.random.default_rng(seed).random((channels, size, size))
    return (255 * np.cumsum(np.cumsum(noise, 1), 2) / noise.sum()).clip(0, 255).astype(np.uint8)


def views_of(stored: StoredImages, epoch: int = 0) -> Views:
    config = RelabelConfig(rand_augment=True)
    return draw_views(stored.slots, epoch, 5, config, stored.images.shape[-1])


@pytest.mark.parametrize("seed", SEEDS)
def test_it_is_timms_policy(seed: int) -> None:
    """Would catch another policy or fill colour, channels out of order, or a seed of which a part is lost."""
    transform = rand_augment_transform("rand-m6-n2-mstd1.0", {"img_mean": (124, 116, 104)})
    image = photo()
    random.seed(seed)
    np.random.seed([seed % 2**32, seed // 2**32])
    expected = np.asarray(transform(Image.fromarray(np.moveaxis(image, 0, 2))))
    assert np.array_equal(rand_augment(image, seed), np.moveaxis(expected, 2, 0))


def test_seeds_give_different_pictures() -> None:
    """Would catch one augmentation for all images, or operations that are always or never done."""
    image = photo()
    outcomes = {rand_augment(image, seed).tobytes() for seed in range(1, 101)}
    assert len(outcomes) > 50
    same = sum(np.array_equal(rand_augment(image, seed), image) for seed in range(1, 401))
    assert 60 < same < 160  # each of the two operations is skipped with probability 1/2


@pytest.mark.parametrize("channels", [1, 3])
def test_neither_what_was_drawn_before_nor_after_is_touched(channels: int) -> None:
    """Would catch labels made on other pixels than the student sees, and draws elsewhere that are moved."""
    image = photo(channels=channels)
    before = image.copy()
    first = [rand_augment(image, seed) for seed in range(1, 30)]
    random.seed(7)
    np.random.seed(7)
    np.random.standard_normal()  # leaves a second value in the generator's state
    expected = (random.Random(7).random(), np.random.RandomState(7).standard_normal(3)[1:].tolist())
    again = [rand_augment(image, seed) for seed in range(1, 30)]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert (random.random(), [np.random.standard_normal(), np.random.standard_normal()]) == expected
    assert np.array_equal(image, before)


def test_the_generators_are_put_back_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a worker whose later draws are all the same, because one image could not be augmented."""

    def fail(_: Image.Image) -> Image.Image:
        raise OSError("broken")

    monkeypatch.setattr(prism_ray.relabel.augment, "_transform", lambda: fail)
    random.seed(7)
    np.random.seed(7)
    with pytest.raises(OSError, match="broken"):
        rand_augment(photo(), 3)
    assert random.random() == random.Random(7).random()
    assert np.random.random() == np.random.RandomState(7).random()


def test_grey_images_stay_grey() -> None:
    """Would catch a grey image of three channels, or one that is darker for a detour through RGB."""
    image = photo(channels=1)
    for seed in range(1, 60):
        grey = rand_augment(image, seed)
        colour = rand_augment(np.repeat(image, 3, axis=0), seed)
        assert grey.shape == image.shape
        assert grey.dtype == np.uint8
        is_grey = (colour == colour[:1]).all(axis=0)  # where nothing was filled in with a colour
        assert np.array_equal(grey[0][is_grey], colour[0][is_grey])


def test_each_image_gets_the_augmentation_of_its_own_view(stored: StoredImages) -> None:
    """Would catch augmentations given out by position: the stored images stand in another order."""
    order = np.random.default_rng(1).permutation(len(stored.slots))
    shuffled = StoredImages(tuple(stored.slots[place] for place in order), stored.images[order])
    before = shuffled.images.copy()
    views = views_of(stored)
    seeds = {
        Slot(int(label), int(ipc_index)): int(seed)
        for label, ipc_index, seed in zip(views.label, views.ipc_index, views.augment_seed, strict=True)
    }
    shown = ShownImages(shuffled, CPU).of_epoch(views).numpy()
    for slot, image, result in zip(shuffled.slots, shuffled.images, shown, strict=True):
        assert np.array_equal(result, rand_augment(image, seeds[slot]))
    assert np.array_equal(shuffled.images, before)


def test_a_seed_of_zero_is_no_augmentation(stored: StoredImages) -> None:
    """Would catch images augmented in runs that do not ask for it, or where only some views do."""
    views = views_of(stored)
    none = replace(views, augment_seed=np.zeros(40, np.int64))
    shown = ShownImages(stored, CPU)
    assert np.array_equal(shown.of_epoch(none).numpy(), stored.images)
    some = replace(views, augment_seed=np.where(views.label < 5, 0, views.augment_seed))
    result = shown.of_epoch(some).numpy()
    for slot, image, changed in zip(stored.slots, stored.images, result, strict=True):
        assert slot.label >= 5 or np.array_equal(image, changed)
    assert np.array_equal(shown.of_epoch(none).numpy(), stored.images)


def test_epochs_are_augmented_apart(stored: StoredImages) -> None:
    """Would catch the first epoch's augmentation held for all epochs."""
    shown = ShownImages(stored, CPU)
    first = shown.of_epoch(views_of(stored, 0))
    assert not torch.equal(first, shown.of_epoch(views_of(stored, 1)))
    assert torch.equal(first, shown.of_epoch(views_of(stored, 0)))
