"""What the tests of recover share: tiny BN teachers, and a way to see what was drawn."""

from collections.abc import Callable, Iterator

import pytest
import timm
import torch
from torch import nn
from torchvision.transforms.v2 import functional as TF

from prism_ray.recover.augment import Augmentation
from prism_ray.teachers.teacher import Preprocessing, Teacher

# The comparisons that stand beside the tests say what differs, as those of the tests themselves do.
pytest.register_assert_rewrite("tests.recover.objectives", "tests.recover.method_runs")

NUM_CLASSES = 5

BoxFlipRoll = tuple[int, int, int, int, bool, int, int]  # top, left, height, width, flip, down, right


@pytest.fixture
def float64() -> Iterator[None]:
    """Reckon in double precision, so that two ways to the same number agree to its last digits."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def _give_statistics(network: nn.Module, seed: int) -> nn.Module:
    """Set running statistics and affine parameters to known random values; freeze the network."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            fan_in = parameter[0].numel()
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * min(0.4, fan_in**-0.5))
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                assert layer.running_mean is not None
                assert layer.running_var is not None
                layer.running_mean.copy_(torch.randn(layer.num_features, generator=generator))
                layer.running_var.copy_(0.5 + 1.5 * torch.rand(layer.num_features, generator=generator))
                layer.weight.copy_(0.5 + torch.rand(layer.num_features, generator=generator))
    return network.eval().requires_grad_(False)


@pytest.fixture
def striding() -> Callable[[], Teacher]:
    """Makes a teacher of strided convolutions, in the dtype of the moment."""

    def make() -> Teacher:
        network = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 6, 3, stride=2, padding=1),
            nn.BatchNorm2d(6, eps=1e-3),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6, NUM_CLASSES),
        )
        preprocessing = Preprocessing((0.48, 0.45, 0.40), (0.23, 0.22, 0.27), 12)
        return Teacher("striding", _give_statistics(network, seed=1), preprocessing)

    return make


@pytest.fixture
def depthwise() -> Callable[[int], Teacher]:
    """Makes a teacher of another kind, with another preprocessing, for images of the given size."""

    def make(size: int) -> Teacher:
        network = nn.Sequential(
            nn.Conv2d(3, 5, 5, stride=2, padding=2),
            nn.BatchNorm2d(5),
            nn.ReLU(),
            nn.Conv2d(5, 5, 3, padding=1, groups=5, bias=False),
            nn.BatchNorm2d(5),
            nn.Conv2d(5, 7, 1),
            nn.BatchNorm2d(7),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(7, NUM_CLASSES),
        )
        preprocessing = Preprocessing((0.30, 0.60, 0.50), (0.50, 0.40, 0.30), size)
        return Teacher("depthwise", _give_statistics(network, seed=2), preprocessing)

    return make


@pytest.fixture
def efficient() -> Callable[[], Teacher]:
    """Makes a teacher of timm's: depthwise and strided convolutions, squeeze-and-excitation, 28 pixels."""

    def make() -> Teacher:
        network = timm.create_model("test_efficientnet", num_classes=NUM_CLASSES)
        preprocessing = Preprocessing((0.50, 0.45, 0.55), (0.25, 0.30, 0.20), 28)
        return Teacher("efficient", _give_statistics(network, seed=3), preprocessing)

    return make


@pytest.fixture
def see_augmentation() -> Callable[[Augmentation, int, int, int], BoxFlipRoll]:
    """Finds out which crop, flip and roll an iteration has, by trying all of them with torchvision.

    The row and the column part are told apart by images that vary along one axis only.
    """

    def see_axis(augment: Augmentation, iteration: int, size: int, jitter: int, axis: int) -> tuple[int, ...]:
        profile = torch.rand(size, generator=torch.Generator().manual_seed(9)).to(torch.get_default_dtype())
        image = (profile[:, None] if axis == 0 else profile[None, :]).expand(1, 1, size, size)
        seen = augment(image, iteration)[0, 0]
        seen = seen[:, 0] if axis == 0 else seen[0, :]
        for length in range(1, size + 1):
            for start in range(size - length + 1):
                box = (start, 0, length, size) if axis == 0 else (0, start, size, length)
                crop = TF.resized_crop(image, *box, [size, size], antialias=True)[0, 0]
                crop = crop[:, 0] if axis == 0 else crop[0, :]
                for flip in (False, True) if axis == 1 else (False,):
                    turned = crop.flip(0) if flip else crop
                    for shift in range(jitter + 1):
                        if torch.allclose(turned.roll(shift), seen, rtol=0, atol=1e-6):
                            return start, length, int(flip), shift
        raise AssertionError(f"no crop, flip and roll explains iteration {iteration} along axis {axis}")

    def see(augment: Augmentation, iteration: int, size: int, jitter: int) -> BoxFlipRoll:
        top, height, _, down = see_axis(augment, iteration, size, jitter, 0)
        left, width, flip, right = see_axis(augment, iteration, size, jitter, 1)
        return top, left, height, width, bool(flip), down, right

    return see
