"""Assumed images: their numbers, and that networks can read them."""

import numpy as np
import pytest

from prism_ray.config import DataConfig
from prism_ray.crops import Crops
from prism_ray.data.assumed import AssumedImages, Assumption


def folder(**changes: object) -> DataConfig:
    return DataConfig(source="image-folder", path="nowhere", image_size=32, **changes)  # type: ignore[arg-type]


def test_images_that_are_held_out_are_not_trained_on() -> None:
    """Catches a forecast of squeeze for images that distill would keep for the test."""
    facts = Assumption(10, 1000).facts(folder())
    assert (facts.train_counts[0], facts.num_test_images) == (800, 2000)
    apart = Assumption(10, 1000, 50).facts(folder(test_path="elsewhere", validation_fraction=0.1))
    assert (apart.train_counts[0], apart.num_test_images) == (900, 500)


@pytest.mark.parametrize(("source", "channels"), [("image-folder", 3), ("idx", 1)])
def test_they_are_read_as_real_ones_are(source: str, channels: int) -> None:
    """Catches a calibration that fails, or decodes nothing, because the images are not there."""
    config = DataConfig(source=source, path="nowhere", image_size=24)  # type: ignore[arg-type]
    facts = Assumption(3, 5).facts(config)
    images = AssumedImages(config, facts)
    assert images.facts() == facts
    assert images.read("train", np.arange(4)).shape == (4, channels, 24, 24)
    assert len(images.train_indices(2)) == facts.train_counts[2]


def test_crops_come_from_a_picture_of_the_size_of_a_photograph() -> None:
    """Catches `collect.crop_from: original` on a picture that is as small as a crop."""
    config = folder()
    images = AssumedImages(config, Assumption(2, 4).facts(config))
    seen = []

    def boxes_of(row: int, height: int, width: int) -> Crops:
        seen.append((height, width))
        one = np.ones(1)
        return Crops(top=0 * one, left=0 * one, height=height * one, width=width * one)

    crops, _ = images.read_crops("train", np.arange(2), boxes_of, 8, 8)
    assert crops.shape == (2, 3, 8, 8)
    assert seen == [(375, 500), (375, 500)]
