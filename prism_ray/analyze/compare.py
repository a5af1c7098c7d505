"""A comparison over several runs of one config that differ in their seed: other pools, images and students.

Within a run all image sets share pool, labels, views and students' seeds, so differences are taken run by
run; the spread is over runs, not over the students of one run, because students of one image set share it.
"""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from prism_ray.analyze.results import ImageSetFigures, ResultRow, Results
from prism_ray.errors import UsageError


@dataclass(frozen=True)
class ComparedRow:
    """One image set under one evaluation, over all runs; accuracies and differences are shares in [0, 1]."""

    image_set: str
    evaluation: str
    labels: str
    run_means: tuple[float, ...]  # mean over a run's students
    differences: tuple[float, ...]  # to the baseline of the same run and evaluation, run by run
    cosine_mean: float | None
    cosine_variance: float | None
    seconds: float
    images_per_second: float | None

    @property
    def mean(self) -> float:
        return statistics.fmean(self.run_means)

    @property
    def spread(self) -> float | None:
        """Sample standard deviation over the runs."""
        return _spread(self.run_means)

    @property
    def mean_difference(self) -> float:
        return statistics.fmean(self.differences)

    @property
    def difference_spread(self) -> float | None:
        return _spread(self.differences)


@dataclass(frozen=True)
class Comparison:
    """All rows, the best accuracy first within an evaluation."""

    num_runs: int
    baseline: str
    rows: tuple[ComparedRow, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain data, means and spreads included."""
        names = ("mean", "spread", "mean_difference", "difference_spread")
        rows = [asdict(row) | {name: getattr(row, name) for name in names} for row in self.rows]
        return {"num_runs": self.num_runs, "baseline": self.baseline, "rows": rows}


def compare(runs: Sequence[Results], baseline: str) -> Comparison:
    """Put the results of runs together; `baseline` names the image set that others are held against.

    Raises UsageError if the runs do not have the same rows, or none of the baseline.
    """
    keys = [[(row.image_set, row.evaluation) for row in run.rows] for run in runs]
    if any(set(other) != set(keys[0]) for other in keys):
        raise UsageError(
            "the runs have not the same image sets and evaluations done; finish them, or compare runs of one "
            "config"
        )
    names = list(dict.fromkeys(name for name, _ in keys[0]))
    if baseline not in names:
        raise UsageError(
            f"--baseline {baseline}: no such image set is evaluated; there are {', '.join(names)}"
        )
    rows = []
    for key in keys[0]:
        mine = [_row(run, *key) for run in runs]
        figures = [_figures(run, key[0]) for run in runs]
        # A set that is the only one of its evaluation is held against the baseline of the first.
        others = [_row(run, baseline, key[1]) or _row(run, baseline, run.rows[0].evaluation) for run in runs]
        means = tuple(row.mean for row in mine if row)
        references = [row.mean for row in others if row]
        rows.append(
            ComparedRow(
                image_set=key[0],
                evaluation=key[1],
                labels=next(row.labels for row in mine if row),
                run_means=means,
                differences=tuple(mean - other for mean, other in zip(means, references, strict=True)),
                cosine_mean=_mean([figure.cosine_mean for figure in figures]),
                cosine_variance=_mean([figure.cosine_variance for figure in figures]),
                seconds=statistics.fmean(figure.seconds for figure in figures),
                images_per_second=_mean([figure.images_per_second for figure in figures]),
            )
        )
    order = list(dict.fromkeys(evaluation for _, evaluation in keys[0]))
    rows.sort(key=lambda row: (order.index(row.evaluation), -row.mean))
    return Comparison(len(runs), baseline, tuple(rows))


def to_markdown(comparison: Comparison) -> str:
    """Return the table as Markdown, as docs/results.md carries it."""
    head = [
        "image set",
        "evaluation",
        "accuracy, %",
        f"minus {comparison.baseline}",
        "cosine",
        "its variance",
        "s",
        "images/s",
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * 2 + "--:|" * (len(head) - 2)]
    for row in comparison.rows:
        cells = [
            row.image_set,
            f"{row.evaluation}, {row.labels} labels",
            _with_spread(row.mean, row.spread),
            _with_spread(row.mean_difference, row.difference_spread, sign="+"),
            _number(row.cosine_mean, ".3f"),
            _number(row.cosine_variance, ".4f"),
            f"{row.seconds:.1f}",
            _number(row.images_per_second, ".2f"),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _row(run: Results, image_set: str, evaluation: str) -> ResultRow | None:
    return next((r for r in run.rows if (r.image_set, r.evaluation) == (image_set, evaluation)), None)


def _figures(run: Results, image_set: str) -> ImageSetFigures:
    return next(figures for figures in run.image_sets if figures.name == image_set)


def _spread(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if len(known) == len(values) else None


def _with_spread(value: float, spread: float | None, sign: str = "") -> str:
    text = f"{100 * value:{sign}.2f}"
    return text if spread is None else f"{text} +- {100 * spread:.2f}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
