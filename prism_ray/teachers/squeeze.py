"""Squeeze: the training of a network on the real images with AdamW, one-cycle rate and cross-entropy."""

import math
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prism_ray.config import SqueezeConfig
from prism_ray.data import RealImages
from prism_ray.data.base import IN_MEMORY_BYTES
from prism_ray.errors import EngineError
from prism_ray.sealed import Checkpoints
from prism_ray.seeds import derive_seed
from prism_ray.teachers.precision import logits_of
from prism_ray.teachers.teacher import Preprocessing, channels_last, to_pixels, triple
from prism_ray.teachers.training import split_evenly
from prism_ray.teachers.training_state import encode_checkpoint, max_checkpoint_bytes, restore_checkpoint

_READ_BATCH = 1024
_BETA2 = 0.999  # AdamW's second beta
_LOSSES = "losses"


def measure_preprocessing(data: RealImages, size: int) -> Preprocessing:
    """Return mean and std of each channel over the training images (exact integer sums)."""
    total, squares = np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.int64)
    num_pixels = 0
    for chunk in split_evenly(len(data.labels["train"]), _READ_BATCH):
        images = data.read("train", np.arange(chunk.start, chunk.stop)).astype(np.int64)
        total += images.sum(axis=(0, 2, 3))
        squares += (images**2).sum(axis=(0, 2, 3))
        num_pixels += images[:, 0].size
    mean = total / num_pixels / 255.0
    variance = squares / num_pixels / 255.0**2 - mean**2
    return Preprocessing(triple(mean), triple(np.sqrt(np.maximum(variance, 1e-6))), size)


def train(
    network: nn.Module,
    data: RealImages,
    preprocessing: Preprocessing,
    config: SqueezeConfig,
    seed: int,
    device: torch.device,
    checkpoints: Checkpoints | None = None,
) -> tuple[float, ...]:
    """Train `network` in place; return the mean loss of each epoch.

    All randomness of an epoch is drawn from `seed` and the epoch's number.

    With `checkpoints`, one is saved after an epoch when it is due; an interrupted training resumes from the
    last one and ends with the same bytes. Raises EngineError if the loss is not finite.
    """
    labels = torch.from_numpy(data.labels["train"]).to(device)
    images = _TrainImages(data, device)
    batches = split_evenly(len(labels), config.batch_size)
    channels_last(network.to(device)).train()
    rate = config.learning_rate
    decay = config.weight_decay
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=decay, fused=True)
    identity = f"squeeze {seed} {preprocessing} {config.model_dump_json()} {network}"
    first_epoch, num_steps = 0, config.epochs * len(batches)
    losses: list[float] = []
    if checkpoints is not None:
        identity = f"{checkpoints.identity} {identity}"
        saved = checkpoints.load(max_checkpoint_bytes(network))
        progress = restore_checkpoint(saved, network, optimizer, identity, config.epochs)
        first_epoch, losses = progress.num_epochs, progress.more.get(_LOSSES, torch.zeros(0)).tolist()
    for epoch in range(first_epoch, config.epochs):
        epoch_seed = derive_seed(seed, "epoch", epoch)
        torch.manual_seed(epoch_seed)  # dropout
        order, moves = _draw_epoch(np.random.default_rng(epoch_seed), len(labels), config, device)
        epoch_loss = torch.zeros((), device=device)
        for number, batch in enumerate(batches):
            step = epoch * len(batches) + number
            factor, beta = one_cycle(step, num_steps)
            optimizer.param_groups[0] |= {"lr": rate * factor, "betas": (beta, _BETA2)}
            pixels = to_pixels(images.read(order[batch], moves[batch]))
            logits = logits_of(network, preprocessing.apply(pixels), config.precision)
            loss = F.cross_entropy(logits, labels[order[batch]])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            epoch_loss += loss.detach()
            if checkpoints is not None:
                checkpoints.report(step + 1, num_steps, partial(_values, epoch, config.epochs, loss.detach()))
        if not torch.isfinite(epoch_loss):
            raise EngineError(
                f"squeeze: the loss is not finite in epoch {epoch}; lower "
                f"teachers.squeeze.learning_rate (now {rate})"
            )
        losses.append(round(float(epoch_loss) / len(batches), 5))
        if checkpoints is not None and epoch + 1 < config.epochs and checkpoints.due():
            more = {_LOSSES: torch.tensor(losses, dtype=torch.float64)}
            checkpoints.save(encode_checkpoint(network, optimizer, epoch + 1, identity, more))
    return tuple(losses)


