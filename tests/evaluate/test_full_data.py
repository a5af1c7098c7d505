"""The full data: read batch by batch, students see the same as from memory."""

import numpy as np
import pytest
import torch

from prism_ray.config import DataConfig, EvaluateConfig, RelabelConfig
from prism_ray.data import open_data
from prism_ray.evaluate.full_data import FullData, full_data
from prism_ray.evaluate.student import train_student
from prism_ray.parts.images import StoredImages
from prism_ray.parts.labels import EpochLabels
from prism_ray.parts.views import draw_views
from prism_ray.teachers.teacher import Preprocessing

SIZE = 8
CPU = torch.device("cpu")


@pytest.mark.parametrize("rand_augment", [False, True])
def test_images_that_are_read_give_the_student_of_those_in_memory(rand_augment: bool) -> None:
    """Catches a lazy reader with other images, another order, or RandAugment on the wrong ones."""
    data = open_data(DataConfig(source="digits", image_size=SIZE), None)
    student = EvaluateConfig.model_validate(
        {
            "student": {
                "arch": "timm:resnet18",
                "kwargs": {"channels": [4, 4, 4, 4], "layers": [1, 1, 1, 1]},
            },
            "labels": "hard",
            "train_on": "full-data",
            "batch_size": 200,
        }
    )
    relabel = RelabelConfig(epochs=1, rand_augment=rand_augment)
    results = []
    for max_bytes, kind in ((2**30, StoredImages), (0, FullData)):
        images = full_data(data, SIZE, CPU, max_bytes)
        assert isinstance(images, kind)
        assert len(images.slots) == len(data.labels["train"]) == len(set(images.slots))

        def read_epoch(epoch: int, slots: tuple = images.slots) -> EpochLabels:  # type: ignore[type-arg]
            views = draw_views(slots, epoch, 3, relabel, SIZE)
            return EpochLabels(epoch, views, np.zeros((len(views), 0), np.float16))

        torch.manual_seed(0)
        preprocessing = Preprocessing((0.5,) * 3, (0.5,) * 3, SIZE)
        results.append(train_student(images, read_epoch, 1, student, data, preprocessing, 1, CPU))
    assert results[0] == results[1]


def test_an_image_has_the_class_of_its_slot() -> None:
    """Catches labels that are shifted against the images."""
    data = open_data(DataConfig(source="digits", image_size=SIZE), None)
    images = full_data(data, SIZE, CPU)
    assert isinstance(images, StoredImages)
    third = next(i for i, slot in enumerate(images.slots) if (slot.label, slot.ipc_index) == (7, 2))
    expected = data.read("train", data.train_indices(7)[2:3])
    np.testing.assert_array_equal(images.images[third], expected[0])
