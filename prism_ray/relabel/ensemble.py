"""The teacher ensemble, and its soft labels for a group of images."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

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
from prism_ray.relabel.views import render, to_device
from prism_ray.seeds import derive_seed
from prism_ray.teachers.batchnorm import find_batchnorm
from prism_ray.teachers.folded import folded
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


def epochs_together(config: RelabelConfig, num_images: int) -> int:
    """Return how many epochs of a group of `num_images` pass through the teachers as one batch.

    A teacher takes about as long for six views as for a hundred.
    """
    if config.teacher_batch_norm == "batch":  # the statistics are those of an epoch
        return 1
    return max(1, config.teacher_batch_size // num_images)


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
        self._together: dict[int, EpochLabels] = {}  # epochs that were labelled last
        if config.teacher_batch_norm == "batch" and len(stored.slots) == 1:
            raise EngineError(
                f"{name}: relabel.teacher_batch_norm = 'batch' needs groups of two or more images, but this "
                f"group has one; raise relabel.images_per_group (now {config.images_per_group})"
            )

    def epoch(self, epoch: int) -> EpochLabels:
        """Return the soft labels of an epoch; raises EngineError if one is not finite."""
        if epoch not in self._together:
            epochs = self._epochs_with(epoch)
            slots, size = self._stored.slots, self._stored.images.shape[-1]
            views = [draw_views(slots, each, self._seed, self._config, size) for each in epochs]
            labels = self._of_small_group(views, epochs) if len(epochs) > 1 else [self._of(views[0], epoch)]
            self._together = dict(zip(epochs, labels, strict=True))
        return self._together[epoch]

    def whole(self) -> EpochLabels:
        """Return the soft labels of the whole images; raises EngineError if one is not finite."""
        return self._of(whole_views(self._stored.slots, self._stored.images.shape[-1]), 0)

    def _epochs_with(self, epoch: int) -> range:
        """Return the epochs whose views pass through the teachers together with those of `epoch`.

        They depend on the settings alone, so labels have the same bytes whoever asks for them, in any order.
        """
        config, together = self._config, epochs_together(self._config, len(self._stored.slots))
        begin = epoch // config.epochs_per_unit * config.epochs_per_unit
        first = epoch - (epoch - begin) % together
        end = min(first + together, begin + config.epochs_per_unit, config.num_label_epochs)
        return range(first, max(end, epoch + 1))

    @torch.no_grad()
    def _of(self, views: Views, epoch: int) -> EpochLabels:
        """Return the soft labels of views of the group's images."""
        config, stored, seed = self._config, self._stored, self._seed
        order = np.arange(len(views))
        if config.teacher_batch_norm == "batch":
            # Batch statistics need many classes; in a group of few IPC indices, neighbours have few.
            order = np.random.default_rng(derive_seed(seed, "batches", epoch)).permutation(len(views))
        images, on_device = self._shown.of_epoch(views), to_device(views, stored.slots, self._device)
        pick = torch.from_numpy(order).to(self._device)
        batches = split_evenly(len(order), config.teacher_batch_size)
        logits = self._ask(render(images, on_device, pick[batch]) for batch in batches)
        back = pick.argsort()
        return self._combined([each[back] for each in logits], views, epoch)

    @torch.no_grad()
    def _of_small_group(self, views: Sequence[Views], epochs: Sequence[int]) -> list[EpochLabels]:
        """Return the soft labels of several epochs, whose views the teachers see as one batch."""
        every = torch.arange(len(self._stored.slots), device=self._device)
        pixels = [
            render(self._shown.of_epoch(each), to_device(each, self._stored.slots, self._device), every)
            for each in views
        ]
        logits = self._ask([torch.cat(pixels)])
        by_epoch = zip(*(torch.split(each, len(every)) for each in logits), strict=True)
        return [self._combined(*each) for each in zip(by_epoch, views, epochs, strict=True)]

    def _ask(self, batches: Iterable[Tensor]) -> list[Tensor]:
        """Return each teacher's logits (B, C) of the views in batches of pixels (b, channels, H, W)."""
        config, teachers = self._config, self._teachers
        networks = [teacher.network for teacher in teachers]
        by_batch = config.teacher_batch_norm == "batch"
        parts: list[list[Tensor]] = [[] for _ in teachers]
        with (
            batch_statistics(networks) if by_batch else folded(teachers),
            prepared(networks, config.precision),
        ):
            for pixels in batches:
                for collected, teacher in zip(parts, teachers, strict=True):
                    collected.append(teacher_logits(teacher, pixels, config.precision))
        return [torch.cat(collected) for collected in parts]

    def _combined(self, logits: Sequence[Tensor], views: Views, epoch: int) -> EpochLabels:
        """Return the ensemble's labels of an epoch; raises EngineError if one is not finite."""
        half = combine(logits, self._config, self._priors).to(torch.float16).cpu().numpy()
        if not np.isfinite(half).all():
            names = ", ".join(teacher.name for teacher in self._teachers)
            raise EngineError(
                f"{self._name}: soft labels of epoch {epoch} are not finite in float16; one of the teachers "
                f"({names}) gives logits that are larger than 65504 or not finite: check their weights"
            )
        return EpochLabels(epoch, views, half)
