"""Measures class by class."""

from dataclasses import replace

import pytest

from prism_ray.report.classes import extremes, read_classes
from prism_ray.report.opened import Opened
from prism_ray.report.rows import ClassRow
from prism_ray.store.records import decode_record


def test_measures_are_those_of_the_set(opened: Opened) -> None:
    """Catches classes that moved up, and a mean over the classes that is not that of the commit."""
    rows = [row for row in read_classes(opened, {}) if row.image_set == "prism"]
    assert [row.label for row in rows] == list(range(10))
    stats = opened.progress.commits["measure/prism"].stats
    means, variances = ([getattr(row, key) for row in rows] for key in ("cosine_mean", "cosine_variance"))
    assert sum(means) / 10 == pytest.approx(stats["cosine_mean"])
    assert sum(variances) / 10 == pytest.approx(stats["cosine_variance"])
    verified = [row.verified for row in rows]
    assert sum(v for v in verified if v is not None) / 10 == pytest.approx(stats["verified"]["judge"])


def row(label: int, cosine: float | None) -> ClassRow:
    return ClassRow("run", "prism", label, str(label), cosine, None, None, None)


@pytest.mark.parametrize("number", [0, 1, 5, 20, 30])
def test_extremes_are_disjoint_and_in_order(number: int) -> None:
    """Catches a class that is both least and most diverse, and lists in the wrong order."""
    rows = [row(label, (7 * label % 31) / 31) for label in range(number)] + [row(99, None)]
    least, most = extremes(rows)
    assert len(least) == min(10, (number + 1) // 2)
    assert len(most) == min(10, number // 2)
    values = [each.cosine_mean for each in rows if each.cosine_mean is not None]
    assert [each.cosine_mean for each in least] == sorted(values, reverse=True)[: len(least)]
    assert [each.cosine_mean for each in most] == sorted(values)[: len(most)]


def test_a_card_of_an_earlier_version(opened: Opened) -> None:
    """Catches a page that needs what earlier versions did not measure."""
    from prism_ray.report.classes import _Card

    card = decode_record(_Card, b'{"cosine_per_class": [0.5, null], "cosine_mean": 0.5}', "card")
    assert card == replace(_Card(), cosine_per_class=(0.5, None))
