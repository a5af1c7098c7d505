"""The unit of squeeze: one teacher, trained or brought in, into the store."""

from functools import partial

from prism_ray.errors import DataError
from prism_ray.stages.squeeze import SqueezeUnit, card_part, weights_part
from prism_ray.teachers.prepare import prepare_teacher
from prism_ray.work.context import Finish, WorkContext


def squeeze(context: WorkContext, unit: SqueezeUnit) -> Finish:
    """Train the unit's teacher, or load its weights; test it."""
    config = context.config
    prepared = prepare_teacher(
        config.teacher(unit.teacher),
        config.teachers.squeeze,
        context.data,
        config.data.image_size,
        unit.seed,
        context.device,
        context.checkpoints(unit.id),
    )
    expected = context.run.weights.get(unit.teacher)
    if prepared.card.source_sha256 != expected:
        path = config.teacher(unit.teacher).weights_path
        raise DataError(
            f"teacher {unit.teacher}: the file of weights {path} is not the one that the run began with; put "
            "that one back, or use another --store"
        )
    weights = partial(weights_part, unit.teacher), prepared.weights
    card = partial(card_part, unit.teacher), prepared.card.to_json()
    return context.finish(prepared.stats, weights, card)
