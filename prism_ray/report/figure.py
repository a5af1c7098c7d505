"""A chart of the page: a figure for Plotly, its text alternative, its table. The colours of all charts.

Colours are those of Okabe and Ito, which the colour-blind can tell apart; marks and dashes say it again.
`$text`, `$muted`, `$grid` and `$paper` stand for colours of the light or dark page.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from prism_ray.analyze.text_table import TextTable

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C6BB1", "#7F7F7F")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "triangle-down")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
CONTROL_COLOUR = "$text"


@dataclass(frozen=True)
class Chart:
    """A figure: `data` and `layout` are plain data for `Plotly.newPlot`."""

    id: str
    title: str
    alt: str  # what the figure shows, in words
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    height: int  # CSS pixels
    table: TextTable | None = None
    group: str = ""  # charts of one group stand side by side

    @property
    def figure(self) -> dict[str, Any]:
        return {"data": self.data, "layout": self.layout}


def axis(title: str, **more: Any) -> dict[str, Any]:
    """Return an axis with a title, in the colours of the page."""
    return {
        "title": {"text": title, "standoff": 8},
        "gridcolor": "$grid",
        "zerolinecolor": "$grid",
        "linecolor": "$muted",
        "automargin": True,
    } | more


def layout(x: dict[str, Any], y: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return the layout that all charts have in common."""
    return {
        "xaxis": x,
        "yaxis": y,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": "$text", "size": 13},
        "margin": {"l": 8, "r": 12, "t": 8, "b": 8},
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0, "xanchor": "left"},
        "hoverlabel": {"bgcolor": "$paper", "font": {"color": "$text"}},
        "dragmode": False,
        "showlegend": True,
    } | more


@dataclass
class Palette:
    """The colours, marks and dashes of names, in the order in which they come."""

    controls: frozenset[str] = frozenset()
    names: list[str] = field(default_factory=list)

    def index(self, name: str) -> int:
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)

    def colour(self, name: str) -> str:
        return CONTROL_COLOUR if name in self.controls else pick(COLOURS, self.index(name))

    def symbol(self, name: str, store: int = 0) -> str:
        """Return the mark of a name; that of another store is open, or open with a dot."""
        if name in self.controls:
            return pick(("circle-open", "circle-open-dot", "circle-x-open"), store)
        return pick(SYMBOLS, self.index(name)) + pick(("", "-open", "-open-dot"), store)

    def dash(self, name: str) -> str:
        return "dot" if name in self.controls else pick(DASHES, self.index(name))


def thin_lines(
    lines: Iterable[tuple[Iterable[float], Iterable[float | None]]],
    style: dict[str, Any],
    opacity: float,
    **more: Any,
) -> dict[str, Any]:
    """Return one trace of several thin lines (x, y), with gaps between them and no text under the mouse."""
    x: list[float | None] = []
    y: list[float | None] = []
    for steps, values in lines:
        x += [*steps, None]
        y += [*values, None]
    return {
        "type": "scatter",
        "mode": "lines",
        **more,
        "x": x,
        "y": y,
        "line": style | {"width": 1},
        "opacity": opacity,
        "showlegend": False,
        "hoverinfo": "skip",
    }


def pick(values: Sequence[str], index: int) -> str:
    return values[index % len(values)]
