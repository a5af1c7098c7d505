"""Activation checkpointing: less is held, and nothing comes out otherwise."""

from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prism_ray.analyze.pool import LiveStorages
from prism_ray.config import RecoverConfig
from prism_ray.recover.engine import largest_fit, recover_batch
from prism_ray.recover.objective import Objective
from prism_ray.recover.recompute import observe, recomputed, segmented
from prism_ray.recover.setting import RecoverSetting
from prism_ray.recover.space import ReferenceSpace
from prism_ray.stages.formation import Slot
from prism_ray.stages.recover import RecoverUnit
from prism_ray.teachers.layers import LayerReference, TeacherReference
from prism_ray.teachers.teacher import Teacher
from tests.budget import Budget
from tests.recover.networks import LIBRARY, OWN, SIZE, teacher_of

CPU = torch.device("cpu")
LABELS = [3, 0, 4, 1, 1, 2]
TOTAL = 6
NETWORKS = OWN | LIBRARY

# What a step can measure and leave behind: moving averages, convolutions and patches, classes, draws, late
# images, every teacher's vote.
CONFIGS: dict[str, dict[str, Any]] = {
    "prism": {},
    "averaged": {"statistics": {"momentum": 0.8}, "densification_weight": 1e-3},
    "g-vbsm": {"statistics": {"layers": "bn+conv", "momentum": 0.4, "class_share": 0.5, "scale": "relative"}},
    "redrawn": {"selection": {"include_primary": False, "slots": 1, "redraw": 2, "logits": "drawn"}},
    "late": {"formation": "joint"},
}


def set_up(name: str = "prism", *teachers: Teacher, channels: int = 3, **values: Any) -> RecoverSetting:
    names = tuple(teacher.name for teacher in teachers)
    draws = tuple((names[number % len(names)],) for number in range(3)) if name == "redrawn" else (names,)
    iterations = (TOTAL,) * len(LABELS) if name != "late" else (6, 4, 2, 6, 4, 2)
    slots = tuple(Slot(label, 0) for label in LABELS)
    config = RecoverConfig.model_validate(
        {"ipc": 5, "primary": names[0], "bn_weight": 0.1, **CONFIGS[name], **values}
    )
    return RecoverSetting(
        unit=RecoverUnit("distilled", "key", slots, iterations, draws, 5),
        config=config,
        teachers={teacher.name: teacher for teacher in teachers},
        labels=torch.tensor(LABELS),
        space=ReferenceSpace.of(teachers[0].preprocessing, channels, CPU),
        image_size=SIZE,
        device=CPU,
        references={teacher.name: reference_of(teacher) for teacher in teachers} if name == "g-vbsm" else {},
    )


