"""The initial images of an image set: those of the control, or the real images once more.

The second way needs the real images, and loads torch. Without them `initial_beside` says so.
"""

from collections.abc import Callable, Collection, Sequence

import numpy as np
import numpy.typing as npt

from prism_ray.config import AnyImageSet, RecoverConfig
from prism_ray.errors import DataError, PrismRayError
from prism_ray.parts.images import ImageForm, read_batch
from prism_ray.run import Run, RunProgress
from prism_ray.run.sets import batches_with
from prism_ray.stages.formation import Slot
from prism_ray.store import StoreFiles, read_commit

Images = npt.NDArray[np.uint8]  # B, channels, H, W


def initial_key(config: AnyImageSet) -> tuple[object, ...]:
    """Return what the initial images of a set depend on: sets with the same key start alike.

    The images of a selection are its initial images.
    """
    scorer = config.primary if config.init in ("median", "rded") else None
    is_shuffled = isinstance(config, RecoverConfig) and config.init_patch_shuffle
    return (config.init, config.ipc, config.replicate, scorer, is_shuffled)


def same_as(run: Run, image_set: str) -> str | None:
    """Return the image set whose images are the initial images of another, None if there is none.

    It selects real images as the other does: usually that is the control.
    """
    config = run.image_sets[image_set].config.image_sets[image_set]
    if not isinstance(config, RecoverConfig):
        return None
    for name, its_run in run.image_sets.items():
        other = its_run.config.image_sets[name]
        if not isinstance(other, RecoverConfig) and initial_key(other) == initial_key(config):
            return name
    return None


def read_slots(
    files: StoreFiles, run: Run, progress: RunProgress, image_set: str, slots: Collection[Slot]
) -> dict[Slot, Images]:
    """Return the stored images of some slots, (channels, H, W) each; slots without one are left out.

    A batch is read at a time. Raises StoreError if one cannot be read.
    """
    plan, wanted = run.image_sets[image_set].plan, set(slots)
    form, found = ImageForm.of(plan, image_set), dict[Slot, Images]()
    for unit_id in batches_with(plan, progress.done, image_set, wanted):
        _, stored = read_batch(files, read_commit(files, unit_id), form)
        found |= {
            slot: image for slot, image in zip(stored.slots, stored.images, strict=True) if slot in wanted
        }
    return found


def initial_beside(
    files: StoreFiles, run: Run, progress: RunProgress, image_set: str, slots: Sequence[Slot]
) -> tuple[dict[Slot, Images], str]:
    """Return the initial images of an image set, (channels, H, W) each, and why some or all are missing.

    "" if none is missing, and for a selection, whose images are their own initial ones.
    """
    config = run.image_sets[image_set].config.image_sets[image_set]
    if not isinstance(config, RecoverConfig):
        return {}, ""
    if config.init == "noise":
        return {}, "it started from noise"
    same = same_as(run, image_set)
    found = read_slots(files, run, progress, same, slots) if same is not None else {}
    rest = [slot for slot in slots if slot not in found]
    try:
        found |= zip(rest, make_initial_images(files, run, image_set, rest), strict=True) if rest else ()
    except (PrismRayError, OSError) as error:
        return found, str(error)
    return found, ""


def make_initial_images(files: StoreFiles, run: Run, image_set: str, slots: Sequence[Slot]) -> Images:
    """Return the initial images of some slots of an optimised set, which start from real ones.

    Raises as `initial_maker`, and StoreError if the scores of the real images cannot be read.
    """
    return initial_maker(files, run, image_set)(slots)


def initial_maker(files: StoreFiles, run: Run, image_set: str) -> Callable[[Sequence[Slot]], Images]:
    """Return `make_initial_images` for one set: the real images are opened here, once for all slots.

    To open them takes the whole index of an image folder, seconds for a million files. Raises DataError if
    the real images are missing or others than those of the run.
    """
    import torch

    from prism_ray.work.context import WorkContext
    from prism_ray.work.recover import real_images

    its_run = run.of_image_set(image_set, files.location)
    config = its_run.config.image_sets[image_set]
    assert isinstance(config, RecoverConfig)
    assert config.init != "noise"
    context = WorkContext(its_run, files, torch.device("cpu"))
    data, facts = context.data, its_run.facts
    counts = np.bincount(data.labels["train"], minlength=len(data.class_names))
    if data.class_names != facts.class_names or tuple(counts) != facts.train_counts:
        raise DataError(
            f"the real images of {its_run.config.data.source} are no longer those that {files.location} was "
            "made from; put them where the config of the run says"
        )
    return lambda slots: real_images(context, slots, config)
