"""The precision of the teachers' passes: near float32, and no trace of it afterwards."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prism_ray.recover.objective import Objective
from prism_ray.recover.setting import RecoverSetting
from prism_ray.teachers.teacher import Teacher
from tests.recover.networks import LIBRARY, OWN, SIZE, teacher_of
from tests.recover.test_recompute import LABELS, set_up

NETWORKS = OWN | LIBRARY


def made(name: str) -> Teacher:
    return teacher_of(name, NETWORKS[name])


def step(setting: RecoverSetting, x: Tensor) -> tuple[dict[str, float], Tensor]:
    """Return the losses of x and its gradient."""
    x = x.clone().requires_grad_(True)
    with Objective(setting) as objective:
        losses = objective(x, setting.unit.draws[0])
        losses.total.backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    terms = {"ce": losses.ce, "bn": losses.bn} | losses.alignments
    return {name: float(term.detach()) for name, term in terms.items()}, x.grad


def make_x() -> Tensor:
    return torch.randn(len(LABELS), 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))


def weights_of(network: nn.Module) -> list[tuple[Any, Tensor]]:
    return [(weight.data_ptr(), weight.detach().clone()) for weight in network.parameters()]


@pytest.mark.parametrize("name", NETWORKS)
def test_bfloat16_is_near_float32(name: str) -> None:
    """Catches statistics or a loss that are computed in bfloat16, and a layer that cannot take it."""
    teacher = made(name)
    plain = set_up("prism", teacher)
    losses, grad = step(plain, make_x())
    rounded, other = step(set_up("prism", teacher, precision="bf16"), make_x())
    assert rounded == pytest.approx(losses, rel=0.02)
    assert rounded != losses
    assert float(F.cosine_similarity(grad.flatten(), other.flatten(), dim=0)) > 0.98
    assert other.dtype == torch.float32


@pytest.mark.parametrize("config", ["g-vbsm", "averaged", "redrawn"])
def test_bfloat16_with_every_kind_of_statistics(config: str) -> None:
    """Catches moving averages, patches and votes of another type than the targets."""
    teachers = [made("plain"), made("residual")]
    losses, _ = step(set_up(config, *teachers), make_x())
    rounded, _ = step(set_up(config, *teachers, precision="bf16"), make_x())
    assert rounded == pytest.approx(losses, rel=0.03)


def test_a_repeated_pass_has_the_same_precision() -> None:
    """Catches activation checkpointing that computes its second pass in float32."""
    setting = set_up("prism", made("residual"), precision="bf16")
    losses, grad = step(setting, make_x())
    again, other = step(replace(setting, recompute=True), make_x())
    assert again == losses
    assert torch.equal(grad, other)


@pytest.mark.parametrize("breaks", [False, True])
def test_the_networks_are_as_before(breaks: bool) -> None:
    """Catches a cached teacher that relabels with rounded weights, and settings that outlive the batch."""
    teacher = made("residual")
    before = weights_of(teacher.network)
    flags = torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision
    setting = set_up("prism", teacher, precision="bf16")
    if breaks:
        with pytest.raises(RuntimeError), Objective(setting) as objective:
            objective(torch.zeros(2, 4, SIZE, SIZE), setting.unit.draws[0])  # four channels
    else:
        step(setting, make_x())
    for (place, weight), (now, other) in zip(before, weights_of(teacher.network), strict=True):
        assert place == now
        assert torch.equal(weight, other)
    assert flags == (torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision)


@pytest.mark.parametrize(("precision", "flag"), [("fp32", "ieee"), ("tf32", "tf32")])
def test_tf32_only_where_it_is_asked_for(precision: str, flag: str) -> None:
    """Catches convolutions in TF32 under fp32: torch allows it by default, at 10 bits instead of 23."""
    setting = set_up("prism", made("plain"), precision=precision)
    with Objective(setting):
        assert torch.backends.cudnn.conv.fp32_precision == flag
        assert torch.backends.cuda.matmul.fp32_precision == flag
