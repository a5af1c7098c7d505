"""Post-evaluation: train a fresh student on images and their labels, test it on real images."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import astuple, dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor

from prism_ray.config import EvaluateConfig
from prism_ray.data import RealImages
from prism_ray.errors import EngineError, StoreError
from prism_ray.evaluate.full_data import FullData
from prism_ray.evaluate.protocol import (
    Targets,
    WeightAverage,
    label_temperature,
    learning_rate_factor,
    make_optimizer,
    student_loss,
)
from prism_ray.evaluate.testing import StudentTest, take_test
from prism_ray.parts.images import StoredImages
from prism_ray.parts.labels import EpochLabels
from prism_ray.parts.views import MixUpViews
from prism_ray.relabel.augment import ShownImages
from prism_ray.relabel.views import Pixels, ViewTensors, render, to_device
from prism_ray.sealed import Checkpoints
from prism_ray.seeds import derive_seed
from prism_ray.teachers.build import build_network
from prism_ray.teachers.precision import logits_of
from prism_ray.teachers.teacher import Preprocessing, channels_last
from prism_ray.teachers.training import split_evenly
from prism_ray.teachers.training_state import (
    Progress,
    encode_checkpoint,
    max_checkpoint_bytes,
    restore_checkpoint,
)

_CURVE = "curve"
_NO_CURVE = torch.zeros(0, 3)
_NOT_OF_ONE = {"num_students", "image_sets"}  # settings that change nothing in a student


@dataclass(frozen=True)
class CurvePoint:
    """A student after an epoch."""

    num_epochs: int  # that it was trained for
    train_loss: float  # mean over the last of them
    accuracy: float


@dataclass(frozen=True)
class StudentResult:
    """The result of a student after its last epoch. Accuracies are shares in [0, 1] of the images of `split`.

    The best accuracy was chosen by looking at the tested images, so it is no fair headline.
    """

    accuracy: float
    train_loss: float  # mean over the last epoch's steps
    split: str  # "test", or "validation" while settings are chosen
    top5_accuracy: float
    best_accuracy: float  # of the tests in `curve`
    best_num_epochs: int
    class_accuracies: tuple[float | None, ...]  # by label; None: no image of the class in the split
    curve: tuple[CurvePoint, ...]  # the last point is the last epoch
    resumed_at: int = field(default=0, compare=False)  # first epoch of this attempt


def train_student(
    stored: StoredImages | FullData,
    read_epoch: Callable[[int], EpochLabels],
    num_epochs: int,
    config: EvaluateConfig,
    data: RealImages,
    preprocessing: Preprocessing,
    seed: int,
    device: torch.device,
    checkpoints: Checkpoints | None = None,
) -> StudentResult:
    """Train a student for `num_epochs`, and test it every `evaluate.test_every` epochs and at the end.

    torch draws the first weights, and the caller seeds it; the order of the images and all else are drawn
    from `seed`. Labels are looked up by (image, epoch), so any batch size works. With `checkpoints`, one is
    saved after an epoch when it is due; an interrupted training resumes from the last one and ends with the
    same bytes. Raises EngineError if the loss is not finite, StoreError if images have no labels.
    """
    training = _Training(config, data, preprocessing, num_epochs, device)
    settings, curve, first_epoch = config.model_dump_json(exclude=_NOT_OF_ONE), [], 0
    identity = f"student {seed} {num_epochs} {settings}"
    if checkpoints is not None:
        identity = f"{checkpoints.identity} {identity} {training.student}"
        progress = training.restore(checkpoints, identity)
        first_epoch = progress.num_epochs
        curve = [CurvePoint(int(n), *values) for n, *values in progress.more.get(_CURVE, _NO_CURVE).tolist()]
    shown = ShownImages(stored, device) if isinstance(stored, StoredImages) else stored
    test_every = config.epochs_between_tests(num_epochs)
    rng = np.random.default_rng(seed)
    for _ in range(first_epoch):
        rng.permutation(len(stored.slots))  # the orders of the epochs that are done
    for epoch in range(first_epoch, num_epochs):
        labels = read_epoch(epoch)
        if len(labels.views) != len(stored.slots):
            raise StoreError(
                f"epoch {epoch} has {len(labels.views)} soft labels for {len(stored.slots)} images: "
                "labels are missing"
            )
        # Drawn from views sorted by slot: students of two image sets with the same slots have the same order,
        # whatever their batches and groups.
        by_slot = np.lexsort((labels.views.label, labels.views.ipc_index))
        order = torch.from_numpy(by_slot[rng.permutation(len(by_slot))]).to(device)
        torch.manual_seed(derive_seed(seed, "epoch", epoch))  # dropout
        views = to_device(labels.views, stored.slots, device)
        loss = training.epoch(epoch, shown.of_epoch(labels.views), views, labels, order)
        if checkpoints is not None:
            last = {"accuracy": curve[-1].accuracy} if curve else {}
            checkpoints.report(epoch + 1, num_epochs, partial(_values, loss, last))
        if not torch.isfinite(loss):
            raise EngineError(
                f"evaluate: the student's loss is not finite in epoch {epoch}; lower "
                f"evaluate.learning_rate (now {config.learning_rate})"
            )
        is_last = epoch + 1 == num_epochs
        if is_last or (epoch + 1) % test_every == 0:
            test = training.test()
            curve.append(CurvePoint(epoch + 1, float(loss), test.accuracy))
        if checkpoints is not None and not is_last and checkpoints.due():
            points = torch.tensor([astuple(point) for point in curve], dtype=torch.float64)
            checkpoints.save(training.encode(epoch + 1, identity, {_CURVE: points}))
    best = max(curve, key=lambda point: point.accuracy)
    return StudentResult(
        accuracy=test.accuracy,
        train_loss=curve[-1].train_loss,
        split=config.split,
        top5_accuracy=test.top5_accuracy,
        best_accuracy=best.accuracy,
        best_num_epochs=best.num_epochs,
        class_accuracies=test.class_accuracies,
        curve=tuple(curve),
        resumed_at=first_epoch,
    )


def _values(loss: Tensor, others: Mapping[str, float]) -> dict[str, float]:
    return {"loss": float(loss), **others}


class _Training:
    """A student with its optimiser, and the moving average of its weights if there is one."""

    def __init__(
        self,
        config: EvaluateConfig,
        data: RealImages,
        preprocessing: Preprocessing,
        num_epochs: int,
        device: torch.device,
    ) -> None:
        self._config, self._data, self._preprocessing = config, data, preprocessing
        self._num_epochs, self._device = num_epochs, device
        self.student = build_network(config.student, len(data.class_names), "evaluate.student")
        channels_last(self.student.to(device))
        self._optimizer = make_optimizer(self.student, config)
        self._average = WeightAverage(self.student, config.ema_decay) if config.ema_decay > 0.0 else None

    def epoch(
        self, epoch: int, images: Pixels, views: ViewTensors, labels: EpochLabels, order: Tensor
    ) -> Tensor:
        """Train for an epoch with the views in `order` (B,); return the mean loss of its steps, a scalar."""
        config, num_epochs = self._config, self._num_epochs
        targets = _targets(labels, config, images.shape[-1], self._device)
        temperature = label_temperature(epoch, num_epochs, config)
        factor = learning_rate_factor(epoch, num_epochs, config.cosine_stretch, config.linear_tail)
        for group in self._optimizer.param_groups:
            group["lr"] = config.learning_rate * factor
        self.student.train()
        batches = split_evenly(len(order), config.batch_size)
        total = torch.zeros((), device=self._device)
        for batch in batches:
            pick = order[batch]
            pixels = self._preprocessing.apply(render(images, views, pick))
            logits = logits_of(self.student, pixels, config.precision)
            loss = student_loss(logits, targets.pick(pick), config, temperature)
            self._optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            if self._average is not None:
                self._average.update()
            total += loss.detach()
        return total / len(batches)

    def test(self) -> StudentTest:
        """Test the student, with the average of its weights if there is one."""
        with self._average.in_network() if self._average is not None else nullcontext():
            return take_test(
                self.student,
                self._data,
                self._preprocessing,
                self._device,
                self._config.split,
                self._config.precision,
            )

    def encode(self, num_epochs: int, identity: str, more: dict[str, Tensor]) -> bytes:
        """Return a checkpoint after `num_epochs`."""
        averages = self._average.tensors if self._average is not None else {}
        return encode_checkpoint(self.student, self._optimizer, num_epochs, identity, more | averages)

    def restore(self, checkpoints: Checkpoints, identity: str) -> Progress:
        """Go on from the last checkpoint, if there is one that fits; return how far it had come."""
        saved = checkpoints.load(max_checkpoint_bytes(self.student))
        progress = restore_checkpoint(saved, self.student, self._optimizer, identity, self._num_epochs)
        if self._average is not None and progress.num_epochs > 0:
            self._average.restore(progress.more)
        return progress


def _targets(labels: EpochLabels, config: EvaluateConfig, size: int, device: torch.device) -> Targets:
    """Move an epoch's labels to the device; the soft ones stay float16 until the loss."""
    views, blended = labels.views, None
    share = views.box_height * views.box_width / size**2
    if isinstance(views, MixUpViews):  # a view has a box or is blended
        rest = 1.0 - views.own_share.astype(np.float64)
        share = share + rest
        blended = torch.from_numpy(rest).to(device, torch.get_default_dtype())
    is_soft = config.labels == "soft"
    return Targets(
        soft_labels=torch.from_numpy(labels.logits).to(device) if is_soft else None,
        kept=torch.from_numpy(labels.kept).to(device) if is_soft and labels.kept is not None else None,
        label=torch.from_numpy(views.label).to(device),
        partner_label=torch.from_numpy(views.partner_label).to(device),
        partner_share=torch.from_numpy(share).to(device, torch.get_default_dtype()),
        blended_share=blended,
    )
