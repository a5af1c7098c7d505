"""The loop of recover: how it steps, who takes part, what it refuses, and that it can be repeated."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prism_ray.config import RecoverConfig
from prism_ray.errors import EngineError
from prism_ray.recover.augment import Augmentation
from prism_ray.recover.engine import RecoveredBatch, joining_order, optimise, recover_batch
from prism_ray.recover.objective import Objective
from prism_ray.recover.setting import RecoverSetting
from prism_ray.recover.space import ReferenceSpace
from prism_ray.seeds import derive_seed
from prism_ray.stages.formation import Slot
from prism_ray.stages.recover import RecoverUnit
from prism_ray.teachers.teacher import Teacher
from tests.recover.method_runs import RecordingAugmentation

CPU = torch.device("cpu")
SIZE = 12
SLOTS = tuple(Slot(label, ipc_index) for ipc_index in (4, 1) for label in (2, 0, 3))
DRAW = ("striding", "depthwise")

MakeStriding = Callable[[], Teacher]
MakeDepthwise = Callable[[int], Teacher]


def unit_of(num_iterations: int = 6, seed: int = 1234, **values: Any) -> RecoverUnit:
    unit = RecoverUnit("distilled", "i00001-c00000", SLOTS, (num_iterations,) * len(SLOTS), (DRAW,), seed)
    return replace(unit, **values)


def configure(**values: Any) -> RecoverConfig:
    return RecoverConfig.model_validate(
        {"ipc": 5, "primary": "striding", "jitter": 3, "bn_weight": 0.1, **values}
    )


UNAUGMENTED: dict[str, Any] = {"crop_scale": (1.0, 1.0), "jitter": 0, "flip": False}


@pytest.fixture
def teachers(striding: MakeStriding, depthwise: MakeDepthwise) -> dict[str, Teacher]:
    return {"striding": striding(), "depthwise": depthwise(SIZE)}


def set_up(
    teachers: dict[str, Teacher],
    unit: RecoverUnit | None = None,
    config: RecoverConfig | None = None,
    channels: int = 3,
) -> RecoverSetting:
    unit = unit or unit_of()
    return RecoverSetting(
        unit=unit,
        config=config or configure(),
        teachers=teachers,
        labels=torch.tensor([slot.label for slot in unit.slots]),
        space=ReferenceSpace.of(teachers["striding"].preprocessing, channels, CPU),
        image_size=SIZE,
        device=CPU,
    )


def images_of(channels: int) -> Tensor:
    generator = torch.Generator().manual_seed(channels)
    return torch.randint(0, 256, (len(SLOTS), channels, SIZE, SIZE), dtype=torch.uint8, generator=generator)


def recover(setting: RecoverSetting) -> RecoveredBatch:
    """Recover the batch from some images."""
    channels = setting.space.mean.shape[0] if setting.space.mean.shape[0] == 1 else 3
    return recover_batch(setting, setting.space.from_images(images_of(channels)))


@pytest.mark.parametrize("channels", [1, 3])
def test_standing_still_changes_no_grey_level(channels: int, teachers: dict[str, Teacher]) -> None:
    """Would catch initial images that are changed, or exchanged, on the way in or out."""
    batch = recover(set_up(teachers, config=configure(learning_rate=1e-9), channels=channels))
    assert np.array_equal(batch.images, images_of(channels).numpy())


def run_optimise(
    config: RecoverConfig, num_iterations: int, teachers: dict[str, Teacher], x: Tensor
) -> list[Tensor]:
    """Optimise x; return the pixels before each iteration and after the last."""
    setting = set_up(teachers, unit_of(num_iterations), config, x.shape[1])
    recorder = RecordingAugmentation(config, num_iterations, SIZE, 3, CPU)
    with Objective(setting) as objective:
        optimise(x, setting, objective, recorder)
    return [*recorder.seen, x.detach()]


@pytest.mark.usefixtures("float64")
def test_learning_rate_follows_a_cosine_to_zero(teachers: dict[str, Teacher]) -> None:
    """Would catch a schedule that stops short of 0, runs past it, or takes another number of steps.

    With betas (0, 0) Adam moves every pixel by the learning rate, so the path shows the schedule.
    """
    num_iterations, rate = 40, 0.002
    config = configure(betas=(0.0, 0.0), learning_rate=rate, **UNAUGMENTED)
    path = run_optimise(config, num_iterations, teachers, torch.zeros(len(SLOTS), 3, SIZE, SIZE))
    assert len(path) == num_iterations + 1
    steps = [float((after - before).abs().max()) for before, after in pairwise(path)]
    expected = [0.5 * rate * (1 + math.cos(math.pi * i / num_iterations)) for i in range(num_iterations)]
    assert steps == pytest.approx(expected, rel=1e-3)
    assert steps[0] == pytest.approx(rate, rel=1e-3)
    assert steps[-1] < 0.002 * rate


@pytest.mark.usefixtures("float64")
def test_path_is_adams_by_hand(teachers: dict[str, Teacher]) -> None:
    """Would catch other betas or eps than the method's, moments that restart, or clipping before the step."""
    num_iterations, rate, betas, eps = 12, 0.3, (0.5, 0.9), 1e-8
    config = configure(learning_rate=rate)
    start = torch.randn(len(SLOTS), 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    path = run_optimise(config, num_iterations, teachers, start.clone())

    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.48, 0.45, 0.40), (0.23, 0.22, 0.27)))
    augment = Augmentation(config, num_iterations, SIZE, 3, CPU)
    x, first, second = start.clone(), torch.zeros_like(start), torch.zeros_like(start)
    with Objective(set_up(teachers, unit_of(num_iterations), config)) as objective:
        for i in range(num_iterations):
            torch.testing.assert_close(path[i], x, rtol=0, atol=1e-9)
            x.requires_grad_(True)
            (gradient,) = torch.autograd.grad(objective(augment(x, i), DRAW).total, x)
            first = betas[0] * first + (1 - betas[0]) * gradient
            second = betas[1] * second + (1 - betas[1]) * gradient**2
            m, v = first / (1 - betas[0] ** (i + 1)), second / (1 - betas[1] ** (i + 1))
            now = 0.5 * rate * (1 + math.cos(math.pi * i / num_iterations))
            x = x.detach() - now * m / (v.sqrt() + eps)
            x = ((x * std + mean).clamp(0.0, 1.0) - mean) / std
    torch.testing.assert_close(path[-1], x, rtol=0, atol=1e-9)


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_stay_in_the_valid_range(channels: int, teachers: dict[str, Teacher]) -> None:
    """Would catch pixels that are clipped only at the end, or in one channel only."""
    config = configure(learning_rate=5.0)
    path = run_optimise(config, 8, teachers, torch.zeros(len(SLOTS), channels, SIZE, SIZE))
    space = ReferenceSpace.of(teachers["striding"].preprocessing, channels, CPU)
    for x in path[1:]:
        pixels = x * space.std + space.mean
        assert float(pixels.min()) > -1e-6
        assert float(pixels.max()) < 1 + 1e-6
    assert float(pixels.min()) < 1e-6  # the steps were large enough to matter
    assert float(pixels.max()) > 1 - 1e-6


