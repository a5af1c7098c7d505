"""The unit of evaluate: a student trained on an image set, and tested on real images."""

import json
from dataclasses import asdict
from functools import partial

from prism_ray.evaluate.student import train_student
from prism_ray.parts.labels import EpochLabels, LabelForm, LabelReader
from prism_ray.seeds import derive_seed
from prism_ray.stages.evaluate import EvaluateUnit, student_card
from prism_ray.store import layout
from prism_ray.store.remedy import damaged
from prism_ray.work.context import Finish, WorkContext


def evaluate(context: WorkContext, unit: EvaluateUnit) -> Finish:
    """Train and test one student. Raises StoreError if images or labels are damaged."""
    config = context.config
    labels = context.commits_of(context.plan.unit_ids("relabel", unit.image_set))
    batches = context.commits_of(context.plan.unit_ids("recover", unit.image_set))
    images = context.images_of_set(unit.image_set, batches)
    form = LabelForm.of(context.plan, unit.image_set)
    reader = LabelReader(context.files, labels, form)

    def read_epoch(epoch: int) -> EpochLabels:
        found = reader.epoch(epoch)
        try:
            form.validate(found)
        except ValueError as error:
            where = f"{layout.COMMITS}/relabel/{unit.image_set}"
            raise damaged(context.files, where, f"epoch {epoch}: {error}") from None
        return found

    student, epochs = config.evaluations[unit.evaluation], config.relabel.epochs
    preprocessing, seed = context.teacher(config.primary).preprocessing, derive_seed(unit.seed, "order")
    result = train_student(
        images, read_epoch, epochs, student, context.data, preprocessing, seed, context.device
    )
    card = json.dumps({"unit": unit.id, "seed": unit.seed, **asdict(result)}, indent=1).encode()
    stats = asdict(result) | {"weights": context.weights_of([config.primary], labels)}
    return context.finish(stats, (partial(student_card, unit), card))
