"""Intra-class cosine similarity of penultimate features, and what a verifier makes of the images."""

import math

import numpy as np
import numpy.typing as npt
import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from prism_ray.errors import EngineError
from prism_ray.evaluate.diversity import intra_class_cosine, penultimate_features, verify_images
from prism_ray.teachers.teacher import Preprocessing, Teacher, freeze, to_pixels

CPU = torch.device("cpu")


def teacher_of(network: nn.Module, size: int = 32) -> Teacher:
    preprocessing = Preprocessing((0.5, 0.4, 0.3), (0.2, 0.3, 0.4), size)
    return Teacher("judge", freeze(network, CPU), preprocessing)


def pictures(count: int, channels: int = 3, size: int = 32) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, channels, size, size), dtype=np.uint8)


def seen(teacher: Teacher, images: npt.NDArray[np.uint8]) -> Tensor:
    return teacher.preprocessing.apply(to_pixels(torch.from_numpy(images)))


# Features


@pytest.mark.parametrize("channels", [1, 3])
def test_features_are_timms(channels: int) -> None:
    """Would catch logits, feature maps or unprepared pixels taken for features."""
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=10)
    teacher = teacher_of(network)
    images = pictures(5, channels)
    features = penultimate_features(teacher, images, CPU)
    with torch.no_grad():
        expected = network.forward_head(network.forward_features(seen(teacher, images)), pre_logits=True)
    torch.testing.assert_close(features, expected)
    assert not features.requires_grad


def test_a_convolution_may_be_the_classifier() -> None:
    """Would catch SqueezeNet without features, or with those of an earlier 1x1 convolution."""
    torch.manual_seed(0)
    network = torchvision.models.squeezenet1_1(weights=None, num_classes=7)
    teacher = teacher_of(network, size=64)
    images = pictures(3, size=64)
    with torch.no_grad():
        expected = network.features(seen(teacher, images)).flatten(1)  # dropout is off
    torch.testing.assert_close(penultimate_features(teacher, images, CPU), expected)


class Gated(nn.Module):
    """A gate of linear layers first, a 1x1 convolution last, and a linear layer that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(5, 5)
        self.classifier = nn.Conv2d(3, 4, 1)
        self.gate = nn.Linear(3, 3)
        self.also_unused = nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate(x.mean(dim=(2, 3))).sigmoid()[:, :, None, None]
        return self.classifier((gate * x).mean(dim=(2, 3), keepdim=True)).flatten(1)


def test_what_runs_last_is_the_classifier() -> None:
    """Would catch the order of registration, a layer that never runs, or the gate's input."""
    network = Gated()
    teacher = teacher_of(network)
    images = pictures(4)
    x = seen(teacher, images)
    gate = network.gate(x.mean(dim=(2, 3))).sigmoid()
    expected = gate * x.mean(dim=(2, 3))
    torch.testing.assert_close(penultimate_features(teacher, images, CPU), expected.detach())


def test_features_of_many_images_are_in_order() -> None:
    """Would catch batches mixed up, or only the last one kept."""
    teacher = teacher_of(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)), size=4)
    images = pictures(600, size=4)
    expected = seen(teacher, images).mean(dim=(2, 3))
    torch.testing.assert_close(penultimate_features(teacher, images, CPU), expected)


def test_no_hook_is_left_behind() -> None:
    """Would catch a cached teacher that gets slower with each set, and holds the last images in memory."""
    teacher = teacher_of(nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), size=4)
    penultimate_features(teacher, pictures(2, size=4), CPU)
    assert not any(module._forward_pre_hooks for module in teacher.network.modules())
    with pytest.raises(RuntimeError):
        penultimate_features(teacher, pictures(2, channels=2, size=4), CPU)
    assert not any(module._forward_pre_hooks for module in teacher.network.modules())


def test_a_network_without_a_classifier_is_an_error() -> None:
    """Would catch an IndexError in the middle of a report."""
    teacher = teacher_of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    with pytest.raises(EngineError, match=r"judge.*analyze\.feature_teacher"):
        penultimate_features(teacher, pictures(2), CPU)


# Cosines


