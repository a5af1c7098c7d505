"""The losses of a batch over its iterations."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prism_ray.recover.curve import MAX_POINTS, CurveRecorder, curve_iterations
from prism_ray.recover.objective import Losses
from prism_ray.recover.setting import RecoverSetting
from prism_ray.stages.formation import Slot
from prism_ray.stages.recover import RecoverUnit
from tests.kept import Kept
from tests.recover.test_state import TOTAL, recover
from tests.recover.test_state import setting_of as setting_of  # a fixture

CPU = torch.device("cpu")


@given(st.integers(1, 10_000), st.integers(3, 5000))
def test_the_points_are_few_and_have_both_ends(total: int, num_columns: int) -> None:
    """Would catch a curve that grows with the iterations or the teachers, or leaves out the end."""
    points = curve_iterations(total, num_columns)
    assert points[0] == 0
    assert points[-1] == total - 1
    assert points == sorted(set(points))
    assert len(points) == min(total, MAX_POINTS) or len(points) == 2 or len(points) * num_columns <= 4000
    gaps = {after - before for before, after in pairwise(points)}
    assert not gaps or max(gaps) - min(gaps) <= 1


def losses(value: float, drawn: tuple[str, ...]) -> Losses:
    numbers = {name: torch.tensor(value * 10 + place) for place, name in enumerate(drawn)}
    ce, bn = torch.tensor(value), torch.tensor(value / 3)
    return Losses(ce + bn, ce, bn, numbers, {"own": torch.tensor(-value)})


def test_a_teacher_that_was_not_drawn_has_no_loss() -> None:
    """Would catch 0 for 'not drawn', or the losses of two teachers exchanged."""
    draws = (("a", "b"), ("c",))
    unit = RecoverUnit("distilled", "k", (Slot(0, 0),), (4,), draws, 1)
    recorder = CurveRecorder(unit, 2, ("own",), CPU)
    for iteration in range(4):
        recorder.record(iteration, losses(float(iteration), draws[iteration // 2]))
    curve = recorder.curve()
    assert curve.iterations == [0, 1, 2, 3]
    assert curve.ce == [0.0, 1.0, 2.0, 3.0]
    assert curve.bn == [0.0, 0.33333, 0.66667, 1.0]
    assert curve.alignments == {
        "a": [0.0, 10.0, None, None],
        "b": [1.0, 11.0, None, None],
        "c": [None, None, 20.0, 30.0],
    }
    assert curve.terms == {"own": [0.0, -1.0, -2.0, -3.0]}


@pytest.mark.parametrize("name", ["prism", "redrawn", "averaged", "late"])
def test_the_curve_is_that_of_the_loop(name: str, setting_of: Callable[..., Any]) -> None:
    """Would catch losses of other iterations than the curve says, or an end that is not the last loss."""
    setting: RecoverSetting = setting_of(name)
    batch = recover(setting)
    curve = batch.curve
    assert curve.iterations == list(range(TOTAL))
    assert curve.ce[0] == pytest.approx(batch.first.ce, rel=1e-4)
    assert curve.ce[-1] == pytest.approx(batch.last.ce, rel=1e-4)
    assert curve.bn[-1] == pytest.approx(batch.last.bn, rel=1e-4)
    assert set(curve.alignments) == set(setting.unit.teachers)
    assert list(curve.terms) == list(batch.last.terms)
    redraw = setting.config.selection.redraw
    for teacher, values in curve.alignments.items():
        drawn = [
            teacher in setting.unit.draws[i // redraw if isinstance(redraw, int) else 0] for i in range(TOTAL)
        ]
        assert [value is not None for value in values] == drawn
        seen = [value for value in values if value is not None]
        assert seen[-1] == pytest.approx(batch.last.alignments[teacher], rel=1e-4)


def test_a_batch_tells_how_far_it_is(setting_of: Callable[..., Any]) -> None:
    """Would catch a unit of two hours that looks dead, or losses of iterations that are still to come."""
    kept = Kept(every=10**6)
    batch = recover(setting_of("prism"), kept)
    assert [report[:2] for report in kept.reports] == [(n + 1, TOTAL) for n in range(TOTAL)]
    assert [report[2]["ce"] for report in kept.reports] == batch.curve.ce


def test_reports_do_not_wait_for_the_device(
    monkeypatch: pytest.MonkeyPatch, setting_of: Callable[..., Any]
) -> None:
    """Would catch a synchronisation in every iteration: values are only fetched when they are asked for."""
    calls = []
    monkeypatch.setattr(CurveRecorder, "latest", lambda self, done: calls.append(done) or {})
    kept = Kept(every=10**6)
    monkeypatch.setattr(kept, "report", lambda done, total, values: None)
    recover(setting_of("prism"), kept)
    assert calls == []
