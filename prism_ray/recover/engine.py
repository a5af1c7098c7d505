"""The optimisation loop of recover, and what becomes of one batch. Runs in one process, without Ray."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from prism_ray.config import RecoverConfig
from prism_ray.data import RealImages
from prism_ray.errors import EngineError
from prism_ray.plan import RecoverUnit, Slot
from prism_ray.recover.augment import Augmentation
from prism_ray.recover.objective import Losses, PrismObjective
from prism_ray.recover.space import ReferenceSpace
from prism_ray.seeds import derive_seed
from prism_ray.teachers.teacher import Teacher

_CHECK_EVERY = (
    50  # iterations between two looks at whether the loss is finite; each look waits for the device
)
_ADAM_EPS = 1e-8


@dataclass(frozen=True)
class LossRecord:
    """The losses of one iteration as numbers."""

    ce: float
    bn: float  # mean over the teachers of R_m
    alignments: dict[str, float]  # teacher -> R_m

    @classmethod
    def of(cls, losses: Losses) -> "LossRecord":
        alignments = {name: float(term) for name, term in losses.alignments.items()}
        return cls(float(losses.ce), float(losses.bn), alignments)


@dataclass(frozen=True)
class RecoveredBatch:
    """The images of a batch and its losses at the first and at the last iteration."""

    images: npt.NDArray[np.uint8]  # B, channels, H, W
    first: LossRecord
    last: LossRecord


def recover_batch(
    unit: RecoverUnit,
    config: RecoverConfig,
    data: RealImages,
    image_size: int,
    teachers: Mapping[str, Teacher],
    device: torch.device,
) -> RecoveredBatch:
    """Recover the images of one batch; `teachers` holds at least the unit's BN teachers.

    Raises EngineError if the loss stops being finite.
    """
    drawn = [teachers[name] for name in unit.bn_teachers]
    space = ReferenceSpace.of(drawn[0].preprocessing, data.channels, device)
    labels = torch.tensor([slot.label for slot in unit.slots], device=device)
    x = initial_pixels(unit, config, data, image_size, space, device)
    augment = Augmentation(config, unit.num_iterations, image_size, derive_seed(unit.seed, "augment"), device)
    with PrismObjective(drawn, labels, space, config.bn_weight, config.first_bn_weight) as objective:
        first, last = optimise(x, unit, config, objective, augment, space)
    images = space.to_images(x.detach()).cpu().numpy()
    return RecoveredBatch(images, LossRecord.of(first), LossRecord.of(last))


def optimise(
    x: Tensor,
    unit: RecoverUnit,
    config: RecoverConfig,
    objective: PrismObjective,
    augment: Augmentation,
    space: ReferenceSpace,
) -> tuple[Losses, Losses]:
    """Optimise x (B, channels, H, W) in place; return the losses of the first and the last iteration.

    Adam with a cosine to 0; after each step x is clipped to valid pixels. Raises EngineError if a loss or a
    pixel was not finite; that is looked at every 50 iterations, so that the device seldom waits for the host.
    """
    x.requires_grad_(True)
    optimizer = torch.optim.Adam([x], lr=config.learning_rate, betas=config.betas, eps=_ADAM_EPS)
    all_finite = torch.ones((), dtype=torch.bool, device=x.device)
    first: Losses | None = None
    for iteration in range(unit.num_iterations):
        progress = iteration / unit.num_iterations
        optimizer.param_groups[0]["lr"] = config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
        losses = objective(augment(x, iteration))
        optimizer.zero_grad()
        losses.total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        with torch.no_grad():
            space.clamp_(x)
            all_finite &= torch.isfinite(losses.total) & torch.isfinite(x).all()
        losses = losses.detached()
        first = first or losses
        at_end = iteration == unit.num_iterations - 1
        if (at_end or (iteration + 1) % _CHECK_EVERY == 0) and not all_finite:
            raise _not_finite(unit, config, iteration, losses)
    assert first is not None
    return first, losses


def initial_pixels(
    unit: RecoverUnit,
    config: RecoverConfig,
    data: RealImages,
    image_size: int,
    space: ReferenceSpace,
    device: torch.device,
) -> Tensor:
    """Return where the optimisation starts, (B, channels, H, W) in the reference space.

    real: the image of IPC index k is the k-th training image of its class. noise: standard normal.
    """
    if config.init == "noise":
        generator = torch.Generator().manual_seed(derive_seed(unit.seed, "noise"))
        shape = (len(unit.slots), data.channels, image_size, image_size)
        return torch.randn(shape, generator=generator).to(device)
    images = read_real(data, [(slot, slot.ipc_index) for slot in unit.slots])
    return space.from_images(torch.from_numpy(images).to(device))


def select_random_real(unit: RecoverUnit, data: RealImages, run_seed: int) -> npt.NDArray[np.uint8]:
    """Return the control's images, uint8 (B, channels, H, W): random training images of each class.

    IPC index k is the k-th of the class in an order drawn from the run's seed, so that no image comes
    twice before all have come once.
    """
    picks = []
    for slot in unit.slots:
        seed = derive_seed(run_seed, "random-real", slot.label)
        order = np.random.default_rng(seed).permutation(len(data.train_indices(slot.label)))
        picks.append((slot, int(order[slot.ipc_index % len(order)])))
    return read_real(data, picks)


def read_real(data: RealImages, picks: list[tuple[Slot, int]]) -> npt.NDArray[np.uint8]:
    """Return for each (slot, k) the k-th training image of the slot's class."""
    indices = np.array([data.train_indices(slot.label)[place] for slot, place in picks])
    return data.read("train", indices)


def _not_finite(unit: RecoverUnit, config: RecoverConfig, iteration: int, losses: Losses) -> EngineError:
    record = LossRecord.of(losses)
    terms = ", ".join(f"{name} {value:.4g}" for name, value in record.alignments.items())
    return EngineError(
        f"{unit.id}: the loss or a pixel is not finite by iteration {iteration} of {unit.num_iterations} "
        f"(cross-entropy {record.ce:.4g}; BN alignment {terms}); lower recover.learning_rate "
        f"(now {config.learning_rate}) or recover.bn_weight (now {config.bn_weight})"
    )
