"""The unit of collect, and the way back to what was collected."""

from collections.abc import Collection, Iterator
from functools import partial

from prism_ray.collect.scores import ClassScores, collect_scores, read_scores
from prism_ray.collect.statistics import collect_statistics, read_reference
from prism_ray.store import Commit, layout, read_part
from prism_ray.teachers.layers import TeacherReference
from prism_ray.units import CollectKind, CollectUnit
from prism_ray.work.context import Work, WorkContext

# Files of a unit, in the order in which its commit names them.
_SCORES, _TOTALS, _CLASSES = "scores", "totals", "classes"


def collect(context: WorkContext, unit: CollectUnit) -> Work:
    """Pass the real images of the unit's classes through its teacher."""
    teacher, config = context.teacher(unit.teacher), context.config.collect
    if unit.kind == "statistics":
        statistics = collect_statistics(unit, teacher, context.data, config, context.device)
        made = {_TOTALS: statistics.totals, _CLASSES: statistics.classes}
    else:
        made = {_SCORES: collect_scores(unit, teacher, context.data, config, context.device)}
    parts = tuple(
        context.write(partial(layout.collected_part, unit, what), data) for what, data in made.items()
    )
    return Work(parts, {"weights": context.weights_of([unit.teacher])})


def load_scores(
    context: WorkContext, kind: CollectKind, teacher: str, held: dict[str, bytes], label: int
) -> ClassScores:
    """Return the scores of a class's real images; raises StoreError if they cannot be read.

    `held` keeps the files read so far, by unit, for the other classes of a batch.
    """
    unit = next(unit for unit in context.plan.collection(kind, teacher) if label in _classes_of(unit))
    if unit.id not in held:
        (commit,) = context.commits_of([unit.id])
        held[unit.id] = read_part(context.files, commit.files[0])
    return read_scores(held[unit.id], label)


def load_reference(
    context: WorkContext, teacher: str, labels: Collection[int], with_classes: bool
) -> TeacherReference:
    """Return a teacher's statistics over all real images, and with `with_classes` of the classes `labels`.

    Those over all images are the same for every batch: they are read and merged once.
    """
    units = list(context.plan.collection("statistics", teacher))
    if teacher not in context.references:
        totals = _read(context, context.commits_of(unit.id for unit in units), 0)
        context.references[teacher] = read_reference(totals, (), (), context.device).layers
    wanted = set(labels) if with_classes else set()
    holding = context.commits_of(unit.id for unit in units if wanted.intersection(_classes_of(unit)))
    rows = read_reference((), _read(context, holding, 1), wanted, context.device).classes
    return TeacherReference(context.references[teacher], rows)


def _read(context: WorkContext, commits: Collection[Commit], place: int) -> Iterator[bytes]:
    """Read one file of each commit, one at a time."""
    return (read_part(context.files, commit.files[place]) for commit in commits)


def _classes_of(unit: CollectUnit) -> range:
    return range(unit.first_class, unit.first_class + unit.num_classes)
