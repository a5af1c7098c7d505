"""Finding the BatchNorm layers of many families of networks, and that they run on what recover matches."""

import warnings
from pathlib import Path

import pytest
import timm.layers
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.ops import FrozenBatchNorm2d

from prism_ray.config import NetworkConfig
from prism_ray.teachers.batchnorm import find_batchnorm, running_statistics
from prism_ray.teachers.build import build_network, build_without_memory

# The smallest member, or nearly, of each family with BatchNorm, and the size of its images if it matters.
LIST = (Path(__file__).parents[2] / "benchmarks" / "families.txt").read_text().splitlines()
FAMILIES = [line.split()[0] for line in LIST]
SIZES = {arch: int(size) for arch, size in map(str.split, filter(lambda line: " " in line, LIST))}
WITHOUT = ("timm:nf_regnet_b0",)


class _Count(TorchDispatchMode):
    """Counts the kernels of BatchNorm that run with running statistics: what the network really does."""

    def __init__(self) -> None:
        super().__init__()
        self.num_calls = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.num_calls += "batch_norm" in str(func) and args[3] is not None
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("arch", FAMILIES)
def test_every_layer_found_runs_and_no_other(arch: str) -> None:
    """Would catch layers overlooked (fused, of vectors), found but never run, or not (N, C, ...)."""
    network = build_without_memory(NetworkConfig(arch=arch), 10, "key").eval()
    layers = find_batchnorm(network)
    inputs: dict[int, Tensor] = {}

    def note(layer: nn.Module, values: tuple[Tensor, ...]) -> None:
        inputs[id(layer)] = values[0]

    for layer in layers:
        layer.register_forward_pre_hook(note)
    size = SIZES.get(arch, 96)
    device = next(network.parameters()).device
    with _Count() as count, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network(torch.zeros(2, 3, size, size, device=device))
    assert bool(layers) == (arch not in WITHOUT)
    assert len(inputs) == len(layers)
    assert count.num_calls == len(layers)
    for layer in layers:
        value = inputs[id(layer)]
        mean, var = running_statistics(layer)
        assert value.dim() in (2, 3, 4)
        assert value.shape[1:2] == mean.shape == var.shape


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.BatchNorm1d(4), (2, 4)),
        (nn.BatchNorm2d(4), (2, 4, 3, 3)),
        (nn.BatchNorm3d(4), (2, 4, 3, 3, 3)),
        (nn.SyncBatchNorm(4), (2, 4, 3, 3)),
        (FrozenBatchNorm2d(4), (2, 4, 3, 3)),
        (timm.layers.BatchNormAct2d(4), (2, 4, 3, 3)),
        (timm.layers.FrozenBatchNormAct2d(4), (2, 4, 3, 3)),
    ],
)
def test_every_kind_of_layer_counts(layer: nn.Module, shape: tuple[int, ...]) -> None:
    """Would catch a teacher with frozen layers, or layers of vectors, being refused for having none."""
    assert find_batchnorm(nn.Sequential(nn.Identity(), layer)) == [layer]
    mean, var = running_statistics(layer)
    assert mean.shape == var.shape == (4,)
    layer.eval()(torch.rand(shape))


def test_freezing_a_network_keeps_its_layers() -> None:
    """Would catch timm's frozen networks losing their statistics on the way."""
    network = build_network(NetworkConfig(arch="timm:test_efficientnet"), 10, "key")
    usual = find_batchnorm(network)
    frozen = find_batchnorm(timm.layers.freeze_batch_norm_2d(network))
    assert len(frozen) == len(usual) > 0
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in frozen)


def test_layers_without_running_statistics_do_not_count() -> None:
    """Would catch a teacher whose normalisation has nothing to match being taken for a BN teacher."""
    network = nn.Sequential(
        nn.Conv2d(3, 4, 1),
        nn.BatchNorm2d(4, track_running_stats=False),
        nn.GroupNorm(2, 4),
        nn.InstanceNorm2d(4, track_running_stats=True),
        nn.LayerNorm(4),
        timm.layers.EvoNorm2dB0(4),  # keeps a running variance alone
        timm.layers.GroupNormAct(4, 2),
    )
    assert find_batchnorm(network) == []
