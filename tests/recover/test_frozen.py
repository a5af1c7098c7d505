"""Passes of frozen networks that keep less: the same bytes, and fewer tensors until the backward pass."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext

import pytest
import timm
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import Conv2dSame, StdConv2d
from torch import Tensor, nn

import prism_ray.recover.frozen as frozen_module
from prism_ray.recover.frozen import lean

Build = Callable[[], nn.Module]
LAYERS: dict[str, Build] = {
    "plain": lambda: nn.Conv2d(6, 4, 3),
    "with stride": lambda: nn.Conv2d(6, 4, 3, stride=2, padding=(1, 0), bias=False),
    "dilated": lambda: nn.Conv2d(6, 4, 3, dilation=2, padding=2),
    "of each channel": lambda: nn.Conv2d(6, 6, 3, groups=6),
    "grouped": lambda: nn.Conv2d(6, 4, 1, groups=2),
    "standardised": lambda: StdConv2d(6, 4, 3),
    "padded by timm": lambda: Conv2dSame(6, 4, 3, stride=2),
    "padded by a word": lambda: nn.Conv2d(6, 4, 3, padding="same"),
    "padded in a circle": lambda: nn.Conv2d(6, 4, 3, padding=1, padding_mode="circular"),
    "ReLU6": lambda: nn.Sequential(nn.BatchNorm2d(6), nn.ReLU6(inplace=True)),
    "hardtanh": lambda: nn.Sequential(nn.BatchNorm2d(6), nn.Hardtanh(-0.5, 0.5, inplace=True)),
    "ReLU6 elsewhere": lambda: nn.Sequential(nn.BatchNorm2d(6), nn.ReLU6()),
    "ReLU6 of a view": lambda: nn.Sequential(nn.BatchNorm2d(6), nn.ChannelShuffle(2), nn.ReLU6(inplace=True)),
    "chain": lambda: nn.Sequential(nn.Conv2d(6, 4, 1), nn.ReLU6(inplace=True), nn.Conv2d(4, 2, 3)),
}
NETWORKS: dict[str, Build] = {
    "mobilenet": lambda: torchvision.models.mobilenet_v2(num_classes=3),
    "shufflenet": lambda: torchvision.models.shufflenet_v2_x0_5(num_classes=3),
    "efficientnet": lambda: timm.create_model("test_efficientnet", num_classes=3),
    "byobnet": lambda: timm.create_model("test_byobnet", num_classes=3),
}


@pytest.fixture(scope="module", autouse=True)
def _every_size() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frozen_module, "MIN_VALUES", 0)
        yield


def frozen(build: Build) -> nn.Module:
    torch.manual_seed(0)
    return build().eval().requires_grad_(False)


def passed(network: nn.Module, x: Tensor, is_lean: bool) -> tuple[Tensor, Tensor]:
    """Return the output and the gradient of x."""
    x = x.detach().requires_grad_(True)
    with lean([network]) if is_lean else nullcontext():
        y = network(x * 1.0)
        y.square().sum().backward()
    assert x.grad is not None
    return y.detach(), x.grad


@pytest.mark.parametrize("kind", LAYERS)
@settings(deadline=None, max_examples=8)
@given(images=st.integers(1, 4), size=st.integers(5, 12), last=st.booleans(), narrow=st.booleans())
def test_layers_give_the_same_bytes(kind: str, images: int, size: int, last: bool, narrow: bool) -> None:
    """Catches another kernel for the gradient because of a layout or a type that was lost."""
    layer = frozen(LAYERS[kind])
    x = torch.randn(images, 6, size, size, generator=torch.Generator().manual_seed(1))
    x = x.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
        found, expected = passed(layer, x, True), passed(layer, x, False)
    for ours, plain in zip(found, expected, strict=True):
        assert ours.dtype == plain.dtype
        assert torch.equal(ours, plain)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_give_the_same_bytes(name: str) -> None:
    """Catches a module whose input is changed later, and an override that stays behind."""
    network = frozen(NETWORKS[name])
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    found, expected = passed(network, x, True), passed(network, x, False)
    assert all(torch.equal(ours, plain) for ours, plain in zip(found, expected, strict=True))
    assert not [module for module in network.modules() if "forward" in vars(module)]


def kept_bytes(network: nn.Module, x: Tensor, is_lean: bool) -> int:
    """Return the bytes of activations that a forward pass keeps for its gradient."""
    own = {id(tensor) for tensor in (*network.parameters(), *network.buffers())}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        if id(tensor) not in own:
            kept[tensor.data_ptr()] = tensor  # which keeps its memory from being used again
        return tensor

    x = x.detach().requires_grad_(True)
    with (
        lean([network]) if is_lean else nullcontext(),
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
    ):
        network(x * 1.0)
    return sum(tensor.nbytes for tensor in kept.values())


@pytest.mark.parametrize(("name", "share"), [("mobilenet", 0.75), ("efficientnet", 0.8)])
def test_less_is_kept(name: str, share: float) -> None:
    """Catches networks whose layers silently take the way of torch."""
    network, x = frozen(NETWORKS[name]), torch.randn(2, 3, 64, 64)
    assert kept_bytes(network, x, True) < share * kept_bytes(network, x, False)


def test_weights_that_are_trained_get_their_gradient() -> None:
    """Catches a network in which not all is frozen."""
    layer = nn.Conv2d(6, 4, 3)
    with lean([layer]):
        layer(torch.randn(2, 6, 5, 5).requires_grad_(True)).sum().backward()
    assert layer.weight.grad is not None


def test_without_a_gradient_nothing_is_taken() -> None:
    """Catches a pass under no_grad, and pixels without a gradient, that fail."""
    network = frozen(lambda: nn.Sequential(nn.Conv2d(6, 4, 3), nn.ReLU6(inplace=True)))
    x = torch.randn(2, 6, 5, 5)
    with lean([network]):
        plain = network(x)
        with torch.no_grad():
            assert torch.equal(network(x.requires_grad_(True)), plain)
