"""Post-evaluation: train a fresh student on images and their labels, test it on real images."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from prism_ray.config import EvaluateConfig
from prism_ray.data import RealImages
from prism_ray.errors import EngineError, StoreError
from prism_ray.evaluate.protocol import (
    Targets,
    WeightAverage,
    label_temperature,
    learning_rate_factor,
    make_optimizer,
    student_loss,
)
from prism_ray.parts.images import StoredImages
from prism_ray.parts.labels import EpochLabels
from prism_ray.relabel.augment import ShownImages
from prism_ray.relabel.views import render, to_device
from prism_ray.teachers.build import build_network
from prism_ray.teachers.teacher import Preprocessing
from prism_ray.teachers.training import measure_accuracy, split_evenly


@dataclass(frozen=True)
class StudentResult:
    """The result of a student after its last epoch."""

    accuracy: float  # share in [0, 1] of the real images of `split`
    train_loss: float  # mean over the last epoch's steps
    split: str  # "test", or "validation" while settings are chosen


def train_student(
    stored: StoredImages,
    read_epoch: Callable[[int], EpochLabels],
    num_epochs: int,
    config: EvaluateConfig,
    data: RealImages,
    preprocessing: Preprocessing,
    seed: int,
    device: torch.device,
) -> StudentResult:
    """Train a student for `num_epochs`, and test it once, at the end.

    torch draws the first weights, and the caller seeds it; the order of the images is drawn from `seed`.
    Labels are looked up by (image, epoch), so any batch size works. Raises EngineError if the loss is not
    finite, StoreError if images have no labels.
    """
    student = build_network(config.student, len(data.class_names), "evaluate.student")
    student.to(device).to(memory_format=torch.channels_last)
    shown = ShownImages(stored, device)
    optimizer = make_optimizer(student, config)
    average = WeightAverage(student, config.ema_decay) if config.ema_decay > 0.0 else None
    rng = np.random.default_rng(seed)
    mean_loss = torch.zeros((), device=device)
    student.train()
    for epoch in range(num_epochs):
        labels = read_epoch(epoch)
        if len(labels.views) != len(stored.slots):
            raise StoreError(
                f"epoch {epoch} has {len(labels.views)} soft labels for {len(stored.slots)} images: "
                "labels are missing"
            )
        views = to_device(labels.views, stored.slots, device)
        images = shown.of_epoch(labels.views)
        targets = _targets(labels, config, images.shape[-1], device)
        factor = learning_rate_factor(epoch, num_epochs, config.cosine_stretch, config.linear_tail)
        temperature = label_temperature(epoch, num_epochs, config)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * factor
        # Drawn from views sorted by slot: students of two image sets with the same slots have the same order,
        # whatever their batches and groups.
        by_slot = np.lexsort((labels.views.label, labels.views.ipc_index))
        order = torch.from_numpy(by_slot[rng.permutation(len(by_slot))]).to(device)
        batches = split_evenly(len(order), config.batch_size)
        epoch_loss = torch.zeros((), device=device)
        for batch in batches:
            pick = order[batch]
            logits = student(preprocessing.apply(render(images, views, pick)))
            loss = student_loss(logits, targets.pick(pick), config, temperature)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if average is not None:
                average.update()
            epoch_loss += loss.detach()
        mean_loss = epoch_loss / len(batches)
        if not torch.isfinite(mean_loss):
            raise EngineError(
                f"evaluate: the student's loss is not finite in epoch {epoch}; lower "
                f"evaluate.learning_rate (now {config.learning_rate})"
            )
    if average is not None:
        average.copy_to_network()
    accuracy = measure_accuracy(student, data, preprocessing, device, split=config.split)
    return StudentResult(accuracy=accuracy, train_loss=float(mean_loss), split=config.split)


def _targets(labels: EpochLabels, config: EvaluateConfig, size: int, device: torch.device) -> Targets:
    """Move an epoch's labels to the device; the soft ones stay float16 until the loss."""
    views = labels.views
    share = views.box_height * views.box_width / size**2
    is_soft = config.labels == "soft"
    return Targets(
        soft_labels=torch.from_numpy(labels.logits).to(device) if is_soft else None,
        kept=torch.from_numpy(labels.kept).to(device) if is_soft and labels.kept is not None else None,
        label=torch.from_numpy(views.label).to(device),
        partner_label=torch.from_numpy(views.partner_label).to(device),
        partner_share=torch.from_numpy(share).to(device, torch.get_default_dtype()),
    )
