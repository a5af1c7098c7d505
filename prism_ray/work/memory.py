"""The answer to a device without memory: what is freed, and the setting that the error names.

A batch of recover is first tried again with activation checkpointing; see recover.py.
"""

from collections.abc import Container

from prism_ray.config import RecoverConfig
from prism_ray.device import bytes_of_others, describe_device, let_go
from prism_ray.errors import DeviceMemoryError, EngineError, PrismRayError
from prism_ray.stages import Unit, find_stage, stage_of
from prism_ray.stages.recover import RecoverUnit
from prism_ray.work.context import WorkContext

_LARGER_DEVICE = "give actors GPUs with more memory (orchestrate.accelerator_type)"
_SHARED_BYTES = 2 * 2**30  # used by others, beyond what CUDA itself may take


def make_room(context: WorkContext, error: BaseException, needed: Container[str] = ()) -> None:
    """Free the memory of the computation that failed with `error`, and all teachers that are not `needed`."""
    context.teachers.keep(needed)
    let_go(error)


def batch_too_large(
    context: WorkContext, unit: RecoverUnit, config: RecoverConfig, fits: int
) -> PrismRayError:
    """Return the error of a batch that does not fit even with activation checkpointing; `fits` images would.

    If others use the device too, the next attempt may succeed (EngineError). Otherwise every attempt, and
    every batch of this size, would fail in the same way (DeviceMemoryError).
    """
    teachers = ", ".join(dict.fromkeys([config.primary, *unit.teachers]))
    problem = (
        f"{unit.id}: {len(unit.slots)} images with the teachers {teachers} do not fit into the memory of "
        f"{describe_device(context.device)}, not even with activation checkpointing; "
        f"{fits or 'not even one'} would. "
    )
    if fits:
        remedies = f"lower recover.images_per_batch (now {config.images_per_batch}) to {fits} or less"
    else:
        remedies = f"lower data.image_size (now {context.config.data.image_size})"
    if max(map(len, unit.draws)) > 1:
        slots = config.selection.slots
        remedies += f", or draw fewer teachers at once (recover.selection.slots, now {slots})"
    others = bytes_of_others(context.device)
    share = context.config.orchestrate.gpus_per_actor
    if others > _SHARED_BYTES or (share != "auto" and 0.0 < share < 1.0):
        return EngineError(
            f"{problem}Other processes use {others / 2**30:.1f} GiB of it: leave it to one actor "
            f"(orchestrate.gpus_per_actor, now {share}), {_LARGER_DEVICE}, or {remedies}"
        )
    return DeviceMemoryError(f"{problem}To get the same images, {_LARGER_DEVICE}; to get others, {remedies}")


def out_of_memory(context: WorkContext, unit: Unit) -> EngineError:
    """Return the error of a unit for which its device's memory is too small."""
    smaller = find_stage(stage_of(unit.id)).smaller(context.config, unit)
    return EngineError(
        f"{unit.id} does not fit into the memory of {describe_device(context.device)}; "
        f"{f'{smaller}, or ' if smaller else ''}{_LARGER_DEVICE}"
    )
