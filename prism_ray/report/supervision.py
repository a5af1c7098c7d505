"""What happened in recover: the losses of batches, and the teachers that supervised them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from pydantic import ConfigDict

from prism_ray.config import RecoverConfig
from prism_ray.errors import StoreError
from prism_ray.parts.curves import StoredCurve, read_curve
from prism_ray.report.opened import Opened
from prism_ray.report.rows import DrawRow, LossPoint
from prism_ray.stages import Within, recover
from prism_ray.stages.squeeze import scope_of_teacher
from prism_ray.store.records import FINITE

Value = TypeVar("Value")

MAX_BATCHES = 60  # of an image set that are drawn: more lines or columns cannot be told apart


@dataclass(frozen=True)
class _Card:
    __pydantic_config__: ClassVar[ConfigDict] = FINITE
    train_losses: tuple[float, ...] = ()


@dataclass(frozen=True)
class Supervision:
    """The draws and the losses of some batches of each optimised image set, evenly chosen."""

    draws: tuple[DrawRow, ...]
    losses: tuple[LossPoint, ...]
    num_batches: dict[str, int]  # image set -> batches that are done
    num_shown: dict[str, int]


def read_supervision(opened: Opened) -> Supervision:
    """Read the draws from the plan, and the curves from the footers of the batches' files."""
    draws: list[DrawRow] = []
    losses: list[LossPoint] = []
    num_batches, num_shown = {}, {}
    for name, its_run in opened.run.image_sets.items():
        if not isinstance(its_run.config.image_sets[name], RecoverConfig):
            continue
        ids = recover.STAGE.ids(its_run.plan, Within(name))
        done = [unit_id for unit_id in ids if unit_id in opened.progress.done]
        chosen = evenly(done, MAX_BATCHES)
        num_batches[name], num_shown[name] = len(done), len(chosen)
        for unit_id in chosen:
            unit = recover.STAGE.find(its_run.plan, unit_id)
            assert unit is not None
            counts = Counter(teacher for draw in unit.draws for teacher in draw)
            draws += [
                DrawRow(opened.name, name, unit.key, teacher, count / len(unit.draws))
                for teacher, count in counts.items()
            ]
        for commit in opened.commits(chosen):
            try:
                curve = read_curve(opened.files, commit)
            except StoreError as error:
                opened.note(error.problem)
                continue
            if curve is not None:
                losses += _points(opened.name, name, commit.unit.rpartition("/")[2], curve)
    losses += _of_teachers(opened)
    return Supervision(tuple(draws), tuple(losses), num_batches, num_shown)


def _points(store: str, image_set: str, batch: str, curve: StoredCurve) -> Iterator[LossPoint]:
    columns = [("cross-entropy", "", curve.ce)]
    columns += [("alignment", teacher, values) for teacher, values in curve.alignments.items()]  # type: ignore[misc]
    columns += [("term", term, values) for term, values in curve.terms.items()]
    for kind, name, values in columns:
        for iteration, value in zip(curve.iterations, values, strict=True):
            if value is not None:
                yield LossPoint(store, image_set, batch, iteration, kind, name, value)


def _of_teachers(opened: Opened) -> Iterator[LossPoint]:
    """Yield the losses of the teachers that squeeze trained, an epoch each."""
    for teacher in opened.run.config.teachers.pool:
        for commit in opened.commits([scope_of_teacher(teacher.name)]):
            card = opened.card(_Card, commit.files[1]) if len(commit.files) > 1 else None
            for epoch, loss in enumerate(card.train_losses if card else (), 1):
                yield LossPoint(opened.name, "", teacher.name, epoch, "squeeze", "", loss)


def evenly(values: Sequence[Value], number: int) -> list[Value]:
    """Return at most `number` of some values, at equal distances, the first among them.

    >>> evenly(["a", "b", "c", "d"], 2)
    ['a', 'c']
    """
    if len(values) <= number:
        return list(values)
    return [values[index * len(values) // number] for index in range(number)]
