"""The teacher ensemble, and its soft labels for a group of images."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from prism_ray.config import RelabelConfig
from prism_ray.errors import EngineError
from prism_ray.parts.images import StoredImages
from prism_ray.parts.labels import EpochLabels
from prism_ray.parts.views import Views, draw_views, whole_views
from prism_ray.relabel.augment import ShownImages
from prism_ray.relabel.views import ViewTensors, render, to_device
from prism_ray.seeds import derive_seed
from prism_ray.teachers.batchnorm import find_batchnorm
from prism_ray.teachers.precision import prepared
from prism_ray.teachers.teacher import Teacher, prior_shares, teacher_logits
from prism_ray.teachers.training import split_evenly


def norm_balanced_mean(logits: Sequence[Tensor]) -> Tensor:
    """Return the mean of the teachers' logits (each B, C), each scaled to the teachers' mean norm.

    The norm is the Frobenius norm over the whole group. So no teacher outweighs the others only because its
    logits are larger. Source: PRISM, arXiv 2511.09905, as G-VBSM before it.
    """
    stacked = torch.stack(list(logits))  # M, B, C
    norms = torch.linalg.vector_norm(stacked, dim=(1, 2), keepdim=True)  # M, 1, 1
    scaled: Tensor = stacked * (norms.mean() / norms)
    return scaled.mean(dim=0)


def weighted_mean(logits: Sequence[Tensor], priors: Sequence[float], temperature: float) -> Tensor:
    """Return the mean of the teachers' logits (each B, C), weighted by `prior_shares`."""
    weights = prior_shares(priors, temperature)
    stacked = torch.stack(list(logits))  # M, B, C
    return (weights.to(stacked)[:, None, None] * stacked).sum(dim=0)


def majority_mean(logits: Sequence[Tensor]) -> Tensor:
    """Return for each view the mean of the logits (each B, C) of the teachers that name its most-named class.

    If several classes have as many votes, the one with the largest sum of logits is taken.
    """
    stacked = torch.stack(list(logits))  # M, B, C
    named = stacked.argmax(dim=2)  # M, B
    votes = F.one_hot(named, stacked.shape[2]).sum(dim=0)  # B, C
    total = stacked.sum(dim=0)  # B, C
    winner = total.masked_fill(votes < votes.amax(dim=1, keepdim=True), -torch.inf).argmax(dim=1)  # B
    agrees = (named == winner).to(stacked.dtype)[:, :, None]  # M, B, 1
    mean: Tensor = (agrees * stacked).sum(dim=0) / agrees.sum(dim=0)
    return mean


def combine(logits: Sequence[Tensor], config: RelabelConfig, priors: Sequence[float]) -> Tensor:
    """Return the ensemble's logits (B, C) from those of the teachers, as `relabel.ensemble` says."""
    if config.ensemble == "mean":
        return torch.stack(list(logits)).mean(dim=0)
    if config.ensemble == "prior":
        return weighted_mean(logits, priors, config.prior_temperature)
    if config.ensemble == "majority":
        return majority_mean(logits)
    return norm_balanced_mean(logits)


@contextmanager
def batch_statistics(networks: Iterable[nn.Module]) -> Iterator[None]:
    """Make BatchNorm layers normalise with the statistics of their batch; their own do not change.

    Only these layers are switched: dropout and all else that training changes stays off. Frozen layers have
    no training mode and continue to use their own statistics.
    """
    layers = [layer for network in networks for layer in find_batchnorm(network)]
    before = [
        (layer, layer.training, layer.track_running_stats)
        for layer in layers
        if isinstance(layer, _BatchNorm)
    ]
    for layer, _, _ in before:
        layer.training, layer.track_running_stats = True, False
    try:
        yield
    finally:
        for layer, training, track_running_stats in before:
            layer.training, layer.track_running_stats = training, track_running_stats


class GroupLabeller:
    """The ensemble and the images of a label group: relabel stores what it says, online students ask it."""

    def __init__(
        self,
        name: str,
        seed: int,
        config: RelabelConfig,
        stored: StoredImages,
        teachers: Sequence[Teacher],
        device: torch.device,
        priors: Sequence[float] = (),
    ) -> None:
        """`name` is for messages; `seed` is that of the group. `stored` are the images of the group.
        `priors` are the prior accuracies of the teachers in percent, for ensemble prior.

        Raises EngineError if the teachers need batch statistics of one image.
        """
        self._name, self._seed, self._config = name, seed, config
        self._stored, self._teachers, self._device = stored, teachers, device
        self._priors = priors
        self._shown = ShownImages(stored, device)
        if config.teacher_batch_norm == "batch" and len(stored.slots) == 1:
            raise EngineError(
                f"{name}: relabel.teacher_batch_norm = 'batch' needs groups of two or more images, but this "
                f"group has one; raise relabel.images_per_group (now {config.images_per_group})"
            )

    def epoch(self, epoch: int) -> EpochLabels:
        """Return the soft labels of an epoch; raises EngineError if one is not finite."""
        stored = self._stored
        return self.label(
            draw_views(stored.slots, epoch, self._seed, self._config, stored.images.shape[-1]), epoch
        )

    def whole(self) -> EpochLabels:
        """Return the soft labels of the whole images; raises EngineError if one is not finite."""
        return self.label(whole_views(self._stored.slots, self._stored.images.shape[-1]), 0)

    @torch.no_grad()
    def label(self, views: Views, epoch: int) -> EpochLabels:
        """Return the soft labels of views of the group's images; raises EngineError if one is not finite."""
        config, stored, seed = self._config, self._stored, self._seed
        order = np.arange(len(views))
        if config.teacher_batch_norm == "batch":
            # Batch statistics need many classes; in a group of few IPC indices, neighbours have few.
            order = np.random.default_rng(derive_seed(seed, "batches", epoch)).permutation(len(views))
        on_device = to_device(views, stored.slots, self._device)
        pick = torch.from_numpy(order).to(self._device)
        logits = _label_views(self._shown.of_epoch(views), on_device, pick, config, self._teachers)
        half = combine(logits, config, self._priors).to(torch.float16).cpu().numpy()
        if not np.isfinite(half).all():
            names = ", ".join(teacher.name for teacher in self._teachers)
            raise EngineError(
                f"{self._name}: soft labels of epoch {epoch} are not finite in float16; one of the teachers "
                f"({names}) gives logits that are larger than 65504 or not finite: check their weights"
            )
        return EpochLabels(epoch, views, half)


def _label_views(
    images: Tensor, views: ViewTensors, order: Tensor, config: RelabelConfig, teachers: Sequence[Teacher]
) -> list[Tensor]:
    """Return each teacher's logits (B, C), in the order of the views.

    Teachers see them in batches of at most teacher_batch_size, in the order of `order` (B,).
    """
    by_batch = config.teacher_batch_norm == "batch"
    parts: list[list[Tensor]] = [[] for _ in teachers]
    networks = [teacher.network for teacher in teachers]
    with (
        prepared(networks, config.precision),
        batch_statistics(networks) if by_batch else nullcontext(),
    ):
        for batch in split_evenly(len(order), config.teacher_batch_size):
            pixels = render(images, views, order[batch])
            for collected, teacher in zip(parts, teachers, strict=True):
                collected.append(teacher_logits(teacher, pixels, config.precision))
    back = order.argsort()
    return [torch.cat(collected)[back] for collected in parts]
