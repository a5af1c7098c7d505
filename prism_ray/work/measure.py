"""The unit of measure: the diversity of a set's images, and the verifiers' accuracy on them."""

import json
from functools import partial

import torch

from prism_ray.evaluate.diversity import intra_class_cosine, penultimate_features, verify_images
from prism_ray.stages.measure import MeasureUnit, measure_card
from prism_ray.work.context import Finish, WorkContext


def measure(context: WorkContext, unit: MeasureUnit) -> Finish:
    """Measure the diversity of a set's images, and the verifiers' accuracy on them."""
    config = context.config
    batches = context.commits_of(context.plan.unit_ids("recover", unit.image_set))
    stored = context.images_of_set(unit.image_set, batches)
    labels = torch.tensor([slot.label for slot in stored.slots])
    features = penultimate_features(context.teacher(config.feature_teacher), stored.images, context.device)
    cosine = intra_class_cosine(features, labels)
    verified = {
        name: verify_images(context.teacher(name), stored.images, labels, context.device)
        for name in config.analyze.verifiers
    }
    stats = {
        "feature_teacher": config.feature_teacher,
        "cosine_mean": cosine.mean,
        "cosine_variance": cosine.variance,
        "verified": {name: each.share for name, each in verified.items()},
        "weights": context.weights_of([config.feature_teacher, *config.analyze.verifiers], batches),
    }
    card = {
        "unit": unit.id,
        **stats,
        "cosine_per_class": cosine.per_class,
        "cosine_variance_per_class": cosine.variance_per_class,
        "verified_per_class": {name: each.per_class for name, each in verified.items()},
    }
    return context.finish(stats, (partial(measure_card, unit), json.dumps(card, indent=1).encode()))
