"""The teacher ensemble, and the soft labels it gives a group of images."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from prism_ray.config import RelabelConfig
from prism_ray.errors import EngineError
from prism_ray.plan import RelabelUnit
from prism_ray.relabel.views import draw_views, render, to_device
from prism_ray.store.images import StoredImages
from prism_ray.store.labels import EpochLabels
from prism_ray.teachers.teacher import Teacher
from prism_ray.teachers.training import split_evenly

_BATCH = 256


def norm_balanced_mean(logits: Sequence[Tensor]) -> Tensor:
    """Return the mean of the teachers' logits (each B, C), each scaled to the teachers' mean norm.

    The norm is Frobenius', over the whole group, so that no teacher outweighs the others because its
    logits are larger. Source: PRISM, arXiv 2511.09905, as G-VBSM before it.
    """
    stacked = torch.stack(list(logits))  # M, B, C
    norms = torch.linalg.vector_norm(stacked, dim=(1, 2), keepdim=True)  # M, 1, 1
    scaled: Tensor = stacked * (norms.mean() / norms)
    return scaled.mean(dim=0)


@torch.no_grad()
def label_group(
    unit: RelabelUnit,
    config: RelabelConfig,
    stored: StoredImages,
    teachers: Sequence[Teacher],
    device: torch.device,
) -> Iterator[EpochLabels]:
    """Yield the soft labels of a group, epoch by epoch.

    Raises EngineError if a teacher's logits are not finite.
    """
    images = torch.from_numpy(stored.images).to(device)
    size = images.shape[-1]
    batches = split_evenly(len(stored.slots), _BATCH)
    places = torch.arange(len(stored.slots), device=device)
    for epoch in range(unit.first_epoch, unit.first_epoch + unit.num_epochs):
        views = draw_views(stored.slots, epoch, unit.seed, config, size)
        tensors = to_device(views, stored.slots, device)
        logits: list[list[Tensor]] = [[] for _ in teachers]
        for batch in batches:
            pixels = render(images, tensors, places[batch])
            for collected, teacher in zip(logits, teachers, strict=True):
                collected.append(teacher.network(teacher.preprocessing.apply(pixels)))
        mean = norm_balanced_mean([torch.cat(parts) for parts in logits])
        half = mean.to(torch.float16).cpu().numpy()
        if not np.isfinite(half).all():
            names = ", ".join(teacher.name for teacher in teachers)
            raise EngineError(
                f"{unit.id}: soft labels of epoch {epoch} are not finite in float16; look at the "
                f"teachers ({names}), one of which gives logits beyond 65504 or none at all"
            )
        yield EpochLabels(epoch, views, half)
