"""The charts of results: accuracies as dots, curves of students, measures by class, projections."""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from prism_ray.analyze.fair import FairFigures
from prism_ray.analyze.results import ResultRow, Results, number_text
from prism_ray.analyze.text_table import TextTable
from prism_ray.analyze.verdict import Verdict
from prism_ray.config.resolve import FULL_DATA
from prism_ray.report.figure import COLOURS, SYMBOLS, Chart, Palette, axis, layout, pick, thin_lines
from prism_ray.report.projection import Projection
from prism_ray.report.rows import ClassRow, ProjectedImage, StudentPoint
from prism_ray.report.text import for_chart, percent, shown, variance_text

_MAX_CLASSES = 60  # with a dot each; more are drawn as a distribution


def accuracy_chart(
    results: Sequence[tuple[str, Results]], fair: FairFigures, verdict: Verdict, palette: Palette
) -> Chart | None:
    """Return the accuracy of each student as a dot, with mean and spread; a row for each set and evaluation.

    With several stores the dots are the students of all of them, each store with a mark of its own.
    """
    rows: dict[tuple[str, str], list[tuple[str, ResultRow]]] = defaultdict(list)
    for store, each in results:
        for row in each.rows:
            rows[row.image_set, row.evaluation].append((store, row))
    if not rows:
        return None
    evaluations = list(dict.fromkeys(evaluation for _, evaluation in rows))
    names = _row_names(rows, len(evaluations) > 1)
    order = sorted(rows, key=lambda key: (evaluations.index(key[1]), -_mean_of(rows[key])))
    stores = [store for store, _ in results]
    data: list[dict[str, Any]] = []
    for number, store in enumerate(stores):
        own = [(key, row) for key in order for each, row in rows[key] if each == store]
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": "student" if len(stores) == 1 else f"student, {for_chart(store)}",
                "x": [100 * value for _, row in own for value in row.accuracies],
                "y": [names[key] for key, row in own for _ in row.accuracies],
                "marker": {
                    "symbol": f"{pick(SYMBOLS, number)}-open",
                    "size": 9,
                    "color": [palette.colour(key[0]) for key, row in own for _ in row.accuracies],
                    "line": {"width": 1.6},
                },
                "hovertemplate": "%{x:.2f} %<extra>%{y}</extra>",
            }
        )
    figures = [_spread_of(rows[key]) for key in order]
    data.append(
        {
            "type": "scatter",
            "mode": "markers",
            "name": "mean and standard deviation",
            "x": [100 * mean for mean, _ in figures],
            "y": [names[key] for key in order],
            "error_x": {
                "type": "data",
                "array": [100 * (spread or 0.0) for _, spread in figures],
                "color": "$muted",
                "thickness": 2,
                "width": 6,
            },
            "marker": {"symbol": "line-ns", "size": 18, "line": {"width": 3, "color": "$text"}},
            "hovertemplate": "mean %{x:.2f} %<extra>%{y}</extra>",
        }
    )
    references = [("chance", fair.chance, "dot")]
    if verdict.full_data is not None:
        references.append(("all real images, hard labels", verdict.full_data, "dash"))
    if verdict.teachers:
        low, high = min(verdict.teachers.values()), max(verdict.teachers.values())
        if high - low > 0.01:
            references += [("worst teacher", low, "dashdot"), ("best teacher", high, "longdash")]
        else:
            references.append(("teachers", low, "dashdot"))
    for name, share, dash in references:
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": f"{name} ({100 * share:.1f} %)",
                "x": [100 * share, 100 * share],
                "y": [names[order[0]], names[order[-1]]] if len(order) > 1 else [names[order[0]]] * 2,
                "line": {"color": "$muted", "dash": dash, "width": 1.5},
                "hoverinfo": "name",
            }
        )
    table = TextTable(
        "Accuracy of the students, in %",
        ("trained on", "evaluation", "labels", "tested on", "mean", "+-", "each student"),
        tuple(
            (
                (f"{store}: " if len(stores) > 1 else "") + shown(row.image_set),
                row.evaluation,
                row.labels,
                f"{row.split} images",
                f"{100 * row.mean:.2f}",
                "-" if row.spread is None else f"{100 * row.spread:.2f}",
                " ".join(f"{100 * value:.1f}" for value in row.accuracies),
            )
            for key in order
            for store, row in rows[key]
        ),
    )
    shares = [x for trace in data for x in trace["x"]]
    shares += [100 * (mean + sign * (spread or 0.0)) for mean, spread in figures for sign in (-1, 1)]
    low, high = min(shares) - 3.0, max(shares) + 3.0
    best = ", ".join(f"{names[key]} {100 * _mean_of(rows[key]):.1f} %" for key in order[:8])
    return Chart(
        "accuracy",
        "Accuracy of students",
        f"Dot plot of the accuracy of each student on real images. Means: {best}.",
        data,
        layout(
            axis("accuracy on real images, %", range=[low, high]),
            axis("", autorange="reversed", type="category"),
        ),
        max(210, 130 + 32 * len(order)),
        table,
    )


