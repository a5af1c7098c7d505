"""BatchNorm that becomes part of the convolution before it: the same logits in fewer passes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from prism_ray.config import NetworkConfig
from prism_ray.teachers.build import build_network
from prism_ray.teachers.folded import folded
from prism_ray.teachers.teacher import Preprocessing, Teacher, freeze

SIZE = 32


def teacher_of(network: nn.Module, dtype: torch.dtype = torch.float64) -> Teacher:
    """A frozen teacher whose statistics and affine maps are no identity."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor in (module.running_mean, module.weight, module.bias):
                    if tensor is not None:
                        tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.2 + 0.5)
                assert module.running_var is not None
                module.running_var.copy_(torch.rand(module.running_var.shape, generator=generator) + 0.5)
    preprocessing = Preprocessing((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), SIZE)
    return Teacher("t", freeze(network.to(dtype), torch.device("cpu")), preprocessing)


def images(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)).to(dtype)


class NormCalls(TorchFunctionMode):
    """Counts the calls of torch's batch_norm inside."""

    count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.batch_norm
        return func(*args, **(kwargs or {}))


def count_norms(teacher: Teacher) -> int:
    with NormCalls() as calls:
        teacher.network(images())
    return calls.count


@pytest.mark.parametrize(
    ("arch", "left"),
    [
        ("timm:test_resnet", 0),
        ("timm:test_efficientnet", 0),
        ("timm:test_byobnet", 0),
        ("torchvision:mobilenet_v2", 0),
        ("torchvision:resnet18", 0),
        ("torchvision:shufflenet_v2_x0_5", 0),
        ("timm:densenet121", None),  # most of its layers stand before their convolution
        ("timm:test_nfnet", None),  # scales its weights with batch_norm
        ("timm:resnetv2_50", None),
    ],
)
def test_logits_stay_and_the_network_comes_back(arch: str, left: int | None) -> None:
    """Catches a term of the map that is left out, a layer folded twice, and weights that stay folded."""
    torch.manual_seed(0)
    kwargs = {"growth_rate": 16, "block_config": [2, 2, 2]} if "densenet" in arch else {}
    network = build_network(NetworkConfig(arch=arch, kwargs=kwargs), 7, "key")
    teacher = teacher_of(network)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    expected, num_norms = teacher.network(images()), count_norms(teacher)
    with folded([teacher]):
        torch.testing.assert_close(teacher.network(images()), expected, rtol=1e-9, atol=1e-9)
        assert count_norms(teacher) == left if left is not None else count_norms(teacher) <= num_norms
    assert torch.equal(teacher.network(images()), expected)
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any("forward" in vars(module) for module in network.modules())


class Wired(nn.Module):
    """Uses the output of its convolution as `wire` says."""

    def __init__(self, wire: Callable[["Wired", Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.other = nn.BatchNorm2d(4)
        self.act, self.head = nn.ReLU(inplace=True), nn.Linear(4, 5)
        self._wire = wire

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self._wire(self, x).mean(dim=(2, 3)))
        return out


def _twice(net: Wired, x: Tensor) -> Tensor:
    y = net.conv(x)
    return net.norm(y) + net.other(y)  # type: ignore[no-any-return]


def _beside(net: Wired, x: Tensor) -> Tensor:
    y = net.conv(x)
    return net.norm(y) + y  # type: ignore[no-any-return]


def _changed(net: Wired, x: Tensor) -> Tensor:
    y = net.conv(x)
    y.mul_(2.0)
    return net.norm(y)  # type: ignore[no-any-return]


def _repeated(net: Wired, x: Tensor) -> Tensor:
    return net.norm(net.conv(x)) + net.conv(x)  # type: ignore[no-any-return]


def _between(net: Wired, x: Tensor) -> Tensor:
    return net.norm(net.act(net.conv(x)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("wire", [_twice, _beside, _changed, _repeated, _between])
def test_a_convolution_that_others_need_is_left_alone(wire: Callable[[Wired, Tensor], Tensor]) -> None:
    """Catches other logits where the output of a convolution goes to more than the BatchNorm, or changes."""
    torch.manual_seed(0)
    teacher = teacher_of(Wired(wire))
    expected = teacher.network(images())
    with folded([teacher]):
        assert torch.equal(teacher.network(images()), expected)


def test_a_network_that_is_trained_is_left_alone() -> None:
    """Catches weights that are trained and vanish when the passes are over."""
    network = Wired(lambda net, x: net.norm(net.conv(x))).eval()
    weight = network.conv.weight
    with folded([Teacher("t", network, Preprocessing((0.5,) * 3, (0.5,) * 3, SIZE))]):
        assert network.conv.weight is weight


def test_rounding_is_that_of_float32() -> None:
    """Catches a map that is made in half precision, or a tolerance that no float32 network meets."""
    torch.manual_seed(0)
    network = build_network(NetworkConfig(arch="torchvision:resnet18"), 7, "key")
    teacher = teacher_of(network, torch.float32)
    expected = teacher.network(images(torch.float32))
    with folded([teacher]):
        found = teacher.network(images(torch.float32))
    assert not torch.equal(found, expected)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