def test_cosines_by_hand() -> None:
    """Would catch lengths that matter, pairs with oneself, or pairs of different classes."""
    features = torch.tensor([[2.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [1.0, 0.0], [5.0, 5.0], [4.0, 0.0]])
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    result = intra_class_cosine(features, labels)
    # Class 0: 0, sqrt(1/2), sqrt(1/2). Class 1: -1, -1, 1.
    first, second = math.sqrt(2) / 3, -1 / 3
    assert result.per_class == pytest.approx((first, second), rel=1e-7)
    assert result.mean == pytest.approx((first + second) / 2, rel=1e-7)
    variances = (1 / 3 - first**2, 1 - second**2)  # mean of the squares less the mean's square
    assert result.variance == pytest.approx(sum(variances) / 2, rel=1e-7)
    assert result.variance_per_class == pytest.approx(variances, rel=1e-7)


def test_cosines_by_a_slow_double_loop() -> None:
    """Would catch pairs counted twice or left out, or classes weighted by their sizes."""
    rng = np.random.default_rng(3)
    labels = np.array([0] * 5 + [1] * 2 + [2] * 9)
    rng.shuffle(labels)
    features = rng.normal(size=(16, 6)) + 1.0
    means, variances = [], []
    for label in range(3):
        own = [row for row, k in zip(features, labels, strict=True) if k == label]
        pairs = []
        for i in range(len(own)):
            for j in range(i + 1, len(own)):
                dot = sum(a * b for a, b in zip(own[i], own[j], strict=True))
                pairs.append(dot / math.sqrt(sum(a * a for a in own[i]) * sum(b * b for b in own[j])))
        means.append(sum(pairs) / len(pairs))
        variances.append(sum((pair - means[-1]) ** 2 for pair in pairs) / len(pairs))
    result = intra_class_cosine(torch.from_numpy(features), torch.from_numpy(labels))
    assert result.per_class == pytest.approx(tuple(means), rel=1e-12)
    assert result.mean == pytest.approx(sum(means) / 3, rel=1e-12)
    assert result.variance == pytest.approx(sum(variances) / 3, rel=1e-12)


def test_single_images_have_no_similarity() -> None:
    """Would catch NaN, a class of one image taken for a similarity of 0 or 1, or classes that move up."""
    features = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [3.0, 4.0]])
    result = intra_class_cosine(features, torch.tensor([3, 3, 0, 1]))
    assert result.per_class == (None, None, None, pytest.approx(1.0))
    assert result.variance_per_class == (None, None, None, pytest.approx(0.0))
    assert result.mean == pytest.approx(1.0)
    assert result.variance == pytest.approx(0.0)
    for labels in (torch.arange(4), torch.zeros(0, dtype=torch.int64)):
        none = intra_class_cosine(features[: len(labels)], labels)
        assert (none.mean, none.variance) == (None, None)
        assert none.per_class == (None,) * len(labels)


def test_dead_features_are_like_no_other() -> None:
    """Would catch NaN for an image whose features are all zero."""
    features = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    assert intra_class_cosine(features, torch.zeros(3, dtype=torch.int64)).mean == pytest.approx(1 / 3)


def test_alike_images_are_measured_in_float64() -> None:
    """Would catch a variance lost to rounding: collapsed classes differ in the sixth digit and beyond."""
    angles = np.array([0.0, 1e-4, 3e-4])
    features = torch.from_numpy(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    pairs = np.cos([1e-4, 3e-4, 2e-4])
    result = intra_class_cosine(features, torch.zeros(3, dtype=torch.int64))
    assert result.variance == pytest.approx(float(((pairs - pairs.mean()) ** 2).mean()), rel=1e-4)


# The verifier


def test_verifier_counts_what_it_classifies_right() -> None:
    """Would catch images without preprocessing, the last batch left out, or a share of batches."""
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())  # the brightest channel is the class
    teacher = teacher_of(network, size=4)
    images = pictures(600, size=4)
    brightness = images.mean(axis=(2, 3)) / 255
    classes = ((brightness - [0.5, 0.4, 0.3]) / [0.2, 0.3, 0.4]).argmax(axis=1)
    assert (classes != brightness.argmax(axis=1)).any()
    labels = classes.copy()
    labels[:150] = (labels[:150] + 1) % 3
    assert verify_images(teacher, images, torch.from_numpy(labels), CPU).share == 450 / 600
    assert verify_images(teacher, images, torch.from_numpy(classes), CPU).share == 1.0


def test_verifier_counts_class_by_class() -> None:
    """Would catch shares of other classes' images, and a class without images that moves the others up."""
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    images = np.zeros((5, 3, 4, 4), np.uint8)
    for image, channel in zip(images, (0, 0, 1, 2, 2), strict=True):
        image[channel] = 255
    labels = torch.tensor([0, 0, 0, 2, 2])
    teacher = teacher_of(network, size=4)
    assert verify_images(teacher, images, labels, CPU).per_class == (2 / 3, None, 1.0)
