"""Images kept back for validation."""

import numpy as np
import pytest

from prism_ray.config import DataConfig
from prism_ray.data import RealImages, Split, open_data
from prism_ray.data.base import ArrayImages
from prism_ray.data.validation import KeptBack


def source(num_train: int = 50, num_classes: int = 3) -> ArrayImages:
    """Images that are their own number."""
    images = np.arange(num_train * num_classes, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), np.uint8)
    labels = np.arange(num_train * num_classes) % num_classes
    names = tuple(f"class {k}" for k in range(num_classes))
    both: dict[Split, np.ndarray] = {"train": images, "test": images[:6]}
    return ArrayImages("made up", names, both, {"train": labels, "test": labels[:6]}, 4)


def numbers(data: RealImages, split: Split) -> list[int]:
    read = data.read(split, np.arange(len(data.labels[split])))
    return [int(image[0, 0, 0]) for image in read]


def test_every_training_image_is_in_exactly_one_of_the_two_splits() -> None:
    """An image trained on and validated on, or lost to both; or labels that part from their images."""
    data = KeptBack(source(), 0.2)
    train, validation = numbers(data, "train"), numbers(data, "validation")
    assert sorted(train + validation) == list(range(150))
    for split, found in (("train", train), ("validation", validation)):
        assert [number % 3 for number in found] == data.labels[split].tolist()
    assert np.bincount(data.labels["validation"]).tolist() == [10, 10, 10]
    assert [data.item("validation", k) for k in range(30)] == [str(number) for number in validation]


def test_the_test_images_stay() -> None:
    """A validation split taken from the test images."""
    data = KeptBack(source(), 0.5)
    assert numbers(data, "test") == numbers(source(), "test")


def test_the_choice_is_the_same_for_all_runs() -> None:
    """Two seeds tuned on different images: what one chose, the other trained on."""
    assert numbers(KeptBack(source(), 0.2), "validation") == numbers(KeptBack(source(), 0.2), "validation")
    larger = set(numbers(KeptBack(source(), 0.4), "validation"))
    assert set(numbers(KeptBack(source(), 0.2), "validation")) <= larger


def test_a_class_of_one_image_keeps_it() -> None:
    """A class that nobody is trained on."""
    data = KeptBack(source(num_train=1), 0.9)
    assert data.facts().train_counts == (1, 1, 1)
    assert len(data.labels["validation"]) == 0


@pytest.mark.parametrize("fraction", [0.0, 0.1])
def test_the_config_keeps_images_back(fraction: float) -> None:
    """A fraction that changes nothing; or facts that count the images kept back as training images."""
    config = DataConfig(source="digits", image_size=8, validation_fraction=fraction)
    data = open_data(config)
    whole = open_data(DataConfig(source="digits", image_size=8))
    num_kept = len(data.labels.get("validation", ()))
    assert (num_kept > 0) == (fraction > 0)
    assert sum(data.facts().train_counts) == sum(whole.facts().train_counts) - num_kept
    assert data.identity() == whole.identity()
