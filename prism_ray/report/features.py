"""Features of the images of chosen classes, for the projection. No store has them: torch is loaded here."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prism_ray.analyze.initial import read_slots
from prism_ray.errors import PrismRayError
from prism_ray.report.opened import Opened
from prism_ray.stages.formation import Slot

_MAX_IPC = 50  # images of a class in a set
_MAX_IMAGES = 4000  # in all


@dataclass(frozen=True)
class Features:
    """The features of some images, in one space."""

    keys: tuple[tuple[str, str, int, int], ...]  # store, image set, label, IPC index
    values: npt.NDArray[np.float32]  # N, F
    teacher: str
    note: str  # what was left out; "" if nothing


def read_features(stores: Sequence[Opened], labels: Sequence[int]) -> Features | None:
    """Return the features of the images of some classes, of all sets and stores, by one network.

    It is the feature teacher of the first store, because features of different networks cannot be compared.
    None if no image of these classes is there. Raises PrismRayError if the teacher cannot be used.
    """
    import torch

    from prism_ray.analyze.pool import best_device
    from prism_ray.evaluate.diversity import penultimate_features
    from prism_ray.work.context import WorkContext

    first = stores[0]
    alike = [each for each in stores if each.run.facts.class_names == first.run.facts.class_names]
    alike = [each for each in alike if _form(each) == _form(first)]
    num_sets = sum(len(each.run.image_sets) for each in alike)
    num_ipc = max(1, min(_MAX_IPC, _MAX_IMAGES // max(1, num_sets * len(labels))))
    keys: list[tuple[str, str, int, int]] = []
    images: list[npt.NDArray[np.uint8]] = []
    most = 0
    for opened in alike:
        for name, its_run in opened.run.image_sets.items():
            ipc = its_run.config.image_sets[name].ipc
            most = max(most, ipc)
            wanted = {Slot(label, k) for label in labels for k in range(min(ipc, num_ipc))}
            found = read_slots(opened.files, opened.run, opened.progress, name, wanted)
            for slot, image in sorted(found.items(), key=lambda pair: pair[0]):
                keys.append((opened.name, name, slot.label, slot.ipc_index))
                images.append(image)
    if not images:
        return None
    name = first.run.config.feature_teacher
    with torch.inference_mode():
        device = best_device()
        teacher = WorkContext(first.run, first.files, device).teacher(name)
        values = penultimate_features(teacher, np.stack(images), device).float().cpu().numpy()
    if not np.isfinite(values).all():
        raise PrismRayError(f"the features of {name} are not finite")
    note = f"the first {num_ipc} of {most} images of each class" if most > num_ipc else ""
    return Features(tuple(keys), values, name, note)


def _form(opened: Opened) -> tuple[int, int]:
    return opened.run.facts.channels, opened.run.config.data.image_size
