"""The teacher ensemble, and the soft labels it gives a group of images."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from prism_ray.config import RelabelConfig
from prism_ray.errors import EngineError
from prism_ray.parts.images import StoredImages
from prism_ray.parts.labels import EpochLabels
from prism_ray.relabel.augment import ShownImages
from prism_ray.relabel.views import ViewTensors, draw_views, render, to_device
from prism_ray.seeds import derive_seed
from prism_ray.stages.relabel import RelabelUnit
from prism_ray.teachers.batchnorm import find_batchnorm
from prism_ray.teachers.teacher import Teacher, teacher_logits
from prism_ray.teachers.training import split_evenly


def norm_balanced_mean(logits: Sequence[Tensor]) -> Tensor:
    """Return the mean of the teachers' logits (each B, C), each scaled to the teachers' mean norm.

    The norm is Frobenius', over the whole group, so that no teacher outweighs the others because its
    logits are larger. Source: PRISM, arXiv 2511.09905, as G-VBSM before it.
    """
    stacked = torch.stack(list(logits))  # M, B, C
    norms = torch.linalg.vector_norm(stacked, dim=(1, 2), keepdim=True)  # M, 1, 1
    scaled: Tensor = stacked * (norms.mean() / norms)
    return scaled.mean(dim=0)


@contextmanager
def batch_statistics(networks: Iterable[nn.Module]) -> Iterator[None]:
    """Let BatchNorm layers normalise with the statistics of what they see, and leave their own as they are.

    Only these layers are switched: dropout and all else that training changes stays off. Frozen layers,
    which have no training mode, keep to their statistics.
    """
    layers = [
        (layer, layer.training, layer.track_running_stats)
        for network in networks
        for layer in find_batchnorm(network)
        if isinstance(layer, _BatchNorm)
    ]
    for layer, _, _ in layers:
        layer.training, layer.track_running_stats = True, False
    try:
        yield
    finally:
        for layer, training, track_running_stats in layers:
            layer.training, layer.track_running_stats = training, track_running_stats


@torch.no_grad()
def label_group(
    unit: RelabelUnit,
    config: RelabelConfig,
    stored: StoredImages,
    teachers: Sequence[Teacher],
    device: torch.device,
) -> Iterator[EpochLabels]:
    """Yield the soft labels of a group, epoch by epoch.

    Raises EngineError if a teacher's logits are not finite, or if batch statistics are asked of one image.
    """
    shown = ShownImages(stored, device)
    size = stored.images.shape[-1]
    for epoch in range(unit.first_epoch, unit.first_epoch + unit.num_epochs):
        views = draw_views(stored.slots, epoch, unit.seed, config, size)
        order = _order_of_labelling(unit, epoch, config, len(views))
        logits = _label_views(
            shown.of_epoch(views),
            to_device(views, stored.slots, device),
            torch.from_numpy(order).to(device),
            config,
            teachers,
        )
        if config.ensemble == "norm-balanced":
            mean = norm_balanced_mean(logits)
        else:
            mean = torch.stack(logits).mean(dim=0)
        half = mean.to(torch.float16).cpu().numpy()
        if not np.isfinite(half).all():
            names = ", ".join(teacher.name for teacher in teachers)
            raise EngineError(
                f"{unit.id}: soft labels of epoch {epoch} are not finite in float16; look at the "
                f"teachers ({names}), one of which gives logits beyond 65504 or none at all"
            )
        yield EpochLabels(epoch, views, half)


def _order_of_labelling(
    unit: RelabelUnit, epoch: int, config: RelabelConfig, count: int
) -> npt.NDArray[np.int64]:
    """Return the places of the views in the order in which the teachers are shown them.

    It matters to batch statistics alone. They want batches of many classes, and the views stand by IPC index
    and class, so that of a group of few IPC indices a batch would show neighbouring classes: it is drawn.
    """
    if config.teacher_batch_norm == "running":
        return np.arange(count)
    if count == 1:
        raise EngineError(
            f"{unit.id}: relabel.teacher_batch_norm = 'batch' needs groups of two images or more, and this "
            "one has a single image; raise relabel.images_per_group"
        )
    return np.random.default_rng(derive_seed(unit.seed, "batches", epoch)).permutation(count)


def _label_views(
    images: Tensor, views: ViewTensors, order: Tensor, config: RelabelConfig, teachers: Sequence[Teacher]
) -> list[Tensor]:
    """Return each teacher's logits (B, C) of the views, at their places.

    Teachers see them in batches of at most teacher_batch_size, along `order` (B,).
    """
    networks = [teacher.network for teacher in teachers]
    by_batch = config.teacher_batch_norm == "batch"
    parts: list[list[Tensor]] = [[] for _ in teachers]
    with batch_statistics(networks) if by_batch else nullcontext():
        for batch in split_evenly(len(order), config.teacher_batch_size):
            pixels = render(images, views, order[batch])
            for collected, teacher in zip(parts, teachers, strict=True):
                collected.append(teacher_logits(teacher, pixels))
    places = order.argsort()
    return [torch.cat(collected)[places] for collected in parts]