@pytest.mark.parametrize("channels", [1, 3])
def test_same_unit_same_bytes(channels: int, teachers: dict[str, Teacher]) -> None:
    """Would catch a batch that depends on what its process did before, or on how its cache is ordered."""
    setting = set_up(teachers, channels=channels)
    first = recover(setting)
    assert first.images.shape == (len(SLOTS), channels, SIZE, SIZE)
    assert first.images.dtype == np.uint8
    torch.manual_seed(99)
    np.random.seed(99)
    recover(replace(setting, unit=unit_of(seed=1)))
    again = recover(setting)
    assert again == replace(first, images=again.images)
    assert again.images.tobytes() == first.images.tobytes()

    unused = replace(teachers["striding"], name="unused")
    other_cache = {"unused": unused, "depthwise": teachers["depthwise"], "striding": teachers["striding"]}
    cached = recover(replace(setting, teachers=other_cache))
    assert cached.images.tobytes() == first.images.tobytes()
    other_seed = recover(replace(setting, unit=unit_of(seed=1)))
    assert other_seed.images.tobytes() != first.images.tobytes()


def test_initial_pixels_are_left_as_they_were(teachers: dict[str, Teacher]) -> None:
    """Would catch an optimisation in the caller's tensor, so that a second attempt starts elsewhere."""
    setting = set_up(teachers)
    x = setting.space.from_images(images_of(3))
    before = x.clone()
    first = recover_batch(setting, x)
    assert torch.equal(x, before)
    assert not x.requires_grad
    assert recover_batch(setting, x).images.tobytes() == first.images.tobytes()


