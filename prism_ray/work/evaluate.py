"""The unit of evaluate: a student trained on an image set, and tested on real images."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial

from prism_ray.evaluate.student import train_student
from prism_ray.parts.labels import EpochLabels, LabelForm, LabelReader
from prism_ray.seeds import derive_seed
from prism_ray.stages.evaluate import EvaluateUnit, student_card
from prism_ray.store import Commit, layout
from prism_ray.store.remedy import damaged
from prism_ray.work.context import Finish, WorkContext


def evaluate(context: WorkContext, unit: EvaluateUnit) -> Finish:
    """Train and test one student."""
    labels = context.commits_of(context.plan.unit_ids("relabel", unit.image_set))
    batches = context.commits_of(context.plan.unit_ids("recover", unit.image_set))
    result = train_student(
        context.images_of_set(unit.image_set, batches),
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
    return context.finish(stats, (partial(student_card, unit), text))


def _epoch_reader(
    context: WorkContext, image_set: str, commits: Sequence[Commit]
) -> Callable[[int], EpochLabels]:
    """Return what reads and checks an epoch's labels; raises StoreError if a part of them is damaged."""
    form = LabelForm.of(context.plan, image_set)
    reader = LabelReader(context.files, commits, form)

    def read_epoch(epoch: int) -> EpochLabels:
        labels = reader.epoch(epoch)
        try:
            form.validate(labels)
        except ValueError as error:
            problem = f"epoch {epoch}: {error}"
            raise damaged(context.files, f"{layout.COMMITS}/relabel/{image_set}", problem) from None
        return labels

    return read_epoch
