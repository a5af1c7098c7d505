"""Squeeze: train a network on the real images. AdamW, one-cycle learning rate, cross-entropy."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prism_ray.config import SqueezeConfig
from prism_ray.data import RealImages
from prism_ray.errors import EngineError
from prism_ray.teachers.teacher import Preprocessing, to_pixels
from prism_ray.teachers.training import split_evenly

_READ_BATCH = 1024


def measure_preprocessing(data: RealImages, size: int) -> Preprocessing:
    """Return mean and std of each channel over the training images (exact integer sums)."""
    total = np.zeros(3, dtype=np.int64)
    squares = np.zeros(3, dtype=np.int64)
    num_pixels = 0
    num_images = len(data.labels["train"])
    for chunk in split_evenly(num_images, _READ_BATCH):
        images = data.read("train", np.arange(chunk.start, chunk.stop)).astype(np.int64)
        total += images.sum(axis=(0, 2, 3))
        squares += (images**2).sum(axis=(0, 2, 3))
        num_pixels += images[:, 0].size
    mean = total / num_pixels / 255.0
    variance = squares / num_pixels / 255.0**2 - mean**2
    std = np.sqrt(np.maximum(variance, 1e-6))
    return Preprocessing(_triple(mean), _triple(std), size)


def train(
    network: nn.Module,
    data: RealImages,
    preprocessing: Preprocessing,
    config: SqueezeConfig,
    seed: int,
    device: torch.device,
) -> None:
    """Train `network` in place; order, shifts and flips are drawn from `seed`.

    Raises EngineError if the loss is not finite.
    """
    rng = np.random.default_rng(seed)
    labels = torch.from_numpy(data.labels["train"])
    num_steps = config.epochs * len(split_evenly(len(labels), config.batch_size))
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=config.learning_rate, total_steps=num_steps
    )
    network.to(device).to(memory_format=torch.channels_last).train()
    for epoch in range(config.epochs):
        epoch_loss = torch.zeros((), device=device)
        order = rng.permutation(len(labels))
        for batch in split_evenly(len(labels), config.batch_size):
            indices = order[batch]
            images = torch.from_numpy(data.read("train", indices)).to(device, non_blocking=True)
            pixels = _augment(to_pixels(images), rng, config)
            logits = network(preprocessing.apply(pixels))
            loss = F.cross_entropy(logits, labels[indices].to(device, non_blocking=True))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            epoch_loss += loss.detach()
        if not torch.isfinite(epoch_loss):
            raise EngineError(
                f"squeeze: the loss is not finite in epoch {epoch}; lower "
                f"teachers.squeeze.learning_rate (now {config.learning_rate})"
            )


def _augment(pixels: Tensor, rng: np.random.Generator, config: SqueezeConfig) -> Tensor:
    """Move the batch by up to `shift` pixels, its border repeated, and mirror it half of the time."""
    top, left = rng.integers(0, 2 * config.shift + 1, size=2)
    mirror = bool(rng.integers(0, 2)) and config.flip
    if config.shift:
        height, width = pixels.shape[2:]
        padded = F.pad(pixels, (config.shift,) * 4, mode="replicate")
        pixels = padded[:, :, top : top + height, left : left + width]
    return pixels.flip(3) if mirror else pixels


def _triple(values: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
