"""The unit of recover: one batch of images, optimised or selected."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from prism_ray.config import AnyImageSet, RecoverConfig
from prism_ray.device import let_go
from prism_ray.errors import MissingLayerError
from prism_ray.parts.images import BatchLosses, write_images
from prism_ray.recover.engine import largest_fit, recover_batch
from prism_ray.recover.initial import Images, initial_images, initial_noise, shuffle_patches
from prism_ray.recover.setting import RecoverSetting
from prism_ray.recover.space import ReferenceSpace
from prism_ray.stages.collect import CollectKind, collection, collections_of
from prism_ray.stages.formation import Slot
from prism_ray.stages.recover import RecoverUnit
from prism_ray.store.remedy import unfit
from prism_ray.work.collect import load_reference, load_scores
from prism_ray.work.context import Finish, Work, WorkContext
from prism_ray.work.memory import batch_too_large, make_room


def recover(context: WorkContext, unit: RecoverUnit) -> Finish:
    """Make the images of a batch: optimise them, or select real ones.

    If the device's memory runs out, a second attempt optimises with activation checkpointing. It needs less
    memory and changes nothing else, so both resume from the same checkpoint. Raises DeviceMemoryError or
    EngineError if the memory runs out again.
    """
    config = context.config.image_sets[unit.image_set]
    if not isinstance(config, RecoverConfig):
        scorers = [teacher for _, teacher in collections_of(context.config, config)]
        stats: dict[str, Any] = {"weights": context.weights_of(scorers)} if scorers else {}
        return partial(_write, context, unit, real_images(context, unit.slots, config), stats)
    needed = [config.primary, *unit.teachers]
    weights = context.weights_of(needed)
    for recompute in (False, True):
        torch.manual_seed(unit.seed)  # for methods of other packages that draw from torch's own generator
        try:
            checkpoints = context.checkpoints(unit.id, sorted(weights.items()))
            batch = recover_batch(*_prepare(context, unit, config, recompute), checkpoints)
            break
        except torch.OutOfMemoryError as error:
            make_room(context, error, needed)
        except MissingLayerError as error:
            problem = f"no statistics of layer {error} were collected"
            raise unfit(context.files, _collections_without(context, unit, str(error)), problem) from None
    else:
        raise batch_too_large(context, unit, config, _largest_fit(context, unit, config))
    stats = {
        "teachers": unit.teachers,
        "num_iterations": unit.num_iterations,
        "resumed_at": batch.resumed_at,
        "activation_checkpointing": recompute,
        "first": asdict(batch.first),
        "last": asdict(batch.last),
        "weights": weights,
    }
    losses = BatchLosses(batch.last.ce, batch.last.bn, asdict(batch.curve))
    return partial(_write, context, unit, batch.images, stats, losses)


def _write(
    context: WorkContext,
    unit: RecoverUnit,
    images: Images,
    stats: dict[str, Any],
    losses: BatchLosses | None = None,
) -> Work:
    names, kind = context.data.class_names, context.config.image_files
    return Work(write_images(context.files, unit, images, names, kind, losses), stats)


def _collections_without(context: WorkContext, unit: RecoverUnit, layer: str) -> str:
    """Return the ids of the units that collected the statistics in which a layer is missing."""
    teacher = next(name for name in unit.teachers if layer not in context.references[name])
    return " ".join(one.id for one in collection(context.plan, "statistics", teacher))


def _largest_fit(context: WorkContext, unit: RecoverUnit, config: RecoverConfig) -> int:
    try:
        return largest_fit(*_prepare(context, unit, config, recompute=True))
    except torch.OutOfMemoryError as error:  # the teachers alone are too large
        let_go(error)
        return 0


def _prepare(
    context: WorkContext, unit: RecoverUnit, config: RecoverConfig, recompute: bool
) -> tuple[RecoverSetting, Tensor]:
    """Return what the optimisation needs, and the initial pixels (B, channels, H, W; reference space)."""
    preprocessing = context.teacher(config.primary).preprocessing
    labels = [slot.label for slot in unit.slots]
    with_classes = config.statistics.class_share > 0.0
    referenced = unit.teachers if with_classes or config.statistics.layers == "bn+conv" else ()
    selection = config.selection
    priors = dict(selection.priors)
    if selection.votes == "prior":
        priors = context.priors_of(unit.teachers, selection.priors, "recover.selection.priors")
    setting = RecoverSetting(
        unit=unit,
        config=config,
        teachers={name: context.teacher(name) for name in [config.primary, *unit.teachers]},
        labels=torch.tensor(labels, device=context.device),
        space=ReferenceSpace.of(preprocessing, context.data.channels, context.device),
        image_size=context.config.data.image_size,
        device=context.device,
        references={name: load_reference(context, name, labels, with_classes) for name in referenced},
        patch_size=context.config.collect.patch_size,
        priors=priors,
        recompute=recompute,
    )
    seed = context.config.seed
    if config.init == "noise":
        noise = initial_noise(unit.slots, config, context.data.channels, setting.image_size, seed)
        return setting, torch.from_numpy(noise).to(context.device)
    images = real_images(context, unit.slots, config)
    return setting, setting.space.from_images(torch.from_numpy(images).to(context.device))


def real_images(context: WorkContext, slots: Sequence[Slot], config: AnyImageSet) -> Images:
    """Return what an image set selects for some slots, or starts from: real images, or collages of them.

    uint8 (B, channels, H, W). Not for a set that starts from noise. Raises StoreError if scores that they
    are chosen by cannot be read.
    """
    kind = cast(CollectKind, config.init)  # the scores are loaded only if init is such a kind
    scores = partial(load_scores, context, kind, config.primary, {})
    size, seed = context.config.data.image_size, context.config.seed
    images = initial_images(slots, config, context.data, size, seed, scores, context.config.collect)
    if isinstance(config, RecoverConfig) and config.init_patch_shuffle:
        images = shuffle_patches(images, slots, config, seed)
    return images
