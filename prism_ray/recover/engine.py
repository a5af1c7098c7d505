"""The optimisation loop of recover: one batch of any method, in one process, without Ray.

Images that join late (DELT's early-late sub-batches) come after the others. So the images that take part are
always the first ones: a slice, without a copy and with a deterministic gradient.
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from prism_ray.device import let_go
from prism_ray.errors import EngineError
from prism_ray.recover.augment import Augmentation
from prism_ray.recover.curve import CurveRecorder, LossCurve
from prism_ray.recover.objective import Losses, Objective
from prism_ray.recover.setting import RecoverSetting
from prism_ray.recover.state import LoopState
from prism_ray.sealed import Checkpoints
from prism_ray.seeds import derive_seed
from prism_ray.stages.recover import RecoverUnit

_CHECK_EVERY = 50  # iterations between two checks that the loss is finite; each check waits for the device
_ADAM_EPS = 1e-8


@dataclass(frozen=True)
class LossRecord:
    """The losses of one iteration as numbers."""

    ce: float
    bn: float  # mean of R_m, weighted by the votes
    alignments: dict[str, float]  # teacher -> R_m
    terms: dict[str, float]  # densification, and the method's own terms

    @classmethod
    def of(cls, losses: Losses) -> "LossRecord":
        return cls(
            ce=float(losses.ce),
            bn=float(losses.bn),
            alignments={name: float(term) for name, term in losses.alignments.items()},
            terms={name: float(term) for name, term in losses.terms.items()},
        )


@dataclass(frozen=True)
class RecoveredBatch:
    """The images of a batch and its losses: at the first and at the last iteration, and in between."""

    images: npt.NDArray[np.uint8]  # B, channels, H, W
    first: LossRecord
    last: LossRecord
    curve: LossCurve
    resumed_at: int = 0  # first iteration of this attempt


class Optimised(NamedTuple):
    """The result of `optimise`.

    Teachers that are not drawn in the first (last) iteration are in it with their first (last) R_m.
    """

    first: Losses
    last: Losses
    curve: LossCurve
    resumed_at: int  # iteration at which this attempt resumed, else 0


def joining_order(unit: RecoverUnit) -> npt.NDArray[np.int64]:
    """Return the indices of the unit's slots, those with the most iterations first."""
    return np.argsort(-np.asarray(unit.iterations), kind="stable")


def recover_batch(
    setting: RecoverSetting, x: Tensor, checkpoints: Checkpoints | None = None
) -> RecoveredBatch:
    """Recover the images of one batch from the initial ones, x (B, channels, H, W) in the reference space.

    With `checkpoints`, an interrupted batch resumes from the last one, to the same bytes on the same device.
    Raises EngineError if the loss stops being finite.
    """
    unit, config = setting.unit, setting.config
    order = joining_order(unit)
    indices = torch.from_numpy(order).to(setting.device)
    setting, x = replace(setting, labels=setting.labels[indices]), x[indices]
    seed = derive_seed(unit.seed, "augment")
    augment = Augmentation(config, unit.num_iterations, setting.image_size, seed, setting.device)
    with Objective(setting) as objective:
        done = optimise(x, setting, objective, augment, checkpoints)
    images = np.empty(x.shape, np.uint8)
    images[order] = setting.space.to_images(x.detach()).cpu().numpy()
    first, last = LossRecord.of(done.first), LossRecord.of(done.last)
    return RecoveredBatch(images, first, last, done.curve, done.resumed_at)


