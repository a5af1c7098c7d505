"""The digits of scikit-learn: 1,797 images (8x8, 17 grey levels), split into train and test."""

import numpy as np
from sklearn.datasets import load_digits

from prism_ray.config import DataConfig
from prism_ray.data.base import ArrayImages, held_out


def open_digits(config: DataConfig) -> ArrayImages:
    """Return the digits. `config.test_fraction` of each class are test images."""
    bunch = load_digits()
    images = np.round(bunch.images * (255.0 / 16.0)).astype(np.uint8)
    labels = bunch.target.astype(np.int64)
    class_names = tuple(str(label) for label in range(10))
    is_test = np.zeros(len(labels), dtype=np.bool_)
    for label, name in enumerate(class_names):
        indices = np.flatnonzero(labels == label)
        is_test[indices] = held_out("digits", name, [*map(str, indices)], config.test_fraction)
    return ArrayImages(
        "digits",
        class_names,
        {"train": images[~is_test], "test": images[is_test]},
        {"train": labels[~is_test], "test": labels[is_test]},
        config.image_size,
    )
