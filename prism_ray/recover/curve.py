"""The losses of a batch over its iterations, kept on the device so that the loop never waits for the host."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prism_ray.recover.objective import Losses
from prism_ray.stages.recover import RecoverUnit

MAX_POINTS = 33  # iterations of a batch whose losses are kept, the first and the last among them
_MAX_NUMBERS = 4000  # in the curve of a batch; many teachers have fewer points
_DIGITS = 5


@dataclass(frozen=True)
class LossCurve:
    """The losses at some iterations, rounded to 5 digits; all lists are as long as `iterations`.

    A teacher's R_m is None at iterations in which it was not drawn.
    """

    iterations: list[int]  # from 0, ascending
    ce: list[float]
    bn: list[float]  # mean of R_m, weighted by the votes
    alignments: dict[str, list[float | None]]  # teacher -> R_m
    terms: dict[str, list[float]]  # densification, and the method's own terms


def curve_iterations(total: int, num_columns: int) -> list[int]:
    """Return the iterations, of `total`, whose losses are kept: evenly spaced from the first to the last.

    Each has `num_columns` losses.
    """
    count = min(total, MAX_POINTS, max(2, _MAX_NUMBERS // num_columns))
    if count < 2:
        return list(range(total))
    return [number * (total - 1) // (count - 1) for number in range(count)]


class CurveRecorder:
    """Collects a batch's losses in one tensor on the device."""

    def __init__(
        self, unit: RecoverUnit, redraw: int, term_names: Sequence[str], device: torch.device
    ) -> None:
        """`redraw` is the number of iterations for which a draw of the unit is used."""
        self._teachers, self._terms = unit.teachers, tuple(term_names)
        num_columns = 2 + len(self._teachers) + len(self._terms)
        self._iterations = curve_iterations(unit.num_iterations, num_columns)
        self._rows = {iteration: row for row, iteration in enumerate(self._iterations)}
        self._draws = [unit.draws[iteration // redraw] for iteration in self._iterations]
        # A teacher that is not drawn has 0, so that a checkpoint can be checked for finite values.
        self.values = torch.zeros(len(self._iterations), num_columns, device=device)

    def record(self, iteration: int, losses: Losses) -> None:
        """Keep the losses of an iteration if it is one of those that are kept."""
        row = self._rows.get(iteration)
        if row is None:
            return
        nothing = torch.zeros_like(losses.ce)
        drawn = [losses.alignments.get(name, nothing) for name in self._teachers]
        terms = [losses.terms[name] for name in self._terms]
        self.values[row] = torch.stack([losses.ce, losses.bn, *drawn, *terms]).to(self.values.dtype)

    def restore(self, values: Tensor) -> None:
        """Resume from the `values` of an interrupted attempt."""
        self.values.copy_(values)

    def latest(self, num_done: int) -> dict[str, float]:
        """Return the last losses that were kept in the first `num_done` iterations; waits for the device."""
        row = max((row for iteration, row in self._rows.items() if iteration < num_done), default=None)
        if row is None:
            return {}
        ce, bn = self.values[row, :2].tolist()
        return {"ce": _rounded(ce), "bn": _rounded(bn)}

    def curve(self) -> LossCurve:
        """Return the curve after the last iteration; waits for the device."""
        ce, bn, *others = ([_rounded(value) for value in column] for column in self.values.T.tolist())
        drawn, terms = others[: len(self._teachers)], others[len(self._teachers) :]
        alignments = {
            name: [value if name in draw else None for value, draw in zip(values, self._draws, strict=True)]
            for name, values in zip(self._teachers, drawn, strict=True)
        }
        return LossCurve(self._iterations, ce, bn, alignments, dict(zip(self._terms, terms, strict=True)))


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
