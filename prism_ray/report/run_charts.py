"""The charts of how a run went: losses, supervision, the training of teachers, and time."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from prism_ray.analyze.text_table import TextTable
from prism_ray.report.figure import COLOURS, DASHES, SYMBOLS, Chart, axis, layout, pick, thin_lines
from prism_ray.report.rows import DrawRow, LossPoint
from prism_ray.report.text import for_chart, shown
from prism_ray.report.timeline import Timeline, bars, median_seconds
from prism_ray.stages import stage_names
from prism_ray.wording import duration, size

Line = list[tuple[int, float]]
Values = npt.NDArray[np.float64]
_TITLES = {
    "cross-entropy": ("Cross-entropy", "cross-entropy of the primary"),
    "alignment": ("R_m, the distance of the statistics, per teacher", "R_m"),
    "term": ("Terms of the method", "term"),
}
_NUM_STEPS = 100  # at which a median is taken


def loss_charts(points: Sequence[LossPoint], prefix: str) -> list[Chart]:
    """Return the charts of one image set: a thin line for each batch, and the median of all."""
    charts = []
    for kind, (title, unit) in _TITLES.items():
        lines: dict[str, dict[str, Line]] = defaultdict(lambda: defaultdict(list))
        for point in points:
            if point.kind == kind:
                lines[point.name][point.batch].append((point.step, point.value))
        if not lines:
            continue
        data: list[dict[str, Any]] = []
        rows, ends = [], []
        num_batches = max(len(each) for each in lines.values())
        for number, (name, by_batch) in enumerate(lines.items()):
            style = {"color": pick(COLOURS, number)}
            label = for_chart(name) or "median of the batches"
            batches = (
                ((x for x, _ in line), (float(f"{y:.4g}") for _, y in line)) for line in by_batch.values()
            )
            data.append(thin_lines(batches, style, 0.0 if num_batches == 1 else 0.35))
            steps, median = median_line(list(by_batch.values()))
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "name": label,
                    "x": [round(float(step), 1) for step in steps],
                    "y": [float(f"{value:.5g}") for value in median],
                    "line": style | {"width": 3, "dash": pick(DASHES, number)},
                    "hovertemplate": "iteration %{x:.0f}: %{y:.4g}",
                }
            )
            ends.append(f"{label} from {median[0]:.3g} to {median[-1]:.3g}")
            rows.append((shown(name) or "all", f"{len(by_batch)}", f"{median[0]:.4g}", f"{median[-1]:.4g}"))
        log = min(value for each in lines.values() for line in each.values() for _, value in line) > 0.0
        charts.append(
            Chart(
                f"{prefix}-{kind}",
                title,
                f"{title} over the iterations, a line for each of {num_batches} batches; medians: "
                f"{'; '.join(ends)}.",
                data,
                layout(axis("iteration"), axis(unit, **({"type": "log", "dtick": 1} if log else {}))),
                340,
                TextTable(f"{title}: medians", ("name", "batches", "first", "last"), tuple(rows)),
                group=f"{prefix}-losses",
            )
        )
    return charts


def median_line(lines: Sequence[Line]) -> tuple[Values, Values]:
    """Return steps, and the median of the lines that reach each of them, with lines drawn between points.

    Batches of other rounds have other numbers of iterations, so their points are at other steps.
    """
    if len(lines) == 1:
        only = np.array(lines[0], float)
        return only[:, 0], only[:, 1]
    steps = np.unique([step for line in lines for step, _ in line]).astype(float)
    if len(steps) > _NUM_STEPS:
        steps = steps[np.unique(np.linspace(0, len(steps) - 1, _NUM_STEPS).round().astype(int))]
    rows = []
    for line in lines:
        x, y = (np.array(values, float) for values in zip(*line, strict=True))
        rows.append(np.interp(steps, x, y, left=np.nan, right=np.nan))
    table = np.stack(rows)
    enough = 2 * np.isfinite(table).sum(axis=0) >= min(len(lines), 2)
    return steps[enough], np.nanmedian(table[:, enough], axis=0)


def squeeze_chart(points: Sequence[LossPoint], prefix: str) -> Chart | None:
    """Return the losses of the teachers in squeeze, None if the store has none."""
    lines: dict[str, Line] = defaultdict(list)
    for point in points:
        if point.kind == "squeeze":
            lines[point.batch].append((point.step, point.value))
    if not lines:
        return None
    data = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": for_chart(name),
            "x": [step for step, _ in line],
            "y": [value for _, value in line],
            "line": {"color": pick(COLOURS, number), "dash": pick(DASHES, number)},
            "marker": {"symbol": pick(SYMBOLS, number)},
            "hovertemplate": "epoch %{x}: %{y:.3g}",
        }
        for number, (name, line) in enumerate(lines.items())
    ]
    ends = ", ".join(f"{shown(name)} {line[-1][1]:.3g}" for name, line in lines.items())
    return Chart(
        f"{prefix}-squeeze",
        "Training of the teachers",
        f"Mean loss of each teacher by epoch of squeeze; at the end: {ends}.",
        data,
        layout(axis("epoch"), axis("cross-entropy")),
        320,
        group=f"{prefix}-teachers",
    )


def supervision_chart(draws: Sequence[DrawRow], teachers: Sequence[str], prefix: str) -> Chart | None:
    """Return the matrix of teachers and batches: the share of a batch's draws that a teacher is in."""
    batches = sorted({draw.batch for draw in draws})
    if not batches:
        return None
    shares = {(draw.teacher, draw.batch): draw.share for draw in draws}
    names = [name for name in teachers if any((name, batch) in shares for batch in batches)]
    is_small = len(batches) <= 12
    totals = {name: sum(shares.get((name, batch), 0.0) for batch in batches) / len(batches) for name in names}
    said = ", ".join(f"{shown(name)} {100 * share:.0f} %" for name, share in totals.items())
    points = [(name, batch) for name in names for batch in batches if (name, batch) in shares]
    largest = 26 if is_small else max(5, min(26, 700 // len(batches)))
    data: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "markers+text" if is_small else "markers",
            "x": [batch for _, batch in points],
            "y": [for_chart(name) for name, _ in points],
            "text": [f"{100 * shares[point]:.0f} %" for point in points],
            "textposition": "middle right",
            "marker": {
                "symbol": "square",
                "size": [round(largest * math.sqrt(shares[point]), 1) for point in points],
                "color": COLOURS[0],
            },
            "hovertemplate": "%{y} in %{text} of the draws of %{x}<extra></extra>",
        }
    ]
    order = [for_chart(name) for name in names][::-1]
    rows = tuple((shown(name), f"{100 * totals[name]:.0f} %") for name in names)
    return Chart(
        f"{prefix}-matrix",
        "Teachers of each batch",
        f"Matrix of {len(names)} teachers and {len(batches)} batches. Mean share of the draws: {said}.",
        data,
        layout(
            axis(
                "batch",
                **_in_order(batches),
                showticklabels=len(batches) <= 24,
                range=[-0.5, len(batches) - 0.3],  # room for the marks and what stands to their right
            ),
            axis("", **_in_order(order)),
            showlegend=False,
        ),
        110 + 40 * len(names),
        TextTable("Share of the draws, mean over the batches", ("teacher", "share"), rows),
        group=f"{prefix}-teachers",
    )


