"""The loop of recover: where it starts, how it steps, what it refuses, and that it can be repeated."""

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
from prism_ray.data import RealImages
from prism_ray.errors import EngineError
from prism_ray.plan import RecoverUnit, Slot
from prism_ray.recover.augment import Augmentation
from prism_ray.recover.engine import initial_pixels, optimise, recover_batch, select_random_real
from prism_ray.recover.objective import PrismObjective
from prism_ray.recover.space import ReferenceSpace
from prism_ray.teachers.teacher import Teacher

CPU = torch.device("cpu")
SIZE = 12
SLOTS = tuple(Slot(label, ipc_index) for ipc_index in (4, 1) for label in (2, 0, 3))
UNIT = RecoverUnit("distilled", "i00001-c00000", SLOTS, ("striding", "depthwise"), 6, 1234)

MakeStriding = Callable[[], Teacher]
MakeDepthwise = Callable[[int], Teacher]


def configure(**values: Any) -> RecoverConfig:
    return RecoverConfig.model_validate(
        {"ipc": 5, "primary": "striding", "jitter": 3, "bn_weight": 0.1, **values}
    )


UNAUGMENTED: dict[str, Any] = {"crop_scale": (1.0, 1.0), "jitter": 0, "flip": False}


@pytest.fixture
def teachers(striding: MakeStriding, depthwise: MakeDepthwise) -> dict[str, Teacher]:
    return {"striding": striding(), "depthwise": depthwise(SIZE)}


def kth_training_image(data: RealImages, label: int, k: int) -> np.ndarray:
    places = [place for place, other in enumerate(data.labels["train"]) if other == label]
    return data.read("train", np.array([places[k]]))[0]


@pytest.mark.parametrize("source", ["images", "colour_images"])
def test_real_init_is_the_kth_training_image(
    source: str, request: pytest.FixtureRequest, teachers: dict[str, Teacher]
) -> None:
    """Would catch images of other classes, of other places in the class, or changed on the way."""
    data: RealImages = request.getfixturevalue(source)
    expected = np.stack([kth_training_image(data, slot.label, slot.ipc_index) for slot in SLOTS])
    space = ReferenceSpace.of(teachers["striding"].preprocessing, data.channels, CPU)
    x = initial_pixels(UNIT, configure(), data, SIZE, space, CPU)
    assert np.array_equal(space.to_images(x).numpy(), expected)
    standing_still = recover_batch(UNIT, configure(learning_rate=1e-9), data, SIZE, teachers, CPU)
    assert np.array_equal(standing_still.images, expected)


def test_noise_init_is_standard_normal_and_seeded(
    colour_images: RealImages, teachers: dict[str, Teacher]
) -> None:
    """Would catch noise that changes from run to run, repeats from batch to batch, or has another spread."""
    space = ReferenceSpace.of(teachers["striding"].preprocessing, 3, CPU)
    config = configure(init="noise")
    state = torch.get_rng_state()
    x = initial_pixels(UNIT, config, colour_images, SIZE, space, CPU)
    assert torch.equal(torch.get_rng_state(), state)
    assert x.shape == (len(SLOTS), 3, SIZE, SIZE)
    torch.rand(5)
    assert torch.equal(initial_pixels(UNIT, config, colour_images, SIZE, space, CPU), x)
    other = initial_pixels(replace(UNIT, seed=1235), config, colour_images, SIZE, space, CPU)
    assert not torch.equal(other, x)
    assert abs(float(x.mean())) < 4 / math.sqrt(x.numel())
    assert float(x.std()) == pytest.approx(1.0, abs=4 / math.sqrt(2 * x.numel()))


