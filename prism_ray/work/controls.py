"""Views and labels of students that do not read them from the store, as those of the controls."""

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from prism_ray.encodings import find_encoding
from prism_ray.evaluate.full_data import FullData
from prism_ray.parts.images import StoredImages
from prism_ray.parts.labels import EpochLabels, join_labels
from prism_ray.parts.views import Views, draw_views, whole_views
from prism_ray.relabel.ensemble import GroupLabeller
from prism_ray.seeds import derive_seed
from prism_ray.stages.formation import Slot
from prism_ray.stages.relabel import group_seed
from prism_ray.work.context import WorkContext

ReadEpoch = Callable[[int], EpochLabels]


def full_data_views(context: WorkContext, images: StoredImages | FullData) -> ReadEpoch:
    """Return a function that draws the views of all real images in an epoch, as those of one label group."""
    config = context.config
    seed, size = derive_seed(config.seed, "full-data"), config.data.image_size
    return lambda epoch: _without_logits(draw_views(images.slots, epoch, seed, config.relabel, size), epoch)


def group_views(context: WorkContext, image_set: str) -> ReadEpoch:
    """Return a function that draws the views of a set in an epoch, which relabel would store with labels."""
    config, formation = context.config, context.plan.formation(image_set)
    groups = [
        (tuple(formation.group_slots(group)), group_seed(context.plan, group))
        for group in range(formation.num_groups)
    ]

    def read_epoch(epoch: int) -> EpochLabels:
        size, relabel = config.data.image_size, config.relabel
        drawn = [draw_views(slots, epoch, seed, relabel, size) for slots, seed in groups]
        return join_labels([_without_logits(views, epoch) for views in drawn])

    return read_epoch


def whole_images(slots: Sequence[Slot], size: int) -> ReadEpoch:
    """Return a function that gives whole images without soft labels in every epoch."""
    views = whole_views(slots, size)
    return lambda epoch: _without_logits(views, epoch)


def labels_of_whole_images(context: WorkContext, labellers: Sequence[GroupLabeller]) -> ReadEpoch:
    """Return a function that gives the soft labels of whole images: the same in every epoch, asked for once.

    They go through `relabel.encoding`, as the stored ones do. Raises EngineError if one is not finite.
    """
    num_classes = context.plan.facts.num_classes
    encoding = find_encoding(context.config.relabel.encoding)
    labels = join_labels([labeller.whole() for labeller in labellers])
    schema = pa.schema(encoding.fields(num_classes))
    table = pa.Table.from_arrays(encoding.encode(labels.logits), schema=schema)
    decoded = encoding.decode(table, num_classes)
    logits = decoded.logits.copy()  # Arrow's own memory is read-only
    return lambda epoch: EpochLabels(epoch, labels.views, logits, decoded.kept)


def _without_logits(views: Views, epoch: int) -> EpochLabels:
    """Return the labels of an epoch for students that use hard labels alone."""
    return EpochLabels(epoch, views, np.zeros((len(views), 0), np.float16))
