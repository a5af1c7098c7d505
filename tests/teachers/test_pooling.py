"""Adaptive pooling as matrix products: the same values and gradients as torch's."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from prism_ray.config import NetworkConfig
from prism_ray.teachers.build import build_network, build_without_memory
from prism_ray.teachers.pooling import MatrixAdaptiveAvgPool2d, adaptive_average


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (7, 7), (10, 5), (14, 14), (8, 9)])
@pytest.mark.parametrize("size", [(7, 7), (6, 6), (1, 1), (None, 3), (3, None)])
def test_values_and_gradients_are_torchs(shape: tuple[int, int], size: tuple[int | None, int | None]) -> None:
    """Would catch windows that are off by one, where a map is enlarged or does not divide."""
    x = torch.rand(2, 3, *shape, dtype=torch.float64, requires_grad=True)
    expected = F.adaptive_avg_pool2d(x, size)
    ours = adaptive_average(x, size)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-13)
    weight = torch.rand(ours.shape, dtype=torch.float64)
    (theirs_grad,) = torch.autograd.grad((expected * weight).sum(), x)
    (ours_grad,) = torch.autograd.grad((ours * weight).sum(), x)
    torch.testing.assert_close(ours_grad, theirs_grad, rtol=0, atol=1e-13)


def poolings_that_run(network: nn.Module, size: int) -> set[str]:
    """Return the kernels of adaptive pooling that a step through the network calls."""
    from torch.utils._python_dispatch import TorchDispatchMode

    seen: set[str] = set()

    class Note(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            if "adaptive" in str(func):
                seen.add(str(func))
            return func(*args, **(kwargs or {}))

    with Note():
        x = torch.rand(1, 3, size, size, requires_grad=True, device=next(network.parameters()).device)
        network(x).sum().backward()
    return seen


@pytest.mark.parametrize(
    "arch",
    [
        "torchvision:vgg11_bn",
        "torchvision:alexnet",
        "timm:vgg11_bn",
        "timm:resnet18",
        "torchvision:mobilenet_v2",
    ],
)
def test_no_network_calls_the_kernel_without_a_deterministic_gradient(arch: str) -> None:
    """Would catch a VGG that fails on the first CUDA step of a run, after its teachers were trained."""
    network = build_without_memory(NetworkConfig(arch=arch), 3, "key").eval()
    assert poolings_that_run(network, 64) == set()


def test_a_networks_answers_stay() -> None:
    """Would catch a replacement that changes names of parameters or what the network computes."""
    from torchvision.models import vgg11_bn

    torch.manual_seed(0)
    usual = vgg11_bn(num_classes=3).eval()
    ours = build_network(NetworkConfig(arch="torchvision:vgg11_bn"), 3, "key").eval()
    ours.load_state_dict(usual.state_dict())
    assert isinstance(ours.avgpool, MatrixAdaptiveAvgPool2d)
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), usual(x), rtol=0, atol=1e-5)
    assert "adaptive" in str(poolings_that_run(usual, 64))


def test_timms_vgg_stays_what_it_is() -> None:
    """Would catch the map of a small image being enlarged in another way than timm enlarges it."""
    import timm

    torch.manual_seed(0)
    usual = timm.create_model("vgg11_bn", num_classes=3).eval()
    ours = build_network(NetworkConfig(arch="timm:vgg11_bn"), 3, "key").eval()
    ours.load_state_dict(usual.state_dict())
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), usual(x), rtol=0, atol=1e-5)
