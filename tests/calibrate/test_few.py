"""The few images of a calibration."""

import numpy as np

from prism_ray.calibrate.few import FewImages
from prism_ray.config import DataConfig
from prism_ray.data import open_data


def test_they_are_images_of_the_first_classes() -> None:
    """Catches images with the label of another class, and a test on classes that a network does not have."""
    digits = open_data(DataConfig(source="digits", image_size=8))
    few = FewImages(digits, 3, 5, 20)
    assert [len(few.train_indices(label)) for label in range(3)] == [5, 5, 5]
    assert few.facts().num_classes == 3
    assert len(few.labels["test"]) == 20
    assert set(few.labels["test"].tolist()) == {0, 1, 2}
    own = digits.read("train", digits.train_indices(2)[:5])
    assert (few.read("train", few.train_indices(2)) == own).all()
    assert few.read("test", np.arange(20)).shape == (20, 1, 8, 8)