def _values(epoch: int, num_epochs: int, loss: Tensor) -> dict[str, float]:
    return {"epoch": epoch + 1, "epochs": num_epochs, "loss": float(loss)}


def one_cycle(step: int, num_steps: int) -> tuple[float, float]:
    """Return the factor of the peak learning rate, and AdamW's first beta, in `step` (from 0).

    The factor rises from 1/25 on a cosine in three tenths of the steps, then falls to 1/250,000; beta goes
    from 0.95 to 0.85 and back. Source: torch's OneCycleLR with its defaults, as a function of the step alone.
    """
    peak, last = 0.3 * num_steps - 1, num_steps - 1
    if step <= peak:
        part = _cosine(step / peak)
        return 1 / 25 + (1 - 1 / 25) * part, 0.95 - 0.1 * part
    part = _cosine((step - peak) / (last - peak))
    return 1 + (1 / 250_000 - 1) * part, 0.85 + 0.1 * part


def _cosine(progress: float) -> float:
    """Return a value that rises from 0 to 1 on half a cosine."""
    return 0.5 - 0.5 * math.cos(math.pi * progress)


class _TrainImages:
    """The training images, kept on the device if they are not too large, and their augmentation."""

    def __init__(self, data: RealImages, device: torch.device) -> None:
        self._data, self._device = data, device
        self._all: Tensor | None = None  # N, channels, H, W
        num_images = len(data.labels["train"])
        if num_images * data.read("train", np.arange(1)).nbytes <= IN_MEMORY_BYTES:
            chunks = split_evenly(num_images, _READ_BATCH)
            read = (data.read("train", np.arange(chunk.start, chunk.stop)) for chunk in chunks)
            self._all = torch.cat([torch.from_numpy(images).to(device) for images in read])

    def read(self, indices: Tensor, moves: Tensor) -> Tensor:
        """Return the uint8 images at `indices` (B,), each moved and mirrored by its row of `moves` (B, 3)."""
        if self._all is not None:
            return augment(self._all, indices, moves)
        images = torch.from_numpy(self._data.read("train", indices.cpu().numpy())).to(self._device)
        return augment(images, torch.arange(len(images), device=self._device), moves)


def augment(images: Tensor, indices: Tensor, moves: Tensor) -> Tensor:
    """Return images (N, channels, H, W) at `indices` (B,), each moved and then mirrored, in one gather.

    `moves` (B, 3): pixels down, pixels right, 1 to mirror left to right. Borders are repeated.
    """
    down, right, mirror = moves[:, 0:1], moves[:, 1:2], moves[:, 2:3]
    channel, row, column = (torch.arange(size, device=images.device)[None, :] for size in images.shape[1:])
    height, width = images.shape[2:]
    rows = (row - down).clamp(0, height - 1)  # B, H
    columns = torch.where(mirror == 1, width - 1 - column, column)
    columns = (columns - right).clamp(0, width - 1)  # B, W
    index = indices[:, None, None, None]
    return images[index, channel[:, :, None, None], rows[:, None, :, None], columns[:, None, None, :]]


def _draw_epoch(
    rng: np.random.Generator, count: int, config: SqueezeConfig, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return the order of an epoch's images (N,) and the moves for each position in it (N, 3)."""
    order = rng.permutation(count)
    moves = rng.integers(-config.shift, config.shift + 1, (count, 3))
    moves[:, 2] = rng.integers(0, 2, count) * config.flip
    return torch.from_numpy(order).to(device), torch.from_numpy(moves).to(device)
