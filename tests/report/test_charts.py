"""The charts of results."""

from typing import Any

import plotly.graph_objects as go

from prism_ray.report.build import build_report
from prism_ray.report.charts import _MAX_CLASSES, class_charts
from prism_ray.report.figure import COLOURS, Palette
from prism_ray.report.opened import Opened
from prism_ray.report.rows import ClassRow


def coloured(values: Any) -> Any:
    """Return a figure with colours in place of those that the page sets."""
    if isinstance(values, dict):
        return {key: coloured(value) for key, value in values.items()}
    if isinstance(values, list):
        return [coloured(value) for value in values]
    return "#000" if isinstance(values, str) and values.startswith("$") else values


def test_plotly_takes_every_chart(opened: Opened) -> None:
    """Catches a misspelt option, which the browser passes over in silence."""
    report = build_report([opened], features=False)
    charts = report.charts()
    assert len({chart.id for chart in charts}) == len(charts) >= 8
    for chart in charts:
        go.Figure(coloured(chart.figure))  # raises ValueError for what it does not know
        assert chart.alt.endswith(".")


def test_every_student_is_a_dot(opened: Opened) -> None:
    """Catches a set without dots, and a mean that is not that of its dots."""
    chart = build_report([opened], features=False).accuracy
    assert chart is not None
    dots, means = chart.data[:2]
    assert len(dots["x"]) == 4
    for name, mean in zip(means["y"], means["x"], strict=True):
        own = [x for x, y in zip(dots["x"], dots["y"], strict=True) if y == name]
        assert abs(sum(own) / len(own) - mean) < 1e-9


def test_many_classes_are_a_distribution() -> None:
    """Catches a thousand names below an axis."""
    palette = Palette()
    for number, kind in ((_MAX_CLASSES, "scatter"), (1000, "box")):
        rows = [ClassRow("run", "a", k, f"<b>{k}</b>", k / 1000, 0.1, 0.5, None) for k in range(number)]
        charts = class_charts(rows, palette, several=False)
        assert [chart.data[0]["type"] for chart in charts] == [kind, kind]
        assert all("<" not in text for chart in charts for text in chart.data[0]["text"])
        assert len(str(charts[0].layout)) < 5000 or kind == "scatter"


def test_a_set_has_one_colour_and_mark() -> None:
    """Catches a set that changes its colour between charts, or two sets that look alike."""
    palette = Palette(frozenset(["random-real"]))
    looks = {(palette.colour(name), palette.symbol(name)) for name in ("a", "b", "random-real", "c")}
    assert len(looks) == 4
    assert palette.colour("a") == COLOURS[0]
    assert palette.symbol("a", 1) == "circle-open"
