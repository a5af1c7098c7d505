"""What the tests of collect share: digits, a tiny uneven set, and networks with random weights."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from prism_ray.config import DataConfig, NetworkConfig
from prism_ray.data import RealImages, open_data
from prism_ray.data.base import ArrayImages
from prism_ray.data.folder import FolderImages
from prism_ray.teachers.build import build_network
from prism_ray.teachers.teacher import Preprocessing, Teacher, freeze

MEAN, STD = (0.2, 0.5, 0.3), (0.4, 0.3, 0.5)


@pytest.fixture
def float64() -> Iterator[None]:
    """Reckon in double precision, so that two ways to the same number agree to its last digits."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="session")
def digits() -> RealImages:
    return open_data(DataConfig(source="digits", image_size=32))


@pytest.fixture
def uneven() -> RealImages:
    """Three classes of 5, 2 and 9 grey training images of 12x12, the classes interleaved."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat([0, 1, 2], [5, 2, 9]))
    pixels = rng.integers(0, 256, (16, 12, 12), dtype=np.uint8)
    return ArrayImages("noise", ("ant", "bee", "cat"), {"train": pixels}, {"train": labels}, 12)


@pytest.fixture
def pictures(tmp_path: Path) -> RealImages:
    """Two classes of six coloured pictures, tall, wide, small and large, seen as squares of 12x12."""
    rng = np.random.default_rng(0)
    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
        for number, shape in enumerate([(40, 50), (50, 40), (9, 90), (90, 9), (7, 8), (100, 130)]):
            pixels = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    return open_data(DataConfig(source="image-folder", path=str(tmp_path), image_size=12, test_fraction=0.01))


@pytest.fixture
def original_of() -> Callable[[RealImages, int], Image.Image]:
    """Opens the original picture of a training image."""

    def find(data: RealImages, index: int) -> Image.Image:
        assert isinstance(data, FolderImages)
        with Image.open(data._roots["train"] / data.item("train", index)) as image:
            return image.copy()

    return find


@pytest.fixture
def teacher_of() -> Callable[..., Teacher]:
    """Makes a frozen teacher of a network, in the dtype of the moment."""

    def make(network: nn.Module, size: int = 12) -> Teacher:
        network = network.to(torch.get_default_dtype())
        return Teacher("tiny", freeze(network, torch.device("cpu")), Preprocessing(MEAN, STD, size))

    return make


@pytest.fixture
def resnet(teacher_of: Callable[..., Teacher]) -> Teacher:
    """timm's test_resnet for digits."""
    torch.manual_seed(0)
    return teacher_of(build_network(NetworkConfig(arch="timm:test_resnet"), 10, "teacher"), 32)


@pytest.fixture
def tiny(teacher_of: Callable[..., Teacher]) -> Callable[[int], Teacher]:
    """Makes a teacher of three classes that sees images of the given size."""

    def make(size: int = 12) -> Teacher:
        torch.manual_seed(1)
        network = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 6, 3, stride=2, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(24, 3),
        )
        with torch.no_grad():
            network[-1].weight.mul_(10.0)  # opinions that differ from image to image
        return teacher_of(network, size)

    return make
