"""The units of evaluate: a student trained on an image set, and the measures of the images themselves."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial

import torch

from prism_ray.errors import StoreError
from prism_ray.evaluate.diversity import intra_class_cosine, penultimate_features, verifier_accuracy
from prism_ray.evaluate.student import train_student
from prism_ray.seeds import derive_seed
from prism_ray.store import Commit, layout
from prism_ray.store.images import ImageForm, StoredImages, read_images
from prism_ray.store.labels import EpochLabels, LabelForm, LabelReader
from prism_ray.units import EvaluateUnit, MeasureUnit
from prism_ray.work.context import Finish, WorkContext


def evaluate(context: WorkContext, unit: EvaluateUnit) -> Finish:
    """Train and test one student."""
    labels = context.commits_of(group.id for group in context.plan.relabel_units(unit.image_set))
    batches = context.commits_of(context.plan.recover_ids(unit.image_set))
    result = train_student(
        _all_images(context, unit.image_set, batches),
        _epoch_reader(context, unit.image_set, labels),
        context.config.relabel.epochs,
        context.config.evaluations[unit.evaluation],
        context.data,
        context.teacher(context.config.primary).preprocessing,
        derive_seed(unit.seed, "order"),
        context.device,
    )
    card = {"unit": unit.id, "seed": unit.seed, **asdict(result)}
    stats = asdict(result) | {"weights": context.weights_of([context.config.primary], labels)}
    text = json.dumps(card, indent=1).encode()
    return context.finish(stats, (partial(layout.student_card, unit), text))


def measure(context: WorkContext, unit: MeasureUnit) -> Finish:
    """Measure the diversity of a set's images, and what the verifiers make of them."""
    config = context.config
    batches = context.commits_of(context.plan.recover_ids(unit.image_set))
    stored = _all_images(context, unit.image_set, batches)
    labels = torch.tensor([slot.label for slot in stored.slots])
    features = penultimate_features(context.teacher(config.feature_teacher), stored.images, context.device)
    cosine = intra_class_cosine(features, labels)
    verified = {
        name: verifier_accuracy(context.teacher(name), stored.images, labels, context.device)
        for name in config.analyze.verifiers
    }
    stats = {
        "feature_teacher": config.feature_teacher,
        "cosine_mean": cosine.mean,
        "cosine_variance": cosine.variance,
        "verified": verified,
        "weights": context.weights_of([config.feature_teacher, *config.analyze.verifiers], batches),
    }
    card = {"unit": unit.id, **stats, "cosine_per_class": cosine.per_class}
    text = json.dumps(card, indent=1).encode()
    return context.finish(stats, (partial(layout.measure_card, unit), text))


def _all_images(context: WorkContext, image_set: str, batches: Sequence[Commit]) -> StoredImages:
    """Read every image of a set from its batches' commits; raises StoreError if some are missing."""
    stored = read_images(context.files, batches, ImageForm.of(context.plan, image_set))
    expected = context.plan.num_images(image_set)
    if len(set(stored.slots)) != expected or len(stored.slots) != expected:
        raise StoreError(
            f"{context.files.location}: image set {image_set} has {len(set(stored.slots))} different images "
            f"in {len(stored.slots)} rows instead of {expected}; run `prism-ray verify --repair`"
        )
    return stored


def _epoch_reader(
    context: WorkContext, image_set: str, commits: Sequence[Commit]
) -> Callable[[int], EpochLabels]:
    """Return what reads and checks an epoch's labels; raises StoreError if a part of them is damaged."""
    form = LabelForm.of(context.plan, image_set)
    reader = LabelReader(context.files, commits, form)

    def read_epoch(epoch: int) -> EpochLabels:
        labels = reader.epoch(epoch)
        try:
            form.check(labels)
        except ValueError as error:
            raise StoreError(
                f"{context.files.location}: the soft labels of {image_set} in epoch {epoch} are damaged: "
                f"{error}; run `prism-ray verify --repair`"
            ) from None
        return labels

    return read_epoch