def test_each_teacher_runs_once_per_iteration_and_is_left_as_it_was(teachers: dict[str, Teacher]) -> None:
    """Would catch a second forward pass of the primary, statistics that drift, or hooks left behind."""
    before = {
        name: {key: value.clone() for key, value in teacher.network.state_dict().items()}
        for name, teacher in teachers.items()
    }
    calls: list[str] = []
    handles = [
        teacher.network.register_forward_hook(lambda *_, name=name: calls.append(name))
        for name, teacher in teachers.items()
    ]
    recover(set_up(teachers))
    assert calls == ["striding", "depthwise"] * 6
    for handle in handles:
        handle.remove()
    for name, teacher in teachers.items():
        state = teacher.network.state_dict()
        assert all(torch.equal(state[key], value) for key, value in before[name].items())
        assert not any(module._forward_pre_hooks for module in teacher.network.modules())
        assert all(parameter.grad is None for parameter in teacher.network.parameters())


def test_losses_are_those_of_the_first_and_the_last_iteration(teachers: dict[str, Teacher]) -> None:
    """Would catch a log that shows the wrong iteration, and an optimisation that goes uphill."""
    config = configure(densification_weight=1e-3, **UNAUGMENTED)
    setting = set_up(teachers, unit_of(60), config)
    start = setting.space.from_images(images_of(3))
    batch = recover_batch(setting, start)
    with Objective(setting) as objective:
        at_start = objective(start, DRAW)
        at_end = objective(setting.space.from_images(torch.from_numpy(batch.images)), DRAW)
    assert batch.first.ce == pytest.approx(float(at_start.ce), rel=1e-5)
    assert batch.first.bn == pytest.approx(float(at_start.bn), rel=1e-5)
    assert list(batch.first.alignments) == ["striding", "depthwise"]
    assert list(batch.first.terms) == list(batch.last.terms) == ["densification"]
    assert batch.last.bn == pytest.approx(float(at_end.bn), rel=0.02)
    assert (
        batch.last.ce + config.bn_weight * batch.last.bn < batch.first.ce + config.bn_weight * batch.first.bn
    )


# Redraws


