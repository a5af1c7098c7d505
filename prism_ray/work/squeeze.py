"""The unit of squeeze: one teacher, trained or loaded with its weights."""

from functools import partial

from prism_ray.errors import DataError
from prism_ray.stages.squeeze import SqueezeUnit, card_part, weights_part
from prism_ray.teachers.prepare import prepare_teacher
from prism_ray.work.context import Finish, WorkContext


def squeeze(context: WorkContext, unit: SqueezeUnit) -> Finish:
    """Train the unit's teacher, or load its weights, and test it."""
    config = context.config
    teacher = config.teacher(unit.teacher)
    prepared = prepare_teacher(
        teacher,
        config.teachers.squeeze,
        context.data,
        config.data.image_size,
        unit.seed,
        context.device,
        context.checkpoints(unit.id),
        config.teachers.check_accuracy,
    )
    begun_with = context.run.weights.get(unit.teacher)  # SHA-256, then # and the key of the network, if given
    if prepared.card.source_sha256 != (begun_with and begun_with.partition("#")[0]):
        raise DataError(
            f"teacher {unit.teacher}: the file of weights {teacher.weights_path} has changed since the run "
            "began; restore the earlier file, or use another --store"
        )
    weights = partial(weights_part, unit.teacher), prepared.weights
    card = partial(card_part, unit.teacher), prepared.card.to_json()
    return context.finish(prepared.stats, weights, card)