def time_chart(timeline: Timeline, prefix: str) -> Chart | None:
    """Return the Gantt chart: a row for each lane of a host, a colour for each stage."""
    found = bars(timeline)
    if not found:
        return None
    lanes = list(dict.fromkeys(bar.lane for bar in sorted(found, key=lambda bar: bar.lane)))
    longest = max(bar.end for bar in found)
    unit, factor = ("minutes", 60.0) if longest < 7200 else ("hours", 3600.0)
    unit, factor = ("seconds", 1.0) if longest < 300 else (unit, factor)
    data = []
    for number, stage in enumerate(stage_names()):
        own = [bar for bar in found if bar.stage == stage]
        if not own:
            continue
        data.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": stage,
                "y": [for_chart(bar.lane) for bar in own],
                "base": [round(bar.start / factor, 4) for bar in own],
                "x": [round(max(bar.end - bar.start, longest / 2000) / factor, 4) for bar in own],
                "text": [_named(bar.first_unit, bar.num_units) for bar in own],
                "textposition": "none",
                "marker": {
                    "color": pick(COLOURS, number),
                    "line": {"width": 0.5, "color": "$paper"},
                    "pattern": {
                        "shape": pick(("", "/", "", "x", ".", ""), number),
                        "fillmode": "overlay",
                        "fgopacity": 0.4,
                        "fgcolor": "$paper",
                    },
                },
                "hovertemplate": f"%{{text}}, %{{x:.3g}} {unit}<extra></extra>",
            }
        )
    cuts = []
    for start, _ in timeline.pauses:
        at = timeline.seconds_of_work(start) / factor
        cuts.append(
            {
                "type": "line",
                "x0": at,
                "x1": at,
                "y0": 0,
                "y1": 1,
                "yref": "paper",
                "line": {"color": "$muted", "dash": "dot"},
            }
        )
    return Chart(
        f"{prefix}-time",
        "When each stage ran",
        f"Gantt chart: {len(timeline.units):,} units in {len(lanes)} rows over {duration(longest)} of work"
        + (f", with {len(cuts)} pauses cut out" if cuts else "")
        + ".",
        data,
        layout(
            axis(f"{unit} of work since the first unit"),
            axis("", **_in_order([for_chart(lane) for lane in lanes][::-1])),
            barmode="overlay",
            bargap=0.25,
            shapes=cuts,
        ),
        min(900, 150 + 34 * len(lanes)),
    )


def _in_order(names: Sequence[str]) -> dict[str, Any]:
    """Return the options of an axis of names, from the left or from below."""
    return {"type": "category", "categoryorder": "array", "categoryarray": list(names)}


def _named(unit: str, number: int) -> str:
    return for_chart(unit) if number == 1 else f"{for_chart(unit)} and {number - 1:,} more"


def stage_table(timeline: Timeline, states: Mapping[str, tuple[str, int, int]]) -> TextTable:
    """Return the figures of each stage; `states` has its state, and the units done and in all."""
    cost, rows = timeline.cost, []
    for stage, (state, done, units) in states.items():
        median = median_seconds(timeline.units, stage)
        rows.append(
            (
                stage,
                state,
                f"{done:,} of {units:,}",
                f"{cost.seconds_by_stage.get(stage, 0.0):,.1f}",
                "-" if median is None else f"{median:,.1f}",
                size(cost.bytes_by_stage.get(stage, 0)),
            )
        )
    columns = ("stage", "state", "units done", "actor seconds", "median of a unit, s", "bytes")
    return TextTable("Stages", columns, tuple(rows))
