"""The unit of evaluate: a student trained on an image set or on all real images, and tested."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

import numpy as np

from prism_ray.config.resolve import FULL_DATA
from prism_ray.evaluate.full_data import FullData, full_data
from prism_ray.evaluate.student import train_student
from prism_ray.parts.images import StoredImages
from prism_ray.parts.labels import EpochLabels, LabelForm, LabelReader, join_labels
from prism_ray.parts.views import label_epoch_of
from prism_ray.relabel.ensemble import GroupLabeller
from prism_ray.seeds import derive_seed
from prism_ray.stages.evaluate import EvaluateUnit, asks_teachers, student_card
from prism_ray.stages.relabel import group_seed
from prism_ray.store import Commit
from prism_ray.teachers.precision import prepared
from prism_ray.work.context import Finish, WorkContext
from prism_ray.work.controls import (
    ReadEpoch,
    full_data_views,
    group_views,
    labels_of_whole_images,
    whole_images,
)
from prism_ray.work.relabel import labeller_of

_LONG = ("class_accuracies", "curve")  # in the student's card, but not in its commit


def evaluate(context: WorkContext, unit: EvaluateUnit) -> Finish:
    """Train and test one student. Raises StoreError if images or labels are damaged."""
    config, plan = context.config, context.plan
    student, num_epochs = config.evaluations[unit.evaluation], config.relabel.epochs
    images: StoredImages | FullData
    built_on: list[Commit] = []
    if student.train_on == FULL_DATA:
        images = full_data(context.data, config.data.image_size, context.device)
        num_epochs = student.full_data_epochs or num_epochs
        read_epoch = full_data_views(context, images)
    else:
        labels = context.commits_of(plan.unit_ids("relabel", unit.image_set))
        batches = context.commits_of(plan.unit_ids("recover", unit.image_set))
        images = stored = context.images_of_set(unit.image_set, batches)
        built_on = batches if config.relabel.mode == "online" else labels
        if asks_teachers(config, student):
            labellers = _labellers(context, unit, stored)
            read_epoch = _online(labellers) if student.augment else labels_of_whole_images(context, labellers)
        elif config.relabel.mode == "online":
            read_epoch = group_views(context, unit.image_set)
        else:
            read_epoch = _stored(context, unit, labels)
    if student.labels == "hard" and not student.augment:
        read_epoch = whole_images(images.slots, config.data.image_size)
    weights = context.weights_of(plan.teachers_of(unit), built_on)
    preprocessing = context.teacher(config.primary).preprocessing
    with prepared([], student.precision):
        result = train_student(
            images,
            read_epoch,
            num_epochs,
            student,
            context.data,
            preprocessing,
            derive_seed(unit.seed, "order"),
            context.device,
            context.checkpoints(unit.id, made_with=sorted(weights.items())),
        )
    stats = asdict(result)
    resumed_at = stats.pop("resumed_at")  # of the attempt, so it is not in the card
    card = json.dumps({"unit": unit.id, "seed": unit.seed, **stats}, indent=1).encode()
    stats = {name: value for name, value in stats.items() if name not in _LONG}
    stats |= {"resumed_at": resumed_at, "weights": weights}
    return context.finish(stats, (partial(student_card, unit), card))


def _stored(context: WorkContext, unit: EvaluateUnit, commits: Sequence[Commit]) -> ReadEpoch:
    """Return a function that reads the labels of an epoch from the store."""
    relabel, form = context.config.relabel, LabelForm.of(context.plan, unit.image_set)
    num_label_epochs, seed = relabel.num_label_epochs, derive_seed(unit.seed, "order")
    reader = LabelReader(context.files, commits, form, again=num_label_epochs < relabel.epochs)

    def read_epoch(epoch: int) -> EpochLabels:
        return reader.sound_epoch(label_epoch_of(epoch, num_label_epochs, seed), unit.image_set)

    return read_epoch


def _labellers(context: WorkContext, unit: EvaluateUnit, images: StoredImages) -> list[GroupLabeller]:
    """Return the teachers beside the student, with the images of each label group."""
    formation = context.plan.formation(unit.image_set)
    position = {slot: number for number, slot in enumerate(images.slots)}
    labellers = []
    for group in range(formation.num_groups):
        slots = tuple(formation.group_slots(group))
        stored = StoredImages(slots, images.images[np.array([position[slot] for slot in slots])])
        name, seed = f"{unit.id}, group {group}", group_seed(context.plan, group)
        labellers.append(labeller_of(context, name, seed, stored))
    return labellers


def _online(labellers: Sequence[GroupLabeller]) -> ReadEpoch:
    """Return a function that asks the teachers for the labels of an epoch, group by group."""
    return lambda epoch: join_labels([labeller.epoch(epoch) for labeller in labellers])
