"""The embedded digits: all of them, split once and for ever."""

from collections import Counter

import numpy as np
import pytest
from sklearn.datasets import load_digits

from prism_ray.config import DataConfig
from prism_ray.data import RealImages, open_data

# Of the split with test_fraction 0.2; a new value means that students were tested on other images before.
IDENTITY = "c72092f98582b6322baf4ef46613f3d17155c7dc1fa8f4c8d364f0bf5f09784d"
PER_CLASS = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


@pytest.fixture(scope="module")
def digits() -> RealImages:
    return open_data(DataConfig(source="digits", image_size=8))


def raw(data: RealImages) -> list[tuple[bytes, int]]:
    """Return every image of both splits with its label."""
    pairs: list[tuple[bytes, int]] = []
    for split in ("train", "test"):
        labels = data.labels[split]
        images = data.read(split, np.arange(len(labels)))
        pairs += [(image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)]
    return pairs


def test_every_digit_is_in_exactly_one_split(digits: RealImages) -> None:
    """Test images among the training images, or images lost by the split."""
    bunch = load_digits()
    scaled = np.round(bunch.images * 255 / 16).astype(np.uint8)
    expected = Counter(
        (image.tobytes(), int(label)) for image, label in zip(scaled, bunch.target, strict=True)
    )
    assert Counter(raw(digits)) == expected
    assert sum(expected.values()) == 1797


def test_the_split_is_pinned(digits: RealImages) -> None:
    """A change of the split makes accuracies incomparable, and old stores lie about their test images."""
    assert digits.identity() == IDENTITY
    assert digits.facts().identity == IDENTITY


def test_facts(digits: RealImages) -> None:
    """Wrong counts pass an IPC that the classes do not have."""
    facts = digits.facts()
    assert facts.class_names == tuple("0123456789")
    assert facts.channels == 1
    assert facts.train_counts == tuple(count - round(count * 0.2) for count in PER_CLASS)
    assert sum(facts.train_counts) + facts.num_test_images == 1797


@pytest.mark.parametrize("fraction", [0.001, 0.1, 0.5, 0.999])
def test_the_fraction_is_respected_in_every_class(fraction: float) -> None:
    """A share of the whole in place of each class: rare classes without a test image."""
    data = open_data(DataConfig(source="digits", image_size=8, test_fraction=fraction))
    counts = np.bincount(data.labels["test"], minlength=10).tolist()
    assert counts == [min(max(1, round(count * fraction)), count - 1) for count in PER_CLASS]


def test_another_fraction_is_another_identity(digits: RealImages) -> None:
    """A resumed run that trains on what it was tested on before."""
    other = open_data(DataConfig(source="digits", image_size=8, test_fraction=0.3))
    assert other.identity() != digits.identity()


def test_pixels_use_the_whole_range(digits: RealImages) -> None:
    """17 grey levels left as 0 to 16: nearly black images."""
    images = digits.read("train", np.arange(500))
    assert (images.min(), images.max()) == (0, 255)
    assert len(np.unique(images)) == 17


def test_images_are_enlarged_to_the_size_of_use(digits: RealImages) -> None:
    """Images of 8x8 in a run of 32x32, or enlarged images of something else."""
    large = open_data(DataConfig(source="digits", image_size=32))
    indices = np.asarray([3, 1000])
    images = large.read("train", indices)
    assert images.dtype == np.uint8
    assert images.shape == (2, 1, 32, 32)
    shrunk = images.reshape(2, 1, 8, 4, 8, 4).mean(axis=(3, 5))
    small = digits.read("train", indices).astype(float)
    assert np.corrcoef(shrunk.ravel(), small.ravel())[0, 1] > 0.95
    assert large.identity() == digits.identity()