@pytest.mark.parametrize(
    ("redraw", "expected"),
    [
        ("round", ["s", "s", "s", "s", "s", "s", "s"]),
        (3, ["s", "s", "s", "d", "d", "d", "s"]),
        (1, ["s", "d", "s", "d", "s", "d", "s"]),
    ],
)
def test_teachers_are_drawn_anew_every_n_iterations(
    redraw: Any, expected: list[str], teachers: dict[str, Teacher]
) -> None:
    """Would catch a draw that is used for one iteration more or fewer than the config says."""
    per_draw = redraw if isinstance(redraw, int) else 7
    draws = tuple(("striding", "depthwise")[k % 2 : k % 2 + 1] for k in range(-(-7 // per_draw)))
    config = configure(selection={"include_primary": False, "slots": 1, "redraw": redraw, "logits": "drawn"})
    calls: list[str] = []
    for name, teacher in teachers.items():
        teacher.network.register_forward_hook(lambda *_, name=name: calls.append(name[0]))
    recover(set_up(teachers, unit_of(7, draws=draws), config))
    assert calls == expected


# Images that join later


def test_joining_order_is_by_iterations_and_keeps_ties() -> None:
    """Would catch an order that depends on how equal numbers happen to be sorted."""
    unit = unit_of(iterations=(4, 6, 2, 6, 4, 6))
    assert joining_order(unit).tolist() == [1, 3, 5, 0, 4, 2]


def test_images_come_back_in_the_order_of_their_slots(teachers: dict[str, Teacher]) -> None:
    """Would catch images under another's label: in the loop they stand in the order in which they join."""
    config = configure(formation="joint", learning_rate=1e-9)
    batch = recover(set_up(teachers, unit_of(iterations=(4, 6, 2, 6, 4, 6)), config))
    assert np.array_equal(batch.images, images_of(3).numpy())


def test_labels_go_with_their_images(teachers: dict[str, Teacher]) -> None:
    """Would catch labels left in the order of the slots while the images move."""
    config = configure(formation="joint", bn_weight=0.0, **UNAUGMENTED)
    unit = unit_of(iterations=(5, 6, 5, 6, 5, 6))
    setting = set_up(teachers, unit, config)
    start = setting.space.from_images(images_of(3))
    batch = recover_batch(setting, start)
    rows = [1, 3, 5]
    alone = set_up(teachers, unit_of(slots=tuple(SLOTS[row] for row in rows), iterations=(6,) * 3), config)
    with Objective(alone) as objective:
        expected = objective(start[rows], DRAW)
    assert batch.first.ce == pytest.approx(float(expected.ce), rel=1e-5)


def test_all_images_join_at_once_when_their_iterations_are_equal(teachers: dict[str, Teacher]) -> None:
    """Would catch a joint batch without early-late that loses its last images."""
    setting = set_up(teachers, config=configure(formation="joint"))
    x = setting.space.from_images(images_of(3))
    augment = RecordingAugmentation(setting.config, 6, SIZE, derive_seed(1234, "augment"), CPU)
    with Objective(setting) as objective:
        optimise(x, setting, objective, augment)
    assert [len(seen) for seen in augment.seen] == [6] * 6


# What is not finite


@pytest.mark.parametrize("num_iterations", [1, 3, 120])
def test_non_finite_loss_is_an_error(num_iterations: int, teachers: dict[str, Teacher]) -> None:
    """Would catch NaN stored as an image, an error that does not say what to change, or one after hours."""
    network = teachers["depthwise"].network
    with torch.no_grad():
        next(network.parameters()).fill_(float("nan"))
    calls: list[int] = []
    handle = network.register_forward_hook(lambda *_: calls.append(1))
    with pytest.raises(EngineError) as caught:
        recover(set_up(teachers, unit_of(num_iterations)))
    message = str(caught.value)
    assert "recover/distilled/i00001-c00000" in message
    assert "depthwise nan" in message
    assert "recover.learning_rate (now 0.05)" in message
    assert "recover.bn_weight (now 0.1)" in message
    assert len(calls) <= 50
    handle.remove()
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_overflowing_weight_is_an_error(teachers: dict[str, Teacher]) -> None:
    """Would catch a loss that is infinite, not NaN, going unnoticed."""
    with pytest.raises(EngineError, match=r"recover\.bn_weight \(now 1e\+38\)"):
        recover(set_up(teachers, config=configure(bn_weight=1e38)))


class SteepRoot(nn.Module):
    """Adds the square root of 0 to every value: its value is finite, its slope is not."""

    def forward(self, x: Tensor) -> Tensor:
        return x + (0.0 * x).sqrt()


def test_non_finite_gradient_of_the_last_step_is_an_error(teachers: dict[str, Teacher]) -> None:
    """Would catch NaN pixels stored as images because the loss before the last step was still finite."""
    steep = replace(teachers["striding"], network=nn.Sequential(SteepRoot(), teachers["striding"].network))
    with pytest.raises(EngineError, match="not finite"):
        recover(set_up({**teachers, "striding": steep}, unit_of(1)))