def reference_of(teacher: Teacher) -> TeacherReference:
    """Some statistics of the layers of a teacher."""
    layers: dict[str, LayerReference] = {}

    def measure(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        count, side = inputs[0].shape[1:3]
        values = [torch.rand(count, generator=torch.Generator().manual_seed(count)) for _ in range(2)]
        if isinstance(module, nn.Conv2d):
            values += [
                torch.full(((-(-side // 16)) ** 2,), level) for level in (0.3, 0.7)
            ]  # by patches of 16
        layers[name] = LayerReference(*values)

    with ExitStack() as stack:
        for name, module in teacher.network.named_modules():
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
                stack.callback(module.register_forward_pre_hook(partial(measure, name)).remove)
        teacher.network(torch.zeros(1, 3, SIZE, SIZE))
    return TeacherReference(layers, dict.fromkeys(range(5), layers))


def start(channels: int = 3) -> Tensor:
    return torch.randn(len(LABELS), channels, SIZE, SIZE, generator=torch.Generator().manual_seed(2))


def steps(setting: RecoverSetting) -> list[Tensor]:
    """Loss, terms and gradient of two steps on different images."""
    found: list[Tensor] = []
    with Objective(setting) as objective:
        for shift in (0.0, 0.5):
            x = (start() + shift).requires_grad_(True)
            losses = objective(x, setting.unit.draws[0])
            found += [*torch.autograd.grad(losses.total, x), losses.total.detach(), losses.ce.detach()]
            found += [term.detach() for term in losses.alignments.values()]
    return found


def recover(setting: RecoverSetting) -> Any:
    return recover_batch(setting, start(len(setting.space.mean)))


def assert_untouched(teacher: Teacher) -> None:
    for module in teacher.network.modules():
        assert "forward" not in vars(module)
        assert not module._forward_pre_hooks
        assert not module._forward_hooks


# The same numbers


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", NETWORKS)
def test_loss_and_gradient_are_the_same_to_the_last_bit(name: str, dtype: torch.dtype) -> None:
    """Catches statistics that are counted twice or cut off from the pixels, a segment whose input has changed
    until its gradient comes, and sums in another order: on the CPU, whose operations repeat themselves."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        teacher = teacher_of(name, NETWORKS[name])
        setting = set_up("averaged", teacher)
        plain, again = steps(setting), steps(replace(setting, recompute=True))
    finally:
        torch.set_default_dtype(before)
    assert plain[0].dtype == dtype
    assert float(plain[0].abs().max()) > 0
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))
    assert_untouched(teacher)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_batch_comes_out_in_the_same_bytes(name: str, channels: int) -> None:
    """Catches a retry that changes a pixel: a pool of several teachers, through the whole loop."""
    teachers = [teacher_of(kind, OWN[kind]) for kind in ("residual", "shared", "dense")]
    setting = set_up(name, *teachers, channels=channels)
    plain, again = recover(setting), recover(replace(setting, recompute=True))
    assert np.array_equal(plain.images, again.images)
    assert replace(plain, images=again.images) == again
    for teacher in teachers:
        assert_untouched(teacher)


def test_what_comes_out_does_not_depend_on_where_memory_ran_out() -> None:
    """Catches a failed step that leaves something in networks which the next attempt uses."""
    teachers = [teacher_of(kind, OWN[kind]) for kind in ("residual", "shared")]
    setting = set_up("averaged", *teachers)
    plain = recover(setting)
    with LiveStorages() as live:
        recover(setting)
    for share in (0.05, 0.3, 0.6, 0.9):
        for recompute in (False, True):
            budget = Budget(round(share * live.peak_bytes))
            try:
                with budget:
                    recover(replace(setting, recompute=recompute))
            except torch.OutOfMemoryError:
                assert budget.num_failures == 1
            for teacher in teachers:
                assert_untouched(teacher)
            assert np.array_equal(recover(setting).images, plain.images)
    assert budget.num_failures == 0  # the last one had room


# Less memory


def peak_of(setting: RecoverSetting) -> int:
    with LiveStorages() as live:
        steps(setting)
    return live.peak_bytes


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("residual", 0.65),
        ("dense", 0.8),
        ("resnet18", 0.85),
        ("mobilenet_v3_small", 0.5),
        ("densenet121", 0.5),
    ],
)
def test_less_is_held(name: str, share: float) -> None:
    """Catches a network that is not cut, and what is measured again holding the graph of its pass."""
    setting = set_up("prism", teacher_of(name, NETWORKS[name]))
    assert peak_of(replace(setting, recompute=True)) < share * peak_of(setting)


def test_of_several_teachers_one_is_held_at_a_time() -> None:
    """Catches inputs of segments, and what is no segment, adding up over the teachers of a draw."""
    make = LIBRARY["mobilenet_v3_small"]
    one, *more = (teacher_of(name, make) for name in ("a", "b", "c", "d"))
    alone = peak_of(replace(set_up("prism", one), recompute=True))
    together = peak_of(replace(set_up("prism", one, *more), recompute=True))
    assert together < 1.4 * alone
    assert together < 0.3 * peak_of(set_up("prism", one, *more))


def test_each_network_runs_as_seldom_as_it_may() -> None:
    """Catches segments in segments, which would run three times or more."""
    teachers = [teacher_of(name, OWN["residual"]) for name in ("first", "last")]
    calls: list[str] = []
    for teacher in teachers:
        layer = teacher.network.blocks[1].conv  # type: ignore[union-attr,index]
        layer.register_forward_hook(lambda *_, name=teacher.name: calls.append(name))
    setting = replace(set_up("prism", *teachers), recompute=True)
    with Objective(setting) as objective:
        calls.clear()  # the look at one image
        x = start().requires_grad_(True)
        objective(x, ("first", "last")).total.backward()
    assert [calls.count(name) for name in ("first", "last")] == [3, 2]


# What may be a segment


def names_of(teacher: Teacher, modules: Any) -> set[str]:
    return {name for name, module in teacher.network.named_modules() if module in modules}


def test_what_does_not_keep_its_input_is_no_segment() -> None:
    """Catches modules that would find another input the second time: changed in place by themselves or by
    their parent afterwards, or a list of which they have replaced an entry."""
    image = torch.zeros(1, 3, SIZE, SIZE)
    in_place = teacher_of("in-place", OWN["in-place"])
    seen = observe(in_place.network, image)
    changing = names_of(in_place, [module for module in seen if not seen[module].keeps_input])
    assert {"blocks", "blocks.0", "blocks.1", "blocks.2", "branch", "branch.0"} <= changing
    assert not {"stem", "blocks.0.rest", "branch.1", "head"} & changing
    branching = teacher_of("branching", OWN["branching"])
    seen = observe(branching.network, image)
    changing = names_of(branching, [module for module in seen if not seen[module].keeps_input])
    assert {"stages.0", "stages.4"} <= changing
    assert not {"stages.0.branches.0", "stages.4.branches.1", "stem"} & changing
    assert_untouched(branching)


def test_a_network_with_a_forward_pass_of_its_own_keeps_it() -> None:
    """Catches a method that somebody has put into an instance being lost after the batch."""
    teacher = teacher_of("residual", OWN["residual"])
    first = teacher.network.blocks[0]  # type: ignore[union-attr,index]
    own = first.forward
    vars(first)["forward"] = own
    with segmented(teacher.network, torch.zeros(1, 3, SIZE, SIZE)):
        assert vars(first)["forward"] is own
    assert vars(first)["forward"] is own


def test_an_input_that_changes_is_an_error_and_no_other_gradient() -> None:
    """Catches a wrong gradient without a word, should a network work in place only now and then."""
    x = torch.rand(4, requires_grad=True)
    y = x * 2.0
    z = recomputed(torch.exp, y)
    y += 1.0
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()


# What fits


@pytest.mark.parametrize("recompute", [False, True])
def test_the_largest_batch_that_fits_is_found(recompute: bool) -> None:
    """Catches a number that does not fit, or one that is smaller than it need be."""
    teachers = [teacher_of(kind, OWN[kind]) for kind in ("residual", "plain")]
    setting = replace(set_up("prism", *teachers), recompute=recompute)
    x = start()

    def fits(budget: Budget) -> int:
        with budget:
            return largest_fit(setting, x)

    with LiveStorages() as live:
        assert largest_fit(setting, x) == len(x) - 1
    found = [fits(Budget(round(share * live.peak_bytes))) for share in (0.01, 0.5, 0.7, 0.9, 1.0)]
    assert found == sorted(found)
    assert found[0] == 0
    assert 1 < found[2] < len(x) - 1
    assert found[-1] == len(x) - 1
    assert not x.requires_grad
    for teacher in teachers:
        assert_untouched(teacher)
