"""The unit of collect, and the way back to what was collected."""

from collections.abc import Collection, Iterator
from functools import partial

from prism_ray.collect.scores import ClassScores, collect_scores, read_scores
from prism_ray.collect.statistics import check_layers, collect_statistics, read_reference
from prism_ray.stages.collect import CollectKind, CollectUnit, collected_part, collection
from prism_ray.store import Commit, read_part
from prism_ray.store.remedy import unfit
from prism_ray.teachers.layers import TeacherReference
from prism_ray.work.context import Finish, WorkContext

# Files of a unit, in the order in which its commit names them.
_SCORES, _TOTALS, _CLASSES = "scores", "totals", "classes"


def collect(context: WorkContext, unit: CollectUnit) -> Finish:
    """Pass the real images of the unit's classes through its teacher."""
    teacher, config = context.teacher(unit.teacher), context.config.collect
    if unit.kind == "statistics":
        statistics = collect_statistics(unit, teacher, context.data, config, context.device)
        made = {_TOTALS: statistics.totals, _CLASSES: statistics.classes}
    else:
        made = {_SCORES: collect_scores(unit, teacher, context.data, config, context.device)}
    stats = {"weights": context.weights_of([unit.teacher])}
    files = [(partial(collected_part, unit, what), data) for what, data in made.items()]
    return context.finish(stats, *files)


def load_scores(
    context: WorkContext, kind: CollectKind, teacher: str, held: dict[str, bytes], label: int
) -> ClassScores:
    """Return the scores of a class's real images; raises StoreError if they cannot be read.

    `held` keeps the files read so far, by unit, for the other classes of a batch.
    """
    unit = next(unit for unit in collection(context.plan, kind, teacher) if label in unit.classes)
    if unit.id not in held:
        (commit,) = context.commits_of([unit.id])
        held[unit.id] = read_part(context.files, commit.files[0])
    num_images = len(context.data.train_indices(label))
    if kind == "median":
        num_images = min(num_images, context.config.collect.images_per_class or num_images)
    try:
        return read_scores(held[unit.id], label, num_images, context.config.data.image_size)
    except ValueError as error:
        raise unfit(context.files, unit.id, error) from None


def load_reference(
    context: WorkContext, teacher: str, labels: Collection[int], with_classes: bool
) -> TeacherReference:
    """Return a teacher's statistics over all real images, and with `with_classes` of the classes `labels`.

    Those over all images are the same for every batch: they are read and merged once. Raises StoreError if
    they cannot be read, or are not of the teacher.
    """
    units = list(collection(context.plan, "statistics", teacher))
    network = context.teacher(teacher).network
    last = units[0].id  # read

    def read(commits: Collection[Commit], place: int) -> Iterator[bytes]:
        nonlocal last
        for commit in commits:
            last = commit.unit
            yield read_part(context.files, commit.files[place])

    try:
        if teacher not in context.references:
            totals = read(context.commits_of(unit.id for unit in units), 0)
            layers = read_reference(totals, (), (), context.device).layers
            check_layers(layers, network)
            context.references[teacher] = layers
        wanted = set(labels) if with_classes else set()
        holding = context.commits_of(unit.id for unit in units if wanted.intersection(unit.classes))
        rows = read_reference((), read(holding, 1), wanted, context.device).classes
        for row in rows.values():
            if row.keys() != context.references[teacher].keys():
                raise ValueError("the classes have other layers than all images")
            check_layers(row, network)
    except ValueError as error:
        raise unfit(context.files, last, error) from None
    return TeacherReference(context.references[teacher], rows)
