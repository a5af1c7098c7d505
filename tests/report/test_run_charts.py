"""The charts of how a run went."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prism_ray.report.rows import DrawRow, LossPoint
from prism_ray.report.run_charts import loss_charts, median_line, supervision_chart

_LINE = st.lists(
    st.tuples(st.integers(0, 500), st.floats(-5, 5)), min_size=1, max_size=9, unique_by=lambda p: p[0]
)


@given(st.lists(_LINE.map(sorted), min_size=1, max_size=6))
def test_a_median_lies_between_the_lines(lines: list[list[tuple[int, float]]]) -> None:
    """Catches NaN where a batch has no point, and steps that no batch has."""
    steps, median = median_line(lines)
    assert len(steps) == len(median) >= 1
    assert np.isfinite(median).all()
    values = [value for line in lines for _, value in line]
    assert min(values) - 1e-9 <= median.min() <= median.max() <= max(values) + 1e-9
    assert steps.max() <= max(step for line in lines for step, _ in line)


def test_batches_of_other_rounds_have_other_steps() -> None:
    """Catches a median of the first points of all batches, whatever their iterations are."""
    steps, median = median_line([[(0, 0.0), (10, 10.0)], [(0, 2.0), (20, 2.0)], [(0, 1.0), (10, 1.0)]])
    assert dict(zip(steps.tolist(), median.tolist(), strict=True)) == {0: 1.0, 10: 2.0, 20: 2.0}


def test_a_chart_for_each_kind_of_loss() -> None:
    """Catches R_m of all teachers in one line, and a term of a method that is not shown."""
    points = [
        LossPoint("run", "a", batch, step, kind, name, value)
        for batch in ("b0", "b1")
        for step, value in ((0, 4.0), (9, 1.0))
        for kind, name in (("cross-entropy", ""), ("alignment", "t"), ("alignment", "u"), ("term", "mine"))
    ]
    charts = loss_charts(points, "x")
    assert [chart.id for chart in charts] == ["x-cross-entropy", "x-alignment", "x-term"]
    medians = [trace["name"] for trace in charts[1].data if trace["line"]["width"] == 3]
    assert medians == ["t", "u"]


def test_the_matrix_has_the_shares() -> None:
    """Catches teachers that seem to have supervised a batch, and batches in another order."""
    draws = [DrawRow("run", "a", "b1", "t", 0.25), DrawRow("run", "a", "b0", "u", 1.0)]
    chart = supervision_chart(draws, ["t", "u", "idle"], "x")
    assert chart is not None
    (trace,) = chart.data
    assert list(zip(trace["x"], trace["y"], trace["text"], strict=True)) == [
        ("b1", "t", "25 %"),
        ("b0", "u", "100 %"),
    ]
    assert chart.layout["xaxis"]["categoryarray"] == ["b0", "b1"]
    large, small = trace["marker"]["size"][1], trace["marker"]["size"][0]
    assert large == pytest.approx(2 * small, rel=0.05)  # the area is the share
    assert supervision_chart([], ["t"], "x") is None