def optimise(
    x: Tensor,
    setting: RecoverSetting,
    objective: Objective,
    augment: Augmentation,
    checkpoints: Checkpoints | None = None,
) -> Optimised:
    """Optimise x (B, channels, H, W) in place; x is in joining order.

    Adam with a cosine to 0; after each step x is clipped to valid pixels. An image that has not joined has
    no gradient and does not change. When it joins, neither the optimiser nor the schedule starts again.
    Raises EngineError if a loss or a pixel was not finite. This is checked every 50 iterations and before a
    checkpoint is saved, so that the device seldom waits for the host.
    """
    unit, config, space = setting.unit, setting.config, setting.space
    total = unit.num_iterations
    redraw = config.selection.redraw if isinstance(config.selection.redraw, int) else total
    iterations = np.sort(np.asarray(unit.iterations))[::-1]
    x.requires_grad_(True)
    optimizer = torch.optim.Adam([x], lr=config.learning_rate, betas=config.betas, eps=_ADAM_EPS, fused=True)
    curve = CurveRecorder(unit, redraw, objective.term_names, x.device)
    state = LoopState(x, optimizer, objective, curve)
    given = "" if checkpoints is None else checkpoints.identity
    identity = f"recover {given} {unit} {setting.image_size} {config.model_dump_json()}"
    saved = checkpoints.load(state.max_bytes) if checkpoints is not None else None
    if saved is not None:
        state.restore(saved, identity, total)
    resumed_at = state.iteration
    all_finite = torch.ones((), dtype=torch.bool, device=x.device)
    num_joined = 0
    for iteration in range(resumed_at, total):
        before, num_joined = num_joined, int(np.count_nonzero(iterations >= total - iteration))
        if num_joined != before:
            objective.join(num_joined)
        factor = 0.5 * (1.0 + math.cos(math.pi * iteration / total))
        optimizer.param_groups[0]["lr"] = config.learning_rate * factor
        losses = objective(augment(x[:num_joined], iteration), unit.draws[iteration // redraw])
        optimizer.zero_grad()
        losses.total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        with torch.no_grad():
            space.clamp_(x)
            all_finite &= torch.isfinite(losses.total) & torch.isfinite(x).all()
        losses = losses.detached()
        state.record(losses)
        if checkpoints is not None:
            checkpoints.report(state.iteration, total, partial(curve.latest, state.iteration))
        at_end = state.iteration == total
        save = checkpoints is not None and not at_end and checkpoints.due()
        if (at_end or save or state.iteration % _CHECK_EVERY == 0) and not all_finite:
            raise _not_finite(setting, iteration, losses)
        if save and checkpoints is not None:
            checkpoints.save(state.encode(identity))
    assert state.first is not None
    return Optimised(
        replace(state.first, alignments=state.first_seen),
        replace(losses, alignments=state.last_seen),
        curve.curve(),
        resumed_at,
    )


def largest_fit(setting: RecoverSetting, x: Tensor) -> int:
    """Return the largest number of images whose step fits into the device's memory, found by trying.

    It is smaller than B of x (B, channels, H, W; reference space), and 0 if not even one image fits. A step
    is augmentation, forward, backward and Adam. It is tried with each draw of the unit, beside everything
    that is in memory now.
    """
    fits, too_many = 0, len(x)
    while too_many - fits > 1:
        count = (fits + too_many) // 2
        try:
            _try_steps(setting, x[:count].clone())
            fits = count
        except torch.OutOfMemoryError as error:
            too_many = count
            let_go(error)
    return fits


def _try_steps(setting: RecoverSetting, x: Tensor) -> None:
    augment = Augmentation(setting.config, 1, setting.image_size, setting.unit.seed, setting.device)
    optimizer = torch.optim.Adam([x.requires_grad_(True)], fused=True)
    with Objective(setting) as objective:
        objective.join(len(x))
        for draw in dict.fromkeys(setting.unit.draws):
            optimizer.zero_grad()
            objective(augment(x, 0), draw).total.backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def _not_finite(setting: RecoverSetting, iteration: int, losses: Losses) -> EngineError:
    unit, config, record = setting.unit, setting.config, LossRecord.of(losses)
    terms = ", ".join(f"{name} {value:.4g}" for name, value in record.alignments.items())
    return EngineError(
        f"{unit.id}: the loss or a pixel is not finite, found at iteration {iteration} of "
        f"{unit.num_iterations} (cross-entropy {record.ce:.4g}; alignment {terms}); lower "
        f"recover.learning_rate (now {config.learning_rate}) or recover.bn_weight (now {config.bn_weight})"
    )
