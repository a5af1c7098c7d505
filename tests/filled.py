"""A finished run's store without a computation, for the tests of what reads stores."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from prism_ray.parts.images import BatchLosses, encode_images
from prism_ray.parts.labels import EpochLabels, encode_labels
from prism_ray.parts.views import Views
from prism_ray.run import Run, save_run
from prism_ray.stages import Unit
from prism_ray.stages.evaluate import EvaluateUnit
from prism_ray.stages.formation import Slot
from prism_ray.stages.measure import MeasureUnit
from prism_ray.stages.recover import RecoverUnit, image_part
from prism_ray.stages.relabel import RelabelUnit, label_part
from prism_ray.stages.squeeze import SqueezeUnit, card_part, weights_part
from prism_ray.store import Commit, PartFile, StoreFiles, write_commit, write_part

CARD = b'{"preprocessing": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "size": 8}}'
CURVE = {"iterations": [0, 9], "ce": [2.0, 0.5], "bn": [1.0, 0.25], "alignments": {}, "terms": {}}
_STATS: dict[type, dict[str, Any]] = {
    SqueezeUnit: {
        "arch": "timm:x",
        "test_accuracy": 0.5,
        "validation_accuracy": None,
        "num_parameters": 7,
        "num_bn_layers": 1,
    },
    EvaluateUnit: {"accuracy": 0.5, "train_loss": 1.0, "split": "test"},
    MeasureUnit: {"cosine_mean": 0.5, "cosine_variance": 0.1, "verified": {}},
}


def finish(files: StoreFiles, run: Run) -> None:
    """Commit every unit of a run, of grey images and labels of zeros."""
    save_run(files, run)
    for stage in ("squeeze", "recover", "relabel", "measure", "evaluate"):
        for unit in run.plan.units(stage):
            commit_unit(files, run, unit, _parts(files, run, unit))


def commit_unit(files: StoreFiles, run: Run, unit: Unit, parts: Sequence[PartFile]) -> None:
    stats = _STATS.get(type(unit), {})
    fingerprint = run.fingerprint_of(unit.id)
    write_commit(
        files, Commit(unit.id, fingerprint, tuple(parts), stats, 1.0, "here", "2026-01-31T00:00:00+00:00")
    )


def _parts(files: StoreFiles, run: Run, unit: Unit) -> list[PartFile]:
    if isinstance(unit, SqueezeUnit):
        return [
            write_part(files, lambda attempt: weights_part(unit.teacher, attempt), b"weights"),
            write_part(files, lambda attempt: card_part(unit.teacher, attempt), CARD),
        ]
    if isinstance(unit, RecoverUnit):
        data = image_bytes(run, unit)
        return [write_part(files, lambda attempt: image_part(unit, attempt), data, len(unit.slots))]
    if isinstance(unit, RelabelUnit):
        slots = list(run.plan.formation(unit.image_set).group_slots(unit.group))
        epochs = range(unit.first_epoch, unit.first_epoch + unit.num_epochs)
        data = encode_labels(epochs_of(slots, list(epochs), run))
        num_rows = len(slots) * unit.num_epochs
        return [write_part(files, lambda attempt: label_part(unit, attempt), data, num_rows)]
    assert isinstance(unit, EvaluateUnit | MeasureUnit)
    return [write_part(files, lambda attempt: f"students/{unit.id}-{attempt}.json", b"{}")]


def image_bytes(run: Run, unit: RecoverUnit) -> bytes:
    """Return the file of a batch of black images."""
    size = run.config.data.image_size
    pixels = np.zeros((len(unit.slots), run.facts.channels, size, size), np.uint8)
    return encode_images(unit, pixels, run.facts.class_names, BatchLosses(0.5, 0.25, CURVE))


def epochs_of(slots: Sequence[Slot], epochs: Sequence[int], run: Run) -> list[EpochLabels]:
    """Return labels of zeros for the whole images."""
    size = run.config.data.image_size
    columns: dict[str, Any] = {field.name: np.zeros(len(slots), np.int64) for field in fields(Views)}
    columns |= {name: np.zeros(len(slots), np.bool_) for name in ("flip", "swap_columns", "swap_rows")}
    columns["crop_height"] = columns["crop_width"] = np.full(len(slots), size)
    columns["label"] = np.array([slot.label for slot in slots])
    columns["ipc_index"] = np.array([slot.ipc_index for slot in slots])
    logits = np.zeros((len(slots), run.facts.num_classes), np.float16)
    return [EpochLabels(epoch, Views(**columns), logits) for epoch in epochs]