class Recorder(Augmentation):
    """The real augmentation, which keeps the pixels that each iteration starts from."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.seen: list[Tensor] = []

    def __call__(self, x: Tensor, iteration: int) -> Tensor:
        self.seen.append(x.detach().clone())
        return super().__call__(x, iteration)


def run_optimise(
    config: RecoverConfig, num_iterations: int, teachers: dict[str, Teacher], x: Tensor
) -> list[Tensor]:
    """Optimise x; return the pixels before each iteration and after the last."""
    unit = replace(UNIT, num_iterations=num_iterations)
    drawn = list(teachers.values())
    space = ReferenceSpace.of(drawn[0].preprocessing, x.shape[1], CPU)
    labels = torch.tensor([slot.label for slot in unit.slots])
    recorder = Recorder(config, num_iterations, SIZE, 3, CPU)
    with PrismObjective(drawn, labels, space, config.bn_weight, config.first_bn_weight) as objective:
        optimise(x, unit, config, objective, recorder, space)
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

    drawn = list(teachers.values())
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.48, 0.45, 0.40), (0.23, 0.22, 0.27)))
    labels = torch.tensor([slot.label for slot in SLOTS])
    augment = Augmentation(config, num_iterations, SIZE, 3, CPU)
    x, first, second = start.clone(), torch.zeros_like(start), torch.zeros_like(start)
    space = ReferenceSpace.of(drawn[0].preprocessing, 3, CPU)
    with PrismObjective(drawn, labels, space, config.bn_weight, 10.0) as objective:
        for i in range(num_iterations):
            torch.testing.assert_close(path[i], x, rtol=0, atol=1e-9)
            x.requires_grad_(True)
            (gradient,) = torch.autograd.grad(objective(augment(x, i)).total, x)
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


@pytest.mark.parametrize("source", ["images", "colour_images"])
def test_same_unit_same_bytes(
    source: str, request: pytest.FixtureRequest, teachers: dict[str, Teacher]
) -> None:
    """Would catch a batch that depends on what its process did before, or on how its cache is ordered."""
    data: RealImages = request.getfixturevalue(source)
    first = recover_batch(UNIT, configure(), data, SIZE, teachers, CPU)
    assert first.images.shape == (len(SLOTS), data.channels, SIZE, SIZE)
    assert first.images.dtype == np.uint8
    torch.manual_seed(99)
    np.random.seed(99)
    recover_batch(replace(UNIT, seed=1), configure(), data, SIZE, teachers, CPU)
    again = recover_batch(UNIT, configure(), data, SIZE, teachers, CPU)
    assert again == replace(first, images=again.images)
    assert again.images.tobytes() == first.images.tobytes()

    unused = replace(teachers["striding"], name="unused")
    other_cache = {"unused": unused, "depthwise": teachers["depthwise"], "striding": teachers["striding"]}
    cached = recover_batch(UNIT, configure(), data, SIZE, other_cache, CPU)
    assert cached.images.tobytes() == first.images.tobytes()
    other_seed = recover_batch(replace(UNIT, seed=1), configure(), data, SIZE, teachers, CPU)
    assert other_seed.images.tobytes() != first.images.tobytes()


def test_each_teacher_runs_once_per_iteration_and_is_left_as_it_was(
    images: RealImages, teachers: dict[str, Teacher]
) -> None:
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
    recover_batch(UNIT, configure(), images, SIZE, teachers, CPU)
    assert calls == ["striding", "depthwise"] * UNIT.num_iterations
    for handle in handles:
        handle.remove()
    for name, teacher in teachers.items():
        state = teacher.network.state_dict()
        assert all(torch.equal(state[key], value) for key, value in before[name].items())
        assert not any(module._forward_pre_hooks for module in teacher.network.modules())
        assert all(parameter.grad is None for parameter in teacher.network.parameters())


def test_losses_are_those_of_the_first_and_the_last_iteration(
    images: RealImages, teachers: dict[str, Teacher]
) -> None:
    """Would catch a log that shows the wrong iteration, and an optimisation that goes uphill."""
    config = configure(**UNAUGMENTED)
    unit = replace(UNIT, num_iterations=60)
    batch = recover_batch(unit, config, images, SIZE, teachers, CPU)
    drawn = list(teachers.values())
    space = ReferenceSpace.of(drawn[0].preprocessing, 1, CPU)
    labels = torch.tensor([slot.label for slot in SLOTS])
    start = initial_pixels(unit, config, images, SIZE, space, CPU)
    with PrismObjective(drawn, labels, space, config.bn_weight, 10.0) as objective:
        at_start = objective(start)
        at_end = objective(space.from_images(torch.from_numpy(batch.images)))
    assert batch.first.ce == pytest.approx(float(at_start.ce), rel=1e-5)
    assert batch.first.bn == pytest.approx(float(at_start.bn), rel=1e-5)
    assert list(batch.first.alignments) == ["striding", "depthwise"]
    assert batch.last.bn == pytest.approx(float(at_end.bn), rel=0.02)
    assert (
        batch.last.ce + config.bn_weight * batch.last.bn < batch.first.ce + config.bn_weight * batch.first.bn
    )


@pytest.mark.parametrize("num_iterations", [1, 3, 120])
def test_non_finite_loss_is_an_error(
    num_iterations: int, images: RealImages, teachers: dict[str, Teacher]
) -> None:
    """Would catch NaN stored as an image, an error that does not say what to change, or one after hours."""
    network = teachers["depthwise"].network
    with torch.no_grad():
        next(network.parameters()).fill_(float("nan"))
    calls: list[int] = []
    handle = network.register_forward_hook(lambda *_: calls.append(1))
    unit = replace(UNIT, num_iterations=num_iterations)
    with pytest.raises(EngineError) as caught:
        recover_batch(unit, configure(), images, SIZE, teachers, CPU)
    message = str(caught.value)
    assert "recover/distilled/i00001-c00000" in message
    assert "depthwise nan" in message
    assert "recover.learning_rate (now 0.05)" in message
    assert "recover.bn_weight (now 0.1)" in message
    assert len(calls) <= 50
    handle.remove()
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_overflowing_weight_is_an_error(images: RealImages, teachers: dict[str, Teacher]) -> None:
    """Would catch a loss that is infinite, not NaN, going unnoticed."""
    with pytest.raises(EngineError, match=r"recover\.bn_weight \(now 1e\+38\)"):
        recover_batch(UNIT, configure(bn_weight=1e38), images, SIZE, teachers, CPU)


class SteepRoot(nn.Module):
    """Adds the square root of 0 to every value: its value is finite, its slope is not."""

    def forward(self, x: Tensor) -> Tensor:
        return x + (0.0 * x).sqrt()


def test_non_finite_gradient_of_the_last_step_is_an_error(
    images: RealImages, teachers: dict[str, Teacher]
) -> None:
    """Would catch NaN pixels stored as images because the loss before the last step was still finite."""
    steep = replace(teachers["striding"], network=nn.Sequential(SteepRoot(), teachers["striding"].network))
    with pytest.raises(EngineError, match="not finite"):
        recover_batch(
            replace(UNIT, num_iterations=1), configure(), images, SIZE, {**teachers, "striding": steep}, CPU
        )


def control(slots: tuple[Slot, ...]) -> RecoverUnit:
    return RecoverUnit("random-real", "i00000-c00000", slots, (), 0, 7)


ALL_SLOTS = tuple(Slot(label, ipc_index) for ipc_index in range(7) for label in range(5))


def test_random_real_images_are_of_their_class_and_come_once(images: RealImages) -> None:
    """Would catch the control with repeated images, or images of other classes."""
    picked = select_random_real(control(ALL_SLOTS), images, run_seed=0)
    for label in range(5):
        rows = [row for row, slot in enumerate(ALL_SLOTS) if slot.label == label]
        mine = sorted(picked[row].tobytes() for row in rows)
        theirs = images.read("train", images.train_indices(label))
        assert mine == sorted(image.tobytes() for image in theirs)


def test_random_real_images_do_not_depend_on_the_batches(images: RealImages) -> None:
    """Would catch a control that changes with classes_per_batch or the order of work."""
    whole = select_random_real(control(ALL_SLOTS), images, run_seed=0)
    for row in (0, 17, 34):
        alone = select_random_real(control(ALL_SLOTS[row : row + 1]), images, run_seed=0)
        assert np.array_equal(alone[0], whole[row])


def test_random_real_images_depend_on_the_runs_seed(images: RealImages) -> None:
    """Would catch a control that is always the same, or simply the first images, as real init is."""
    first = select_random_real(control(ALL_SLOTS), images, run_seed=0)
    assert np.array_equal(first, select_random_real(control(ALL_SLOTS), images, run_seed=0))
    assert not np.array_equal(first, select_random_real(control(ALL_SLOTS), images, run_seed=1))
    in_order = [kth_training_image(images, slot.label, slot.ipc_index) for slot in ALL_SLOTS]
    assert not np.array_equal(first, np.stack(in_order))


def test_random_real_images_start_again_when_all_have_come(images: RealImages) -> None:
    """Would catch a failure at an IPC above the number of images, which noise init allows."""
    picked = select_random_real(control((Slot(1, 2), Slot(1, 9))), images, run_seed=0)
    assert np.array_equal(picked[0], picked[1])
