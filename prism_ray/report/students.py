"""The students of a run, one by one: accuracies, curves, and accuracies by class, from commits and cards."""

from collections import defaultdict
from dataclasses import dataclass
from typing import ClassVar

from pydantic import ConfigDict

from prism_ray.report.classes import mean_of_known
from prism_ray.report.opened import Opened
from prism_ray.report.rows import StudentPoint, StudentRow
from prism_ray.run import Run
from prism_ray.stages.evaluate import EvaluateUnit, students
from prism_ray.store.records import FINITE

_MAX_CURVES = 1000  # students whose cards are read


@dataclass(frozen=True)
class _Point:
    __pydantic_config__: ClassVar[ConfigDict] = FINITE
    num_epochs: int
    train_loss: float
    accuracy: float


@dataclass(frozen=True)
class _Card:
    """What is read of a student's card; earlier versions kept less."""

    __pydantic_config__: ClassVar[ConfigDict] = FINITE
    accuracy: float
    train_loss: float
    split: str
    top5_accuracy: float | None = None
    class_accuracies: tuple[float | None, ...] = ()
    curve: tuple[_Point, ...] = ()


@dataclass(frozen=True)
class Students:
    """All students of a store that are done, and the accuracy by class of each image set."""

    rows: tuple[StudentRow, ...]
    curves: tuple[StudentPoint, ...]
    by_class: dict[
        str, tuple[float | None, ...]
    ]  # image set -> mean over the students of its first evaluation


def read_students(opened: Opened) -> Students:
    """Read the students, those that only an earlier config names included."""
    units: dict[str, tuple[Run, EvaluateUnit]] = {}
    for run in (opened.run, *opened.run.others):
        for key in run.config.evaluations:
            for name in run.config.sets_of(key):
                units |= {u.id: (run, u) for u in students(run.plan, name, key) if u.id not in units}
    commits = [commit for commit in opened.commits(list(units)) if commit.files]
    if len(commits) > _MAX_CURVES:
        opened.note(f"{opened.name}: only the first {_MAX_CURVES:,} of {len(commits):,} students are shown")
        commits = commits[:_MAX_CURVES]
    rows, curves = [], []
    accuracies: defaultdict[tuple[str, str], list[tuple[float | None, ...]]] = defaultdict(list)
    cards = opened.cards(_Card, [commit.files[0] for commit in commits])
    for commit, card in zip(commits, cards, strict=True):
        if card is None:
            continue
        own, unit = units[commit.unit]
        of = (opened.name, unit.image_set, unit.evaluation, unit.student)
        labels: str = own.config.evaluations[unit.evaluation].labels
        rows.append(StudentRow(*of, labels, card.split, card.accuracy, card.top5_accuracy, commit.seconds))
        curves += [StudentPoint(*of, p.num_epochs, p.train_loss, p.accuracy) for p in card.curve]
        if len(card.class_accuracies) == opened.run.facts.num_classes:
            accuracies[unit.image_set, unit.evaluation].append(card.class_accuracies)
    by_class: dict[str, tuple[float | None, ...]] = {}
    for (image_set, _), each in accuracies.items():  # in the order of the evaluations: the first one counts
        by_class.setdefault(image_set, tuple(map(mean_of_known, zip(*each, strict=True))))
    return Students(tuple(rows), tuple(curves), by_class)
