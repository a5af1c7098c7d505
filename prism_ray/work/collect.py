"""The unit of collect, and how other units read what was collected."""

from collections.abc import Collection, Iterable, Iterator
from functools import partial

from prism_ray.collect.scores import ClassScores, collect_scores, read_scores
from prism_ray.collect.statistics import check_layers, collect_statistics, read_reference
from prism_ray.stages.collect import CollectKind, CollectUnit, collected_part, collection
from prism_ray.store import read_part
from prism_ray.store.remedy import unfit
from prism_ray.teachers.layers import TeacherReference
from prism_ray.work.context import Finish, WorkContext


def collect(context: WorkContext, unit: CollectUnit) -> Finish:
    """Pass the real images of the unit's classes through its teacher."""
    teacher, config = context.teacher(unit.teacher), context.config.collect
    if unit.kind == "statistics":
        statistics = collect_statistics(unit, teacher, context.data, config, context.device)
        made = {"totals": statistics.totals, "classes": statistics.classes}  # in the commit in this order
    else:
        made = {"scores": collect_scores(unit, teacher, context.data, config, context.device)}
    stats = {"weights": context.weights_of([unit.teacher])}
    return context.finish(stats, *((partial(collected_part, unit, what), made[what]) for what in made))


def load_scores(
    context: WorkContext, kind: CollectKind, teacher: str, loaded: dict[str, bytes], label: int
) -> ClassScores:
    """Return the scores of a class's real images; raises StoreError if they cannot be read.

    `loaded` keeps the files read so far, by unit, for the other classes of a batch.
    """
    unit = next(unit for unit in collection(context.plan, kind, teacher) if label in unit.classes)
    if unit.id not in loaded:
        (commit,) = context.commits_of([unit.id])
        loaded[unit.id] = read_part(context.files, commit.files[0])
    num_images = len(context.data.train_indices(label))
    if kind == "median":
        num_images = min(num_images, context.config.collect.images_per_class or num_images)
    is_original = context.config.collect.crop_from == "original"
    try:
        size = None if is_original else context.config.data.image_size
        return read_scores(loaded[unit.id], label, num_images, size)
    except ValueError as error:
        raise unfit(context.files, unit.id, error) from None


def load_reference(
    context: WorkContext, teacher: str, labels: Collection[int], with_classes: bool
) -> TeacherReference:
    """Return a teacher's statistics over all real images, and with `with_classes` of the classes `labels`.

    The statistics over all images are read once, because they are the same for every batch. Raises StoreError
    if statistics cannot be read or do not belong to the teacher.
    """
    units = list(collection(context.plan, "statistics", teacher))
    network = context.teacher(teacher).network
    last_read = units[0].id

    def read(units: Iterable[CollectUnit], index: int) -> Iterator[bytes]:
        nonlocal last_read
        for commit in context.commits_of(unit.id for unit in units):
            last_read = commit.unit
            yield read_part(context.files, commit.files[index])

    try:
        if teacher not in context.references:
            layers = read_reference(read(units, 0), (), (), context.device).layers
            check_layers(layers, network)
            context.references[teacher] = layers
        wanted = set(labels) if with_classes else set()
        shards = (unit for unit in units if wanted.intersection(unit.classes))
        rows = read_reference((), read(shards, 1), wanted, context.device).classes
        for row in rows.values():
            if row.keys() != context.references[teacher].keys():
                raise ValueError("the layers of the classes are not those of all images")
            check_layers(row, network)
    except ValueError as error:
        raise unfit(context.files, last_read, error) from None
    return TeacherReference(context.references[teacher], rows)
