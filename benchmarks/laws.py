"""How a cost grows with a number: what was measured, as JSON, and the straight line through it. No torch.

A line t = a + b x is fitted to the medians by least squares of the relative errors, because the costs of a
series differ by a factor of a hundred, and the small ones count as much as the large ones.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Point:
    """The cost at one number: a value of each round."""

    x: float
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.values)


@dataclass(frozen=True)
class Series:
    """The cost of one kind of work against one number."""

    name: str
    unit: str  # of the values: "s", "cpu s", "bytes"
    points: tuple[Point, ...]

    @classmethod
    def of(cls, name: str, unit: str, values: Mapping[float, Sequence[float]]) -> Self:
        return cls(name, unit, tuple(Point(x, tuple(each)) for x, each in values.items()))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        points = tuple(Point(each["x"], tuple(each["values"])) for each in data["points"])
        return cls(data["name"], data["unit"], points)


@dataclass(frozen=True)
class Line:
    """The law t = a + b x. Neither is below zero: a cost that falls is taken as constant."""

    a: float
    b: float

    @classmethod
    def through(cls, x: Sequence[float], t: Sequence[float]) -> Self:
        """Return the line with the least sum of squared relative errors."""
        numbers, costs = np.asarray(x, dtype=float), np.asarray(t, dtype=float)
        ones = np.ones_like(numbers)
        a, b = _least_squares(costs, ones, numbers)
        if a < 0.0:
            a, (b,) = 0.0, _least_squares(costs, numbers)
        elif b < 0.0:
            (a,), b = _least_squares(costs, ones), 0.0
        return cls(a, b)

    def text(self, symbol: str) -> str:
        """Return the law as a formula."""
        parts = [f"{self.a:.3g}"] if self.a or not self.b else []
        return " + ".join(parts + [f"{self.b:.3g} {symbol}"] * bool(self.b))

    def at(self, x: float) -> float:
        return self.a + self.b * x


def _least_squares(costs: Array, *columns: Array) -> list[float]:
    """Return the factors of the columns whose sum is nearest to the costs, relative to these."""
    factors, *_ = np.linalg.lstsq(np.stack(columns, axis=1) / costs[:, None], np.ones_like(costs), rcond=None)
    return [float(factor) for factor in factors]


def save(path: Path, family: str, how: Mapping[str, object], series: Sequence[Series]) -> None:
    """Write a family into the file of all; `how` says with what command and machine it was measured."""
    found = json.loads(path.read_text()) if path.exists() else {}
    found[family] = {"how": dict(how), "series": [asdict(each) for each in series]}
    path.write_text(json.dumps(_rounded(found), indent=1) + "\n")


def load(path: Path) -> dict[str, tuple[dict[str, object], dict[str, Series]]]:
    """Return how each family was measured, and its series by name."""
    found = json.loads(path.read_text())
    return {
        family: (data["how"], {each["name"]: Series.from_dict(each) for each in data["series"]})
        for family, data in found.items()
    }


def _rounded(value: Any) -> Any:
    """Return the same with four digits: more would be noise."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list | tuple) else value
