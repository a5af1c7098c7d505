"""The pictures of growth.py: a panel for each number that a cost grows with, and the law in it."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from laws import Line, Series

_DPI = 130
_COLOURS = ("#3b6fb6", "#c8553d", "#4f8a4f", "#8a5fa8")


@dataclass(frozen=True)
class Curve:
    """A series as it is drawn."""

    series: str
    label: str
    power: int | None = 1  # the law is a + b x^power; None: no law is drawn
    symbol: str = "x"  # of x in the law
    begins: float = 0.0  # the law is fitted to the points from this x


@dataclass(frozen=True)
class Panel:
    title: str
    x: str
    y: str
    curves: tuple[Curve, ...]
    scale: float = 1.0  # of the values: 1e3 for milliseconds
    log: str = "xy"  # the axes that are logarithmic; the others begin at 0


FAMILIES = {
    "step": (
        Panel(
            "batch, 64 px",
            "images in a batch",
            "ms of an iteration",
            (Curve("batch, cpu", "CPU", symbol="B", begins=2), Curve("batch, wall", "wall", None)),
            1e3,
        ),
        Panel(
            "resolution, 8 images",
            "pixels of a side",
            "ms of an iteration",
            (Curve("size, cpu", "CPU", 2, "s"), Curve("size, wall", "wall", None)),
            1e3,
        ),
        Panel(
            "BN teachers, 8 images of 64 px",
            "teachers that are matched",
            "ms of an iteration",
            (Curve("teachers, cpu", "CPU", symbol="M"), Curve("teachers, wall", "wall", None)),
            1e3,
            log="",
        ),
    ),
    "actors": (
        Panel(
            "the driver's own thread",
            "actors",
            "CPU ms of a unit",
            (
                Curve("threads, cpu", "threads", symbol="A"),
                Curve("Ray, cpu", "Ray", None),
                Curve("Ray, slow, cpu", "Ray, slow", symbol="A"),
            ),
            1e3,
            log="x",
        ),
        Panel(
            "the driver's process",
            "actors",
            "CPU ms of a unit",
            (
                Curve("Ray, process", "Ray", None),
                Curve("Ray, slow, process", "Ray, slow", symbol="A"),
            ),
            1e3,
            log="x",
        ),
        Panel(
            "from unit to unit",
            "actors",
            "wall ms of a unit",
            (Curve("threads, wall", "threads", None), Curve("Ray, wall", "Ray", None)),
            1e3,
            log="x",
        ),
    ),
    "classes": (
        Panel(
            "relabel",
            "classes",
            "CPU µs of a view",
            (Curve("relabel, cpu", "all", symbol="C"), Curve("encoding, cpu", "encoding", symbol="C")),
            1e6,
        ),
        Panel(
            "soft labels, float16",
            "classes",
            "bytes of a view",
            (Curve("bytes", "bytes", symbol="C"),),
        ),
        Panel(
            "student, steps of 64",
            "classes",
            "CPU ms of a step",
            (
                Curve("student, cpu", "all", symbol="C"),
                Curve("reading, cpu", "reading labels", symbol="C"),
            ),
            1e3,
        ),
    ),
}


def draw(panels: tuple[Panel, ...], series: Mapping[str, Series]) -> tuple[bytes, list[str]]:
    """Return a PNG, and a line about each law. Points are medians, bars the range of the rounds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no window, and no global state
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.0 * len(panels), 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    names = dict.fromkeys(curve.label for panel in panels for curve in panel.curves)
    colours = dict(zip(names, _COLOURS, strict=False))
    found = []
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        found += list(_draw_panel(axes, panel, series, colours))
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=_DPI, bbox_inches="tight")
    return sink.getvalue(), found


def _draw_panel(
    axes: Any, panel: Panel, series: Mapping[str, Series], colours: Mapping[str, str]
) -> Iterator[str]:
    """Draw the curves of a panel; yield a line about each law."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    numbers: list[float] = []
    for curve in panel.curves:
        if curve.series not in series:
            continue
        colour = colours[curve.label]
        points = series[curve.series].points
        x, middle = [point.x for point in points], [panel.scale * point.median for point in points]
        numbers = sorted({*numbers, *x})
        below = [value - panel.scale * min(point.values) for value, point in zip(middle, points, strict=True)]
        above = [panel.scale * max(point.values) - value for value, point in zip(middle, points, strict=True)]
        fitted = [(each, value) for each, value in zip(x, middle, strict=True) if each >= curve.begins]
        has_law = curve.power is not None and len(fitted) > 2
        style = {"fmt": "o" if has_law else "o:", "markersize": 4 if has_law else 3, "capsize": 2}
        label = curve.label
        if curve.power is not None and has_law:
            line = Line.through([each**curve.power for each, _ in fitted], [value for _, value in fitted])
            label = f"{label}: {line.text(curve.symbol + {1: '', 2: '²'}[curve.power])}"
            fine = [x[0] * (x[-1] / x[0]) ** (step / 50) for step in range(51)]
            axes.plot(fine, [line.at(each**curve.power) for each in fine], color=colour, linewidth=1)
            yield f"{panel.title}; {panel.y}; {label}; {_largest_error(line, curve.power, fitted)}"
        axes.errorbar(x, middle, yerr=[below, above], color=colour, label=label, **style)
    if "x" in panel.log:
        axes.set_xscale("log")
        numbers = _apart(numbers)
    axes.set_xticks(numbers, [f"{number:,.0f}" for number in numbers])
    if "y" in panel.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    else:
        axes.set_ylim(bottom=0.0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.minorticks_off()
    axes.set_title(panel.title, fontsize="medium")
    axes.set_xlabel(panel.x)
    axes.set_ylabel(panel.y)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.2), frameon=False)


def _largest_error(line: Line, power: int, points: list[tuple[float, float]]) -> str:
    """Say how far the law is from the medians that it was fitted to."""
    off = {x: line.at(x**power) / value - 1.0 for x, value in points}
    worst = max(off, key=lambda x: abs(off[x]))
    side = "above" if off[worst] > 0 else "below"
    return f"from {points[0][0]:g}: at most {100 * abs(off[worst]):.0f} % {side} the median (at {worst:g})"


def _apart(numbers: list[float]) -> list[float]:
    """Return the first and last of ascending numbers, and those whose labels fit between on a log axis."""
    least = (numbers[-1] / numbers[0]) ** 0.1
    kept = numbers[:1]
    for number in numbers[1:-1]:
        if number > least * kept[-1] and least * number < numbers[-1]:
            kept.append(number)
    return [*kept, *numbers[1:][-1:]]
