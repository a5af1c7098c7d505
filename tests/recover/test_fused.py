"""BatchNorm with the statistics of its input: the same values and gradients as separate operations."""

from collections.abc import Callable

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import FrozenBatchNorm2d

from prism_ray.recover.fused import BatchNormCall, with_statistics
from prism_ray.teachers.batchnorm import find_batchnorm

pytestmark = pytest.mark.usefixtures("float64")

Build = Callable[[int], nn.Module]
IN_ONE: dict[str, Build] = {
    "plain": nn.BatchNorm2d,
    "without weight": lambda channels: nn.BatchNorm2d(channels, affine=False),
    "other eps": lambda channels: nn.BatchNorm2d(channels, eps=0.1),
    "with activation": BatchNormAct2d,
    "in place": lambda channels: nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True)),
}
APART: dict[str, Build] = {
    "trained": nn.BatchNorm2d,  # its weights need gradients
    "torchvision's frozen": FrozenBatchNorm2d,
    "training": nn.BatchNorm2d,
}


def drawn(build: Build, channels: int, seed: int = 0) -> nn.Module:
    """Return a layer with drawn statistics and weights, in evaluation mode."""
    random = torch.Generator().manual_seed(seed)
    layer = build(channels).double().eval().requires_grad_(False)
    for tensor in (*layer.parameters(), *layer.buffers()):
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=random) + 0.5)
    return layer


def gradients(outputs: tuple[Tensor, ...], x: Tensor) -> Tensor:
    """Return the gradient of a sum with drawn weights."""
    random = torch.Generator().manual_seed(3)
    loss = torch.stack([(torch.randn(out.shape, generator=random) * out).sum() for out in outputs]).sum()
    (found,) = torch.autograd.grad(loss, x)
    return found


@pytest.mark.parametrize("kind", IN_ONE)
@settings(deadline=None, max_examples=15)
@given(
    images=st.integers(1, 5),
    channels=st.integers(1, 6),
    size=st.integers(1, 9),
    last=st.booleans(),
    used=st.sets(st.integers(0, 2), min_size=1),
)
def test_values_and_gradients_are_those_of_separate_operations(
    kind: str, images: int, channels: int, size: int, last: bool, used: set[int]
) -> None:
    """Catches a wrong coefficient, and a gradient that is lost if an output is not used."""
    layer = drawn(IN_ONE[kind], channels)
    x = torch.randn(images, channels, size, size, generator=torch.Generator().manual_seed(1))
    x = x.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    x.requires_grad_(True)
    var, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
    expected = (layer(x), mean, var)
    with BatchNormCall(find_batchnorm(layer)[0], x) as call:
        output = layer(x)
    assert call.found is not None
    found = (output, *call.found)
    for value, other in zip(found, expected, strict=True):
        torch.testing.assert_close(value, other, rtol=1e-12, atol=1e-12)
    chosen = gradients(tuple(found[n] for n in sorted(used)), x)
    torch.testing.assert_close(
        chosen, gradients(tuple(expected[n] for n in sorted(used)), x), rtol=1e-11, atol=1e-11
    )


@pytest.mark.parametrize("kind", APART)
def test_other_layers_are_left_alone(kind: str) -> None:
    """Catches statistics of a layer that computes in another way, and weights that lose their gradient."""
    layer = drawn(APART[kind], 4)
    if kind == "trained":
        layer.requires_grad_(True)
    if kind == "training":
        layer.train()
    x = torch.randn(3, 4, 5, 5)
    with BatchNormCall(layer, x) as call:
        layer(x)
    assert call.found is None


def test_a_call_with_other_features_is_not_taken() -> None:
    """Catches statistics of what a layer has made of its input."""

    class Twice(nn.BatchNorm2d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(2.0 * x)

    layer, x = drawn(Twice, 4), torch.randn(3, 4, 5, 5)
    with BatchNormCall(layer, x) as call:
        layer(x)
    assert call.found is None


@pytest.mark.parametrize("shape", [(6, 3), (5, 3, 4), (4, 3, 2, 2, 2)])
def test_features_of_any_rank(shape: tuple[int, ...]) -> None:
    """Catches coefficients that are spread over the wrong axis."""
    build = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 5: nn.BatchNorm3d}[len(shape)]
    layer, x = drawn(build, 3), torch.randn(shape).requires_grad_(True)
    dims = [dim for dim in range(len(shape)) if dim != 1]
    var, mean = torch.var_mean(x, dim=dims, correction=0)
    expected = (layer(x), mean, var)
    with BatchNormCall(layer, x) as call:
        output = layer(x)
    assert call.found is not None
    torch.testing.assert_close(gradients((output, *call.found), x), gradients(expected, x))


@pytest.mark.parametrize("used", [(0,), (1,), (2,), (0, 1, 2)])
def test_features_with_their_statistics(used: tuple[int, ...]) -> None:
    """Catches a convolution whose input gets only a part of its gradient."""
    x = torch.randn(3, 4, 5, 5).requires_grad_(True)
    var, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
    expected, found = (F.gelu(x), mean, var), with_statistics(x)
    found = (F.gelu(found[0]), *found[1:])
    ours, plain = (gradients(tuple(out[n] for n in used), x) for out in (found, expected))
    torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("arch", ["test_resnet", "test_byobnet", "test_coatnet", "test_efficientnet"])
def test_batchnorm_of_timm_is_taken(arch: str) -> None:
    """Catches a family that silently takes the slow way."""
    network = timm.create_model(arch, num_classes=3).eval().requires_grad_(False)
    layers = find_batchnorm(network)
    taken = []
    for layer in layers:
        with BatchNormCall(layer, x := torch.randn(2, len(layer.running_mean), 4, 4)) as call:
            layer(x)
        taken.append(call.found is not None)
    assert taken
    assert all(taken)
