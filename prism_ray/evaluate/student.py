"""Post-evaluation: train a fresh student on images and their soft labels, test it on real images."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from prism_ray.config import EvaluateConfig
from prism_ray.data import RealImages
from prism_ray.errors import EngineError, StoreError
from prism_ray.evaluate.protocol import learning_rate_factor, make_optimizer, student_loss
from prism_ray.relabel.views import render, to_device
from prism_ray.store.images import StoredImages
from prism_ray.store.labels import EpochLabels
from prism_ray.teachers.build import build_network
from prism_ray.teachers.teacher import Preprocessing
from prism_ray.teachers.training import measure_accuracy, split_evenly


@dataclass(frozen=True)
class StudentResult:
    """What a student came to after its last epoch."""

    test_accuracy: float  # share in [0, 1]
    train_loss: float  # mean over the last epoch's steps


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
    """Train a student for as many epochs as there are labels, and test it once, at the end.

    The caller has seeded torch, which draws the first weights; the order of the images is drawn from
    `seed`. Labels are looked up by (image, epoch), so the batch size is free. Raises EngineError if the
    loss is not finite, StoreError if images lack labels.
    """
    student = build_network(config.student, len(data.class_names), "evaluate.student")
    student.to(device).to(memory_format=torch.channels_last)
    images = torch.from_numpy(stored.images).to(device)
    optimizer = make_optimizer(student, config)
    rng = np.random.default_rng(seed)
    mean_loss = torch.zeros((), device=device)
    student.train()
    for epoch in range(num_epochs):
        labels = read_epoch(epoch)
        if len(labels.views) != len(stored.slots):
            raise StoreError(
                f"epoch {epoch} has {len(labels.views)} soft labels for {len(stored.slots)} images; run "
                "`prism-ray verify`"
            )
        views = to_device(labels.views, stored.slots, device)
        soft_labels = torch.from_numpy(labels.logits).to(device, torch.get_default_dtype())
        hard_labels = torch.from_numpy(labels.views.label).to(device)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * learning_rate_factor(epoch, num_epochs)
        order = torch.from_numpy(rng.permutation(len(labels.views))).to(device)
        batches = split_evenly(len(order), config.batch_size)
        epoch_loss = torch.zeros((), device=device)
        for batch in batches:
            pick = order[batch]
            logits = student(preprocessing.apply(render(images, views, pick)))
            loss = student_loss(logits, soft_labels[pick], hard_labels[pick], config.ce_weight)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            epoch_loss += loss.detach()
        mean_loss = epoch_loss / len(batches)
        if not torch.isfinite(mean_loss):
            raise EngineError(
                f"evaluate: the student's loss is not finite in epoch {epoch}; lower "
                f"evaluate.learning_rate (now {config.learning_rate})"
            )
    accuracy = measure_accuracy(student, data, preprocessing, device)
    return StudentResult(test_accuracy=accuracy, train_loss=float(mean_loss))
