"""A teacher's preprocessing and its freezing."""

import pytest
import torch
from torch import nn
from torchvision.transforms.v2 import functional as TF

from prism_ray.teachers.teacher import Preprocessing, Teacher, freeze, to_pixels

MEAN, STD = (0.4, 0.5, 0.1), (0.2, 0.3, 0.7)


@pytest.mark.parametrize("size", [16, 24, 9])
@pytest.mark.parametrize("channels", [1, 3])
def test_preprocessing_is_torchvisions(size: int, channels: int) -> None:
    """Would catch channels that are mixed up, grey images that fail, or a resize after the normalisation."""
    pixels = torch.rand(2, channels, 16, 16, generator=torch.Generator().manual_seed(0))
    resized = TF.resize(pixels, [size, size], antialias=True).expand(-1, 3, -1, -1)
    expected = TF.normalize(resized, list(MEAN), list(STD))
    torch.testing.assert_close(Preprocessing(MEAN, STD, size).apply(pixels), expected, rtol=0, atol=1e-5)


def test_pixels_are_shares_of_255() -> None:
    """Would catch a division by 256, or white that is not 1."""
    assert torch.equal(to_pixels(torch.tensor([0, 51, 255], dtype=torch.uint8)), torch.tensor([0, 0.2, 1]))


def test_weights_of_other_ranks_stay_as_they_are() -> None:
    """Would catch a network with a convolution over volumes that no stage can take."""
    volumes, areas = nn.Conv3d(1, 2, 3), nn.Conv2d(3, 4, 3)
    freeze(nn.Sequential(volumes, areas), torch.device("cpu"))
    assert areas.weight.is_contiguous(memory_format=torch.channels_last)
    assert volumes.weight.is_contiguous()


def test_frozen_networks_stay_as_they_are() -> None:
    """Would catch running statistics that drift with the synthetic images, or gradients that cost memory."""
    network = freeze(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)), torch.device("cpu")
    )
    before = {name: value.clone() for name, value in network.state_dict().items()}
    x = torch.rand(2, 3, 8, 8, requires_grad=True)
    network(x).sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert x.grad is not None


def test_classes_are_picked_out_of_a_networks_outputs() -> None:
    """Would catch labels that mean another class to the network, or picked classes in another order."""
    preprocessing = Preprocessing(MEAN, STD, 8)
    teacher = Teacher("x", nn.Identity(), preprocessing, torch.tensor([7, 2, 5]))
    logits = torch.rand(4, 9)
    assert torch.equal(teacher.pick_classes(logits), logits[:, [7, 2, 5]])
    assert teacher.output_labels(torch.tensor([2, 0, 0])).tolist() == [5, 7, 7]
    same = Teacher("y", nn.Identity(), preprocessing)
    assert same.pick_classes(logits) is logits
    assert same.output_labels(torch.tensor([2, 0])).tolist() == [2, 0]


def test_the_constants_are_made_once() -> None:
    """A copy from the host in every step, for which the step waits until the device is idle."""
    pixels = torch.zeros(1, 3, 4, 4)
    first, again = (Preprocessing(MEAN, STD, 4).mean_std(pixels) for _ in range(2))
    assert all(a is b for a, b in zip(first, again, strict=True))
    assert first[0].shape == (3, 1, 1)
    assert Preprocessing(MEAN, STD, 4).mean_std(pixels.double())[1].dtype == torch.float64
