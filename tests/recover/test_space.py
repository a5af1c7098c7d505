"""The reference pixel space: to it, from it, and to the teachers."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as TF

from prism_ray.recover.space import ReferenceSpace
from prism_ray.teachers.teacher import Preprocessing, Teacher

CPU = torch.device("cpu")
PRIMARY = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 12)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_go_there_and_back(channels: int) -> None:
    """Would catch a loss of grey levels on the way: every one of the 256 must come back."""
    space = ReferenceSpace.of(PRIMARY, channels, CPU)
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(2, channels, -1, -1)
    assert torch.equal(space.to_images(space.from_images(levels)), levels)


@pytest.mark.parametrize("channels", [1, 3])
def test_rounding_is_to_the_nearest(channels: int) -> None:
    """Would catch truncation to uint8, which darkens every image by half a level."""
    space = ReferenceSpace.of(PRIMARY, channels, CPU)
    levels = np.array([0, 1, 7, 100, 200, 254])
    for part, added in ((0.4, 0), (0.6, 1), (-0.4, 0), (-0.6, -1)):
        pixels = torch.tensor((levels + part) / 255.0, dtype=torch.float32)[:, None, None, None]
        x = (pixels - space.mean) / space.std
        expected = torch.from_numpy((levels + added).clip(0, 255)).to(torch.uint8)
        assert torch.equal(space.to_images(x)[:, 0, 0, 0], expected)


def test_values_beyond_the_range_do_not_wrap() -> None:
    """Would catch a white pixel that turns black because 256 does not fit into uint8."""
    space = ReferenceSpace.of(PRIMARY, 3, CPU)
    x = torch.tensor([-100.0, 100.0]).reshape(2, 1, 1, 1).expand(-1, 3, 2, 2)
    assert space.to_images(x).flatten(1).tolist() == [[0] * 12, [255] * 12]


@pytest.mark.parametrize("channels", [1, 3])
def test_clipping_is_to_valid_pixels_of_each_channel(channels: int) -> None:
    """Would catch one pair of bounds for all channels, or bounds of normalised 0 and 1."""
    space = ReferenceSpace.of(PRIMARY, channels, CPU)
    x = 50.0 * torch.randn(4, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    pixels = space.clamp_(x.clone()) * space.std + space.mean
    torch.testing.assert_close(pixels, (x * space.std + space.mean).clamp(0.0, 1.0), rtol=0, atol=1e-5)
    inside = space.from_images(torch.randint(0, 256, (2, channels, 4, 4), dtype=torch.uint8))
    torch.testing.assert_close(space.clamp_(inside.clone()), inside, rtol=0, atol=1e-6)


def test_clipping_is_in_place() -> None:
    """Would catch an optimiser that goes on with unclipped pixels."""
    space = ReferenceSpace.of(PRIMARY, 3, CPU)
    x = torch.full((1, 3, 2, 2), 99.0)
    assert space.clamp_(x) is x
    assert float(x.max()) < 3.0


def test_grey_is_in_the_average_of_the_channels() -> None:
    """Would catch grey images that are optimised in the red channel's space."""
    space = ReferenceSpace.of(PRIMARY, 1, CPU)
    assert space.mean.shape == space.std.shape == (1, 1, 1)
    assert float(space.mean) == pytest.approx(sum(PRIMARY.mean) / 3)
    assert float(space.std) == pytest.approx(sum(PRIMARY.std) / 3)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [12, 7, 20])
def test_a_teacher_gets_what_it_was_trained_on(
    channels: int, size: int, depthwise: Callable[[int], Teacher]
) -> None:
    """Would catch the primary's normalisation or resolution being given to every teacher."""
    teacher = depthwise(size)
    space = ReferenceSpace.of(PRIMARY, channels, CPU)
    images = torch.randint(0, 256, (2, channels, 12, 12), dtype=torch.uint8)
    seen = space.to_teacher(space.from_images(images), teacher)
    resized = TF.resize(images / 255.0, [size, size], antialias=True).expand(-1, 3, -1, -1)
    preprocessing = teacher.preprocessing
    expected = TF.normalize(resized, list(preprocessing.mean), list(preprocessing.std))
    torch.testing.assert_close(seen, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(seen, preprocessing.apply(images / 255.0), rtol=0, atol=1e-5)
