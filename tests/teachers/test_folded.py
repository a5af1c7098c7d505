"""BatchNorm that becomes part of the convolution before it: the same logits in fewer passes."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prism_ray.config import NetworkConfig
from prism_ray.teachers.build import build_network
from prism_ray.teachers.folded import find_pairs, folded
from prism_ray.teachers.override import CallOf
from prism_ray.teachers.precision import logits_of, prepared
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


class NormCalls(CallOf):
    """Counts the passes through batch_norm inside."""

    function = staticmethod(F.batch_norm)
    count = 0

    def instead(self, *args: Any, **kwargs: Any) -> Any:
        self.count += 1
        return F.batch_norm(*args, **kwargs)


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
        ("timm:densenet121", 9),  # half of its layers stand before their convolution
        ("timm:resnetv2_18", 9),
    ],
)
def test_logits_stay_and_the_network_comes_back(arch: str, left: int) -> None:
    """Catches a term of the map that is left out, a layer folded twice, and weights that stay folded."""
    torch.manual_seed(0)
    kwargs = {"growth_rate": 16, "block_config": [2, 2, 2]} if "densenet" in arch else {}
    network = build_network(NetworkConfig(arch=arch, kwargs=kwargs), 7, "key")
    teacher = teacher_of(network)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    expected = teacher.network(images())
    with folded([teacher]):
        torch.testing.assert_close(teacher.network(images()), expected, rtol=1e-9, atol=1e-9)
        assert count_norms(teacher) == left
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
    pairs, _ = find_pairs(teacher.network, images())
    assert bool(pairs) == (wire is _beside)  # only the trial tells that the sum uses it
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


def test_what_is_folded_does_not_depend_on_the_precision_around_it() -> None:
    """Catches labels that depend on which unit an actor had before: rounding to TF32 fails every trial."""
    teacher = teacher_of(build_network(NetworkConfig(arch="timm:test_resnet"), 7, "key"), torch.float32)
    seen: list[torch.dtype] = []
    teacher.network.register_forward_pre_hook(lambda _, given: seen.append(given[0].dtype))
    with prepared([], "tf32"), folded([teacher]):
        teacher.network(images(torch.float32))
    assert seen == [torch.float64, torch.float64, torch.float32]


def test_bfloat16_and_an_error_leave_the_network_as_it_was() -> None:
    """Catches weights that stay folded or rounded after a unit that failed."""
    teacher = teacher_of(build_network(NetworkConfig(arch="timm:test_byobnet"), 7, "key"), torch.float32)
    network, pixels = teacher.network, images(torch.float32)
    parameters = dict(network.named_parameters())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    expected = network(pixels)

    def fail() -> None:
        with folded([teacher]), prepared([network], "bf16"):
            rounded = logits_of(network, pixels, "bf16")
            scale = float(expected.abs().max())
            torch.testing.assert_close(rounded, expected, rtol=0.0, atol=0.05 * scale)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert {name: id(value) for name, value in network.named_parameters()} == {
        name: id(value) for name, value in parameters.items()
    }
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_what_is_folded_is_not_folded_again() -> None:
    """Catches weights that are scaled twice."""
    teacher = teacher_of(build_network(NetworkConfig(arch="timm:test_resnet"), 7, "key"))
    expected = teacher.network(images())
    with folded([teacher, teacher]), folded([teacher]):
        torch.testing.assert_close(teacher.network(images()), expected, rtol=1e-9, atol=1e-9)


def test_it_holds_no_network() -> None:
    """Catches teachers that stay in memory after the cache has dropped them."""
    teacher = teacher_of(build_network(NetworkConfig(arch="timm:test_resnet"), 7, "key"))
    with folded([teacher]):
        pass
    network = weakref.ref(teacher.network)
    del teacher
    gc.collect()
    assert network() is None
