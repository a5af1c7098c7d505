"""Finding the BatchNorm layers of many families of networks, and that they run on what recover matches."""

import warnings

import pytest
import timm.layers
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.ops import FrozenBatchNorm2d

from prism_ray.config import NetworkConfig
from prism_ray.teachers.batchnorm import find_batchnorm, running_statistics
from prism_ray.teachers.build import build_network, build_without_memory

# The smallest member, or nearly, of each family with BatchNorm.
FAMILIES = [
    "torchvision:resnet18",
    "torchvision:resnext50_32x4d",
    "torchvision:mobilenet_v2",
    "torchvision:mobilenet_v3_small",
    "torchvision:efficientnet_b0",
    "torchvision:efficientnet_v2_s",
    "torchvision:shufflenet_v2_x0_5",
    "torchvision:densenet121",
    "torchvision:regnet_y_400mf",
    "torchvision:regnet_x_400mf",
    "torchvision:mnasnet0_5",
    "torchvision:vgg11_bn",
    "torchvision:inception_v3",
    "torchvision:googlenet",
    "timm:resnet18",
    "timm:resnet18d",
    "timm:resnet26t",
    "timm:seresnet18",
    "timm:wide_resnet50_2",
    "timm:resnext26ts",
    "timm:mobilenetv2_035",
    "timm:mobilenetv3_small_050",
    "timm:mobilenetv4_conv_small_035",
    "timm:efficientnet_b0",
    "timm:efficientnet_lite0",
    "timm:tf_efficientnet_lite0",
    "timm:tf_efficientnetv2_b0",
    "timm:mixnet_s",
    "timm:mnasnet_small",
    "timm:fbnetc_100",
    "timm:spnasnet_100",
    "timm:lcnet_035",
    "timm:tinynet_e",
    "timm:hardcorenas_a",
    "timm:rexnet_100",
    "timm:densenet121",
    "timm:regnetx_002",
    "timm:regnety_002",
    "timm:regnetz_b16",
    "timm:vgg11_bn",
    "timm:inception_v3",
    "timm:inception_v4",
    "timm:inception_resnet_v2",
    "timm:inception_next_atto",
    "timm:ghostnet_050",
    "timm:ghostnetv2_100",
    "timm:repvgg_a0",
    "timm:repghostnet_050",
    "timm:mobileone_s0",
    "timm:xception41",
    "timm:legacy_xception",
    "timm:hrnet_w18_small",
    "timm:dla34",
    "timm:dla46_c",
    "timm:cspresnet50",
    "timm:cspdarknet53",
    "timm:darknet53",
    "timm:res2net50_26w_4s",
    "timm:resnest14d",
    "timm:legacy_seresnet18",
    "timm:senet154",
    "timm:skresnet18",
    "timm:selecsls42",
    "timm:ese_vovnet19b_slim",
    "timm:hgnet_tiny",
    "timm:hgnetv2_b0",
    "timm:dpn48b",
    "timm:nf_regnet_b0",
    "timm:eca_resnext26ts",
    "timm:gernet_s",
    "timm:bat_resnext26ts",
    "timm:fastvit_t8",
    "timm:levit_128s",
    "timm:efficientformer_l1",
    "timm:tresnet_m",
    "timm:repvit_m0_9",
    "timm:convmixer_768_32",
    "timm:starnet_s1",
    "timm:pnasnet5large",
    "timm:nasnetalarge",
    "timm:gcresnet33ts",
    "timm:botnet26t_256",
    "timm:test_resnet",
    "timm:test_efficientnet",
    "timm:test_byobnet",
]
SIZES = {
    "timm:bat_resnext26ts": 256,
    "timm:botnet26t_256": 256,
    "timm:efficientformer_l1": 224,
    "timm:levit_128s": 224,
}
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
