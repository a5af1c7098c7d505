"""A comparison over several runs of one config that differ in their seed: other pools, images and students.

Within a run all image sets share pool, labels, views and students' seeds, so differences are taken run by
run; the spread is over runs, not over the students of one run, because students of one image set share it.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from prism_ray.analyze.results import ImageSetFigures, ResultRow, Results, number_text, spread
from prism_ray.errors import UsageError
from prism_ray.plan.fingerprint import differences, run_scopes
from prism_ray.plan.versions import PLAN_VERSION, View
from prism_ray.run import Run, RunProgress
from prism_ray.stages.squeeze import RUN


@dataclass(frozen=True)
class ComparedRow:
    """One image set under one evaluation, over all runs; accuracies and differences are shares in [0, 1]."""

    image_set: str
    evaluation: str
    labels: str
    split: str  # real images that students were tested on: test, validation
    run_means: tuple[float, ...]  # mean over a run's students
    differences: tuple[float, ...]  # to the baseline under the same evaluation, run by run; () if it has none
    cosine_mean: float | None
    cosine_variance: float | None
    seconds: float
    images_per_second: float | None
    verified: dict[str, float]  # verifier -> share of the images it classifies right, mean over the runs

    @property
    def mean(self) -> float:
        return statistics.fmean(self.run_means)

    @property
    def spread(self) -> float | None:
        """Sample standard deviation over the runs."""
        return spread(self.run_means)

    @property
    def mean_difference(self) -> float | None:
        return statistics.fmean(self.differences) if self.differences else None

    @property
    def difference_spread(self) -> float | None:
        return spread(self.differences)


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


def check_comparable(runs: Mapping[str, tuple[Run, RunProgress]]) -> None:
    """Raise UsageError unless the runs, by their stores, are finished and differ in their seeds alone."""
    for store, (_, progress) in runs.items():
        if not progress.complete:
            raise UsageError(
                f"{store} is not finished, and a mean over some of its students says little; `prism-ray "
                f"status {store}` says how to go on with it"
            )
    first, *others = runs
    seeds = {runs[first][0].config.seed: first}
    for store in others:
        lines = _differences(_settings(runs[first][0]), _settings(runs[store][0]))
        if lines:
            shown = [
                line.replace("the store has", "the first has").replace(", now", ", the second")
                for line in lines
            ]
            raise UsageError(f"{first} and {store} are of other settings:\n  " + "\n  ".join(shown))
        seed = runs[store][0].config.seed
        if seed in seeds:
            raise UsageError(
                f"{seeds[seed]} and {store} both have seed {seed}: they hold the same results; give each run "
                "another seed, with --set seed=..."
            )
        seeds[seed] = store


def _differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Say in one line each where the settings of two runs differ, scope by scope."""
    lines = [f"{scope}: only one of them has it" for scope in sorted(one.keys() ^ other.keys())]
    view = View(PLAN_VERSION)
    for scope in one.keys() & other.keys():
        lines += [f"{line} ({scope})" for line in differences(one[scope], other[scope], view)]
    return lines


def _settings(run: Run) -> dict[str, Any]:
    """Return what binds the results of a run, scope by scope, but for its seed and its threads."""
    derived = run_scopes(run.config, run.facts, run.num_threads, run.weights)  # in one plan version for all
    scopes = {scope: inputs["settings"] for scope, inputs in derived.items()}
    free = ("seed", "orchestrate")
    return scopes | {RUN: {key: value for key, value in scopes[RUN].items() if key not in free}}


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
        differences: tuple[float, ...] = ()
        if (baseline, key[1]) in keys[0]:
            differences = tuple(
                row.mean - _row(run, baseline, key[1]).mean for row, run in zip(mine, runs, strict=True)
            )
        rows.append(
            ComparedRow(
                image_set=key[0],
                evaluation=key[1],
                labels=mine[0].labels,
                split=mine[0].split,
                run_means=tuple(row.mean for row in mine),
                differences=differences,
                cosine_mean=_mean([figure.cosine_mean for figure in figures]),
                cosine_variance=_mean([figure.cosine_variance for figure in figures]),
                seconds=statistics.fmean(figure.seconds for figure in figures),
                images_per_second=_mean([figure.images_per_second for figure in figures]),
                verified={
                    name: statistics.fmean(figure.verified[name] for figure in figures)
                    for name in figures[0].verified
                },
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
        "verified, %",
        "cosine",
        "its variance",
        "s",
        "images/s",
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * 2 + "--:|" * (len(head) - 2)]
    for row in comparison.rows:
        cells = [
            row.image_set,
            f"{row.evaluation}, {row.labels} labels, {row.split} images",
            _with_spread(row.mean, row.spread),
            _with_spread(row.mean_difference, row.difference_spread, sign="+"),
            " ".join(f"{100 * share:.1f}" for share in row.verified.values()) or "-",
            number_text(row.cosine_mean, ".3f"),
            number_text(row.cosine_variance, ".4f"),
            f"{row.seconds:.1f}",
            number_text(row.images_per_second, ".2f"),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _row(run: Results, image_set: str, evaluation: str) -> ResultRow:
    return next(r for r in run.rows if (r.image_set, r.evaluation) == (image_set, evaluation))


def _figures(run: Results, image_set: str) -> ImageSetFigures:
    return next(figures for figures in run.image_sets if figures.name == image_set)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if len(known) == len(values) else None


def _with_spread(value: float | None, spread: float | None, sign: str = "") -> str:
    if value is None:
        return "-"
    text = f"{100 * value:{sign}.2f}"
    return text if spread is None else f"{text} +- {100 * spread:.2f}"
