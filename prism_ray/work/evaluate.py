"""The unit of evaluate: a student trained on an image set, and tested on real images."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial

import numpy as np

from prism_ray.evaluate.student import train_student
from prism_ray.parts.images import StoredImages
from prism_ray.parts.labels import EpochLabels, LabelForm, LabelReader, join_labels
from prism_ray.parts.views import label_epoch_of
from prism_ray.seeds import derive_seed
from prism_ray.stages.evaluate import EvaluateUnit, student_card
from prism_ray.stages.relabel import group_seed
from prism_ray.store import Commit, layout
from prism_ray.store.remedy import damaged
from prism_ray.work.context import Finish, WorkContext
from prism_ray.work.relabel import labeller_of

_LONG = ("class_accuracies", "curve")  # in the student's card, but not in its commit
ReadEpoch = Callable[[int], EpochLabels]


def evaluate(context: WorkContext, unit: EvaluateUnit) -> Finish:
    """Train and test one student. Raises StoreError if images or labels are damaged."""
    config, plan = context.config, context.plan
    is_online = config.relabel.mode == "online"
    labels = context.commits_of(plan.unit_ids("relabel", unit.image_set))
    batches = context.commits_of(plan.unit_ids("recover", unit.image_set))
    images = context.images_of_set(unit.image_set, batches)
    read_epoch = _online(context, unit, images) if is_online else _stored(context, unit, labels)
    weights = context.weights_of(plan.teachers_of(unit), batches if is_online else labels)
    student = config.evaluations[unit.evaluation]
    preprocessing = context.teacher(config.primary).preprocessing
    result = train_student(
        images,
        read_epoch,
        config.relabel.epochs,
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
        found = reader.epoch(label_epoch_of(epoch, num_label_epochs, seed))
        try:
            form.validate(found)
        except ValueError as error:
            where = f"{layout.COMMITS}/relabel/{unit.image_set}"
            raise damaged(context.files, where, f"epoch {found.epoch}: {error}") from None
        return found

    return read_epoch


def _online(context: WorkContext, unit: EvaluateUnit, images: StoredImages) -> ReadEpoch:
    """Return a function that asks the teachers for the labels of an epoch, group by group."""
    formation = context.plan.formation(unit.image_set)
    position = {slot: number for number, slot in enumerate(images.slots)}
    labellers = []
    for group in range(formation.num_groups):
        slots = tuple(formation.group_slots(group))
        stored = StoredImages(slots, images.images[np.array([position[slot] for slot in slots])])
        name, seed = f"{unit.id}, group {group}", group_seed(context.plan, group)
        labellers.append(labeller_of(context, name, seed, stored))
    return lambda epoch: join_labels([labeller.epoch(epoch) for labeller in labellers])