def _set_name(image_set: str) -> str:
    return "all real images" if image_set == FULL_DATA else for_chart(image_set)


def _row_names(keys: Iterable[tuple[str, str]], several: bool) -> dict[tuple[str, str], str]:
    names = {}
    for image_set, evaluation in keys:
        name = _set_name(image_set)
        names[image_set, evaluation] = f"{name} · {for_chart(evaluation)}" if several else name
    return names


def _mean_of(rows: Sequence[tuple[str, ResultRow]]) -> float:
    return statistics.fmean(row.mean for _, row in rows)


def _spread_of(rows: Sequence[tuple[str, ResultRow]]) -> tuple[float, float | None]:
    """Return mean and standard deviation: over the runs, or over the students of a single one."""
    if len(rows) == 1:
        return rows[0][1].mean, rows[0][1].spread
    means = [row.mean for _, row in rows]
    return statistics.fmean(means), statistics.stdev(means)


def student_charts(points: Sequence[StudentPoint], palette: Palette) -> list[Chart]:
    """Return a chart for each evaluation: accuracy over the epochs, a thin line for each student."""
    charts: list[Chart] = []
    for evaluation in dict.fromkeys(point.evaluation for point in points):
        own = [point for point in points if point.evaluation == evaluation]
        data: list[dict[str, Any]] = []
        finals = []
        for image_set in dict.fromkeys(point.image_set for point in own):
            lines: dict[tuple[str, int], list[StudentPoint]] = defaultdict(list)
            for point in own:
                if point.image_set == image_set:
                    lines[point.store, point.student].append(point)
            name = _set_name(image_set)
            style = {"color": palette.colour(image_set)}
            data.append(
                thin_lines(
                    (
                        ([p.num_epochs for p in line], [100 * p.accuracy for p in line])
                        for line in lines.values()
                    ),
                    style,
                    0.4,
                    name=name,
                )
            )
            x, y = _means([{p.num_epochs: 100 * p.accuracy for p in line} for line in lines.values()])
            finals.append(f"{name} {y[-1]:.1f} %")
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "name": name,
                    "x": x,
                    "y": y,
                    "line": style | {"width": 2.5, "dash": palette.dash(image_set)},
                    "marker": {"symbol": palette.symbol(image_set), "size": 8},
                    "hovertemplate": "epoch %{x}: %{y:.1f} %",
                }
            )
        charts.append(
            Chart(
                f"students-{len(charts)}",
                shown(evaluation),
                f"Accuracy of the students of {shown(evaluation)} over the epochs; the means end at "
                f"{', '.join(finals)}.",
                data,
                layout(axis("epochs"), axis("accuracy on real images, %")),
                340,
                group="students",
            )
        )
    return charts


def _means(lines: Sequence[dict[int, float]]) -> tuple[list[int], list[float]]:
    """Return the mean of lines where most of them have a point."""
    x = sorted({step for line in lines for step in line})
    x = [step for step in x if 2 * sum(step in line for line in lines) > len(lines)] or x
    return x, [statistics.fmean(line[step] for line in lines if step in line) for step in x]


