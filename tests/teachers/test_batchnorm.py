"""Finding the BatchNorm layers of many families of networks."""

import pytest
import torch
from torch import Tensor, nn

from prism_ray.config import NetworkConfig
from prism_ray.teachers.batchnorm import find_batchnorm
from prism_ray.teachers.build import build_network

FAMILIES = {
    "timm:resnet18": 20,
    "torchvision:resnet18": 20,
    "torchvision:mobilenet_v2": 52,
    "torchvision:densenet121": 121,
    "timm:efficientnet_b0": 49,
    "timm:regnetx_002": 44,
    "torchvision:shufflenet_v2_x0_5": 56,
    "torchvision:vgg11_bn": 8,
}


@pytest.mark.parametrize("arch", FAMILIES)
def test_every_layer_of_a_family_is_found(arch: str) -> None:
    """Would catch families whose BatchNorm is a subclass (timm's fused layers) being overlooked."""
    with torch.device("meta"):
        network = build_network(NetworkConfig(arch=arch), 10, "key")
    found = find_batchnorm(network)
    counted = [m for m in network.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    assert len(found) == len(counted) == FAMILIES[arch]
    assert {id(layer) for layer in found} == {id(layer) for layer in counted}


@pytest.mark.parametrize(
    "arch", ["timm:efficientnet_b0", "torchvision:shufflenet_v2_x0_5", "timm:test_byobnet"]
)
def test_every_layer_found_runs_once(arch: str) -> None:
    """Would catch layers that are found but never run, so that their statistics are never matched."""
    network = build_network(NetworkConfig(arch=arch), 10, "key").eval()
    found = find_batchnorm(network)
    ran: list[int] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        ran.append(id(layer))

    for layer in found:
        layer.register_forward_pre_hook(note)
    with torch.no_grad():
        network(torch.zeros(1, 3, 32, 32))
    assert sorted(ran) == sorted(id(layer) for layer in found)


def test_layers_without_running_statistics_do_not_count() -> None:
    """Would catch a teacher whose BatchNorm has nothing to match being taken for a BN teacher."""
    network = nn.Sequential(
        nn.Conv2d(3, 4, 1),
        nn.BatchNorm2d(4, track_running_stats=False),
        nn.GroupNorm(2, 4),
        nn.InstanceNorm2d(4, track_running_stats=True),
        nn.LayerNorm(4),
    )
    assert find_batchnorm(network) == []


def test_layers_of_vectors_count() -> None:
    """Would catch BatchNorm1d in a network's head being left out of the sum."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(3, 4), nn.BatchNorm1d(4))
    assert find_batchnorm(network) == [network[2]]
