"""The plot of a sweep: accuracy over the points. Needs matplotlib, which is an optional package."""

import io
from typing import Any

from prism_ray.sweep.naming import short_keys
from prism_ray.sweep.table import Row, SweepTable, value_text

_DPI = 150


def plot(table: SweepTable) -> bytes | None:
    """Return a PNG: accuracy against the key if one number differs, else against the points.

    The bars are the standard deviation over students. If the points differ in the bytes of their labels, a
    second panel has the accuracy against these. None if there is nothing to show yet. Raises ImportError
    without matplotlib.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no window, and no global state
    from matplotlib.figure import Figure

    rows = [row for row in table.rows if row.accuracies]
    if not rows:
        return None
    sizes = {row.label_bytes for row in rows if row.label_bytes > 0}
    has_sizes = len(sizes) > 1
    figure = Figure(figsize=(12 if has_sizes else 6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2 if has_sizes else 1, squeeze=False)[0]
    _against_points(panels[0], table, rows)
    if has_sizes:
        _against_bytes(panels[1], rows)
    panels[0].legend(fontsize="small")
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=_DPI)
    return sink.getvalue()


def _lines(rows: list[Row]) -> dict[str, list[Row]]:
    """Return the rows of each image set and evaluation, by a name for the legend."""
    several = len({row.evaluation for row in rows}) > 1
    lines: dict[str, list[Row]] = {}
    for row in rows:
        name = f"{row.image_set}, {row.evaluation}" if several else row.image_set
        lines.setdefault(name, []).append(row)
    return lines


def _figures(rows: list[Row]) -> tuple[list[float], list[float]]:
    """Return the accuracies and their spreads in percent."""
    return [100 * (row.mean or 0.0) for row in rows], [100 * (row.spread or 0.0) for row in rows]


def _against_points(panel: Any, table: SweepTable, rows: list[Row]) -> None:
    names = short_keys(table.keys)
    key = table.keys[0] if len(table.keys) == 1 else None
    values = [row.changes.get(key) for row in rows] if key else []
    is_number = bool(values) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    points = list(dict.fromkeys(_label(table, row) for row in rows))
    lines = _lines(rows)
    for number, (name, line) in enumerate(lines.items()):
        means, spreads = _figures(line)
        if key is not None and is_number:
            places: list[Any] = [row.changes[key] for row in line]
            order = sorted(range(len(line)), key=lambda index: places[index])
            places, means, spreads = ([each[i] for i in order] for each in (places, means, spreads))
        else:
            beside = 0.3 * ((number + 0.5) / len(lines) - 0.5)  # not on top of each other
            places = [points.index(_label(table, row)) + beside for row in line]
        style = "o-" if is_number else "o"
        panel.errorbar(places, means, yerr=spreads, fmt=style, capsize=3, label=name)
    if is_number:
        panel.set_xlabel(key)
    else:
        panel.set_xticks(range(len(points)), points, rotation=30, ha="right", fontsize="small")
        panel.set_xlabel(", ".join(names.values()))
    panel.set_ylabel("accuracy of the students (%)")
    panel.set_title(table.name)


def _label(table: SweepTable, row: Row) -> str:
    return ", ".join(value_text(row.changes, key) for key in table.keys) or "base"


def _against_bytes(panel: Any, rows: list[Row]) -> None:
    for name, line in _lines([row for row in rows if row.label_bytes > 0]).items():
        line = sorted(line, key=lambda row: row.label_bytes)
        means, spreads = _figures(line)
        panel.errorbar(
            [row.label_bytes for row in line], means, yerr=spreads, fmt="o-", capsize=3, label=name
        )
    panel.set_xscale("log")
    panel.set_xlabel("bytes of soft labels")
