"""What the tests of relabel share: one thread, stored images and a small ensemble."""

import numpy as np
import pytest
import torch
from torch import nn

from prism_ray.parts.images import StoredImages
from prism_ray.stages.formation import Slot
from prism_ray.teachers.teacher import Preprocessing, Teacher, freeze


@pytest.fixture
def stored() -> StoredImages:
    """Forty colour images of 16x16: ten classes, four IPC indices."""
    slots = tuple(Slot(label, ipc_index) for ipc_index in range(4) for label in range(10))
    pixels = np.random.default_rng(0).integers(0, 256, (len(slots), 3, 16, 16), dtype=np.uint8)
    return StoredImages(slots, pixels)


@pytest.fixture
def ensemble() -> list[Teacher]:
    """Two teachers of different preprocessing, one of which shouts."""
    torch.manual_seed(0)
    teachers = []
    for name, size, loudness in (("quiet", 16, 1.0), ("loud", 12, 50.0)):
        network = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10)
        )
        network(torch.zeros(2, 3, size, size))  # fixes the shape of the last layer
        with torch.no_grad():
            network[-1].weight.mul_(loudness)
        preprocessing = Preprocessing((0.5, 0.4, 0.3), (0.2, 0.3, 0.4), size)
        teachers.append(Teacher(name, freeze(network, torch.device("cpu")), preprocessing))
    return teachers
