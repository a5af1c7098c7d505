"""The measures of an image set class by class: diversity, verifiers, students. The most and least diverse."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from pydantic import ConfigDict

from prism_ray.report.opened import Opened
from prism_ray.report.rows import ClassRow
from prism_ray.store.records import FINITE

NUM_EXTREMES = 10


@dataclass(frozen=True)
class _Card:
    """What is read of the measures of an image set; earlier versions kept less."""

    __pydantic_config__: ClassVar[ConfigDict] = FINITE
    cosine_per_class: tuple[float | None, ...] = ()
    cosine_variance_per_class: tuple[float | None, ...] = ()
    verified_per_class: dict[str, tuple[float | None, ...]] = field(default_factory=dict)


def read_classes(opened: Opened, by_class: Mapping[str, Sequence[float | None]]) -> tuple[ClassRow, ...]:
    """Return a row for each class of each image set that is measured, or has students (`by_class`)."""
    names = opened.run.facts.class_names
    rows = []
    for image_set in opened.run.image_sets:
        card = _Card()
        for commit in opened.commits([f"measure/{image_set}"]):
            card = (opened.card(_Card, commit.files[0]) if commit.files else None) or card
        students = by_class.get(image_set, ())
        if not card.cosine_per_class and not students:
            continue
        verified = [mean_of_known(each) for each in zip(*card.verified_per_class.values(), strict=False)]
        rows += [
            ClassRow(
                store=opened.name,
                image_set=image_set,
                label=label,
                class_name=name,
                cosine_mean=_at(card.cosine_per_class, label),
                cosine_variance=_at(card.cosine_variance_per_class, label),
                verified=_at(verified, label),
                student_accuracy=_at(students, label),
            )
            for label, name in enumerate(names)
        ]
    return tuple(rows)


def extremes(rows: Sequence[ClassRow]) -> tuple[list[ClassRow], list[ClassRow]]:
    """Return the ten least and the ten most diverse classes of an image set, the most extreme first.

    No class is in both lists: of fewer than twenty classes each list has half.
    """
    known = sorted((row for row in rows if row.cosine_mean is not None), key=lambda row: -_cosine(row))
    number = min(NUM_EXTREMES, -(-len(known) // 2))
    least, most = known[:number], known[number:][-NUM_EXTREMES:]
    return least, most[::-1]


def _cosine(row: ClassRow) -> float:
    assert row.cosine_mean is not None
    return row.cosine_mean


def _at(values: Sequence[float | None], index: int) -> float | None:
    return values[index] if index < len(values) else None


def mean_of_known(values: Sequence[float | None]) -> float | None:
    """Return the mean of the values that are not None, None if there are none."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