def class_charts(rows: Sequence[ClassRow], palette: Palette, several: bool) -> list[Chart]:
    """Return the charts of the measures by class; `several` tells whether they are of several stores."""
    charts = []
    stores = list(dict.fromkeys(row.store for row in rows))
    for number, (title, unit, field, note) in enumerate(
        (
            ("Intra-class cosine similarity", "cosine similarity", "cosine_mean", "lower is more diverse"),
            ("Verifier accuracy", "verified, %", "verified", "higher is easier to recognise"),
            ("Student accuracy", "accuracy, %", "student_accuracy", "mean over the students"),
        )
    ):
        factor = 1 if field == "cosine_mean" else 100
        lines: dict[tuple[str, str], list[ClassRow]] = defaultdict(list)
        for row in rows:
            if getattr(row, field) is not None:
                lines[row.image_set, row.store].append(row)
        if not lines:
            continue
        few = len({row.label for each in lines.values() for row in each}) <= _MAX_CLASSES
        data, means = [], []
        for (image_set, store), each in lines.items():
            values = [factor * getattr(row, field) for row in each]
            name = _set_name(image_set)
            name += f" · {for_chart(store)}" if several else ""
            means.append(f"{name} {statistics.fmean(values):.3g}")
            common: dict[str, Any] = {"name": name, "text": [for_chart(row.class_name) for row in each]}
            colour, mark = palette.colour(image_set), palette.symbol(image_set, stores.index(store))
            if few:
                errors = [math.sqrt(row.cosine_variance or 0.0) for row in each] if factor == 1 else []
                data.append(
                    common
                    | {
                        "type": "scatter",
                        "mode": "markers",
                        "x": [row.label for row in each],
                        "y": values,
                        "marker": {"color": colour, "symbol": mark, "size": 9},
                        "hovertemplate": "%{text}: %{y:.3g}",
                    }
                    | ({"error_y": {"array": errors, "color": colour, "thickness": 1}} if any(errors) else {})
                )
            else:
                data.append(
                    common
                    | {
                        "type": "box",
                        "x": values,
                        "y": [name] * len(values),
                        "orientation": "h",
                        "boxpoints": "all",
                        "boxmean": "sd",
                        "jitter": 0.5,
                        "pointpos": 0,
                        "marker": {"color": colour, "size": 3, "opacity": 0.5},
                        "line": {"width": 1.5},
                        "hovertemplate": "%{text}: %{x:.3g}",
                        "showlegend": False,
                    }
                )
        first = max(lines.values(), key=len)
        names = [_short(row.class_name) for row in first]
        longest = max(map(len, names))
        class_axis = axis("class", tickvals=[row.label for row in first], ticktext=names, tickangle=-45)
        value_axis = axis(unit)
        if factor == 100:  # around a single value Plotly would go beyond 100 %
            values = [100 * getattr(row, field) for each in lines.values() for row in each]
            value_axis["range"] = [max(-4.0, min(values) - 5.0), min(104.0, max(values) + 5.0)]
        frame = layout(class_axis, value_axis) if few else layout(value_axis, axis("", type="category"))
        charts.append(
            Chart(
                f"classes-{number}",
                f"{title} ({note})",
                f"{title} by class ({note}). Means over the classes: {'; '.join(means)}.",
                data,
                frame,
                360 + (60 if longest > 6 else 0) if few else 140 + 70 * len(lines),
                group="classes",
            )
        )
    return charts


def _short(name: str) -> str:
    return for_chart(name if len(name) <= 14 else f"{name[:13]}…")


def class_table(rows: Sequence[ClassRow], several: bool) -> TextTable:
    """Return all measures by class as text."""
    return TextTable(
        "Measures by class",
        ("class", "label", "image set", "cosine", "its variance", "verified", "students"),
        tuple(
            (
                shown(row.class_name, 80),
                str(row.label),
                f"{row.image_set} · {row.store}" if several else row.image_set,
                number_text(row.cosine_mean, ".3f"),
                variance_text(row.cosine_variance),
                percent(row.verified),
                percent(row.student_accuracy),
            )
            for row in rows
        ),
    )


def projection_charts(
    images: Sequence[ProjectedImage], projection: Projection, class_names: Sequence[str], several: bool
) -> list[Chart]:
    """Return a chart for each image set, all with the same axes, a colour and a mark for each class."""
    labels = sorted({image.label for image in images})
    (x_range, y_range) = (_range([getattr(image, key) for image in images]) for key in ("x", "y"))
    charts: list[Chart] = []
    for store, image_set in dict.fromkeys((image.store, image.image_set) for image in images):
        data: list[dict[str, Any]] = []
        for number, label in enumerate(labels):
            own = [i for i in images if (i.store, i.image_set, i.label) == (store, image_set, label)]
            data.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": _short(class_names[label]),
                    "meta": label,
                    "x": [round(image.x, 3) for image in own],
                    "y": [round(image.y, 3) for image in own],
                    "text": [f"{for_chart(class_names[label])}, image {image.ipc_index}" for image in own],
                    "marker": {
                        "color": pick(COLOURS, number),
                        "symbol": pick(SYMBOLS, number + number // len(SYMBOLS)),
                        "size": 8,
                        "opacity": 0.8,
                        "line": {"width": 0.5, "color": "$paper"},
                    },
                    "hovertemplate": "%{text}<extra></extra>",
                }
            )
        title = f"{image_set} · {store}" if several else image_set
        blank = {"showticklabels": False, "zeroline": False}
        charts.append(
            Chart(
                f"projection-{len(charts)}",
                shown(title),
                f"{projection.kind} of the features of {shown(title)}: {len(labels)} classes, "
                f"{sum(len(each['x']) for each in data)} images.",
                data,
                layout(
                    axis("", range=x_range, **blank),
                    axis("", range=y_range, **blank),
                    showlegend=False,
                ),
                320,
                group="projection",
            )
        )
    return charts


def _range(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 1.0
    return [low - margin, high + margin]
