"""The augmentation of recover: what it draws, and when."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as TF

from prism_ray.config import RecoverConfig
from prism_ray.recover.augment import Augmentation, smallest_crops

CPU = torch.device("cpu")
SIZE = 12

SeeAugmentation = Callable[[Augmentation, int, int, int], tuple[int, int, int, int, bool, int, int]]


def make(num_iterations: int, seed: int = 0, **values: object) -> Augmentation:
    config = RecoverConfig.model_validate({"ipc": 1, "primary": "p", **values})
    return Augmentation(config, num_iterations, SIZE, seed, CPU)


def batch(seed: int = 0) -> torch.Tensor:
    return torch.rand(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.usefixtures("float64")
def test_it_is_crop_then_flip_then_roll(see_augmentation: SeeAugmentation) -> None:
    """Would catch another order of the three, a flip upside down, or a roll along the wrong axis."""
    augment = make(8, crop_scale=(0.1, 1.0), jitter=4)
    x = batch().double()
    for iteration in range(8):
        top, left, height, width, flip, down, right = see_augmentation(augment, iteration, SIZE, 4)
        expected = TF.resized_crop(x, top, left, height, width, [SIZE, SIZE], antialias=True)
        expected = torch.roll(expected.flip(3) if flip else expected, (down, right), (2, 3))
        torch.testing.assert_close(augment(x, iteration), expected, rtol=0, atol=1e-12)


def test_crops_keep_to_the_scale(see_augmentation: SeeAugmentation) -> None:
    """Would catch crop_scale being ignored."""
    augment = make(30, crop_scale=(0.3, 0.5), jitter=0, flip=False)
    for iteration in range(30):
        _, _, height, width, flip, down, right = see_augmentation(augment, iteration, SIZE, 0)
        assert (height + 0.5) * (width + 0.5) >= 0.3 * SIZE**2  # sides are whole pixels
        assert (height - 0.5) * (width - 0.5) <= 0.5 * SIZE**2
        assert (flip, down, right) == (False, 0, 0)


def test_nothing_asked_nothing_done() -> None:
    """Would catch pixels that are blurred, moved or mirrored when crop, flip and jitter are off."""
    augment = make(20, crop_scale=(1.0, 1.0), jitter=0, flip=False)
    x = batch()
    assert all(torch.equal(augment(x, iteration), x) for iteration in range(20))


def test_half_of_the_iterations_are_mirrored() -> None:
    """Would catch a flip of every iteration, of none, or of half of the images."""
    augment = make(400, crop_scale=(1.0, 1.0), jitter=0)
    x = batch()
    mirrored = 0
    for iteration in range(400):
        out = augment(x, iteration)
        is_mirrored = torch.equal(out, x.flip(3))
        assert is_mirrored or torch.equal(out, x)
        mirrored += is_mirrored
    assert 160 < mirrored < 240


def test_rolls_take_every_step_from_none_to_all_of_the_jitter() -> None:
    """Would catch a roll that never reaches its limit, or is the same in both directions."""
    augment = make(400, crop_scale=(1.0, 1.0), jitter=3, flip=False)
    point = torch.zeros(1, 1, SIZE, SIZE)
    point[0, 0, 0, 0] = 1.0
    places = [divmod(int(augment(point, iteration).argmax()), SIZE) for iteration in range(400)]
    counts = np.zeros((4, 4))
    for place in places:
        counts[place] += 1  # fails beyond the jitter
    assert (counts > 5).all()  # 25 are expected of each of the 16


def test_the_whole_batch_is_augmented_alike() -> None:
    """Would catch a crop of its own for each image, which is not the method."""
    augment = make(5, crop_scale=(0.1, 1.0))
    x = batch()
    for iteration in range(5):
        alone = torch.cat([augment(image[None], iteration) for image in x])
        torch.testing.assert_close(augment(x, iteration), alone, rtol=0, atol=1e-6)


def test_iterations_do_not_depend_on_those_before() -> None:
    """Would catch parameters drawn on the way, so that a resumed batch goes on differently."""
    x = batch()
    forwards, backwards = make(10, seed=7), make(10, seed=7)
    first = {iteration: forwards(x, iteration) for iteration in range(10)}
    torch.rand(3)
    np.random.default_rng(0).random(3)
    for iteration in (9, 0, 4, 4, 7):
        assert torch.equal(backwards(x, iteration), first[iteration])


def test_draws_depend_on_the_seed_and_the_iteration() -> None:
    """Would catch the same crop in all batches or in all iterations."""
    x = batch()
    augment, other = make(6, seed=1), make(6, seed=2)
    assert not torch.equal(augment(x, 0), other(x, 0))
    outs = [augment(x, iteration) for iteration in range(6)]
    assert not any(torch.equal(a, b) for place, a in enumerate(outs) for b in outs[:place])


@pytest.mark.parametrize("num_iterations", [1, 7, 40])
@pytest.mark.parametrize("crop_scale", [(0.08, 1.0), (0.3, 0.5)])
def test_the_curriculum_falls_on_a_cosine(num_iterations: int, crop_scale: tuple[float, float]) -> None:
    """Would catch a schedule that rises, is linear, ends early, or goes beyond crop_scale's ends."""
    config = RecoverConfig(ipc=1, primary="p", crop_scale=crop_scale, crop_curriculum="cosine")
    low, high = crop_scale
    expected = [
        low + (high - low) * (1 + math.cos(math.pi * i / num_iterations)) / 2 for i in range(num_iterations)
    ]
    found = smallest_crops(config, num_iterations)
    assert found == pytest.approx(expected, rel=1e-12)
    assert found[0] == pytest.approx(high)
    assert (np.diff(found) < 0).all()
    constant = smallest_crops(config.model_copy(update={"crop_curriculum": "none"}), num_iterations)
    assert constant.tolist() == [low] * num_iterations


def test_crops_keep_to_the_curriculum(see_augmentation: SeeAugmentation) -> None:
    """Would catch a curriculum that is reckoned and then not used, or used for the largest crop."""
    num_iterations = 60
    augment = make(num_iterations, crop_scale=(0.1, 1.0), crop_curriculum="cosine", jitter=0, flip=False)
    areas = []
    for iteration in range(num_iterations):
        _, _, height, width, *_ = see_augmentation(augment, iteration, SIZE, 0)
        least = 0.1 + 0.9 * (1 + math.cos(math.pi * iteration / num_iterations)) / 2
        assert (height + 0.5) * (width + 0.5) >= least * SIZE**2
        areas.append(height * width / SIZE**2)
    assert areas[0] == 1.0
    assert min(areas[:20]) > 0.7
    assert min(areas[40:]) < 0.4
    assert max(areas[40:]) > 0.6
