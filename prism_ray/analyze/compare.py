"""The comparison of several runs of one config that differ in their seed: in pools, images and students.

Within a run all image sets share teachers, views and students' seeds, so differences are taken run by run.
The spread is over runs, not over the students of one run, because these share one image set.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from prism_ray.analyze.results import Results, number_text, spread
from prism_ray.errors import UsageError
from prism_ray.plan.fingerprint import differences, run_scopes
from prism_ray.plan.versions import PLAN_VERSION, View
from prism_ray.run import Run, RunProgress
from prism_ray.shell import command
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
    verified: dict[str, float]  # verifier -> share of the images it classifies correctly, mean over the runs
    mean: float  # of `run_means`
    spread: float | None  # sample standard deviation over the runs
    mean_difference: float | None
    difference_spread: float | None


@dataclass(frozen=True)
class Comparison:
    """All rows, the best accuracy first within an evaluation."""

    num_runs: int
    baseline: str
    rows: tuple[ComparedRow, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `--json`."""
        return asdict(self)


def check_comparable(runs: Mapping[str, tuple[Run, RunProgress]]) -> None:
    """Raise UsageError unless the runs, by their stores, are finished and differ only in their seeds."""
    for store, (_, progress) in runs.items():
        if not progress.complete:
            raise UsageError(
                f"{store} is not finished, and a mean over some of its students says little; "
                f"`{command('status', store)}` shows how to resume it"
            )
    (first, (first_run, _)), *others = runs.items()
    seeds = {first_run.config.seed: first}
    for store, (run, _) in others:
        lines = _differences(_settings(first_run), _settings(run))
        if lines:
            text = "\n  ".join(lines).replace("the store has", "the first has")
            text = text.replace(", now", ", the second")
            raise UsageError(f"{first} and {store} have different settings:\n  {text}")
        seed = run.config.seed
        if seed in seeds:
            raise UsageError(
                f"{seeds[seed]} and {store} both have seed {seed}, so their results are the same; give each "
                "run another seed, with --set seed=..."
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
    """Return the settings that a run's results depend on, scope by scope, without seed and threads."""
    derived = run_scopes(run.config, run.facts, run.num_threads, run.weights)  # in one plan version for all
    scopes = {scope: inputs["settings"] for scope, inputs in derived.items()}
    free = ("seed", "orchestrate")
    return scopes | {RUN: {key: value for key, value in scopes[RUN].items() if key not in free}}


def compare(runs: Sequence[Results], baseline: str) -> Comparison:
    """Combine the results of runs; all image sets are compared with the image set `baseline`.

    Raises UsageError if the runs do not have the same rows, or none of the baseline.
    """
    tables = [{(row.image_set, row.evaluation): row for row in run.rows} for run in runs]
    keys = list(tables[0])
    if any(table.keys() != tables[0].keys() for table in tables):
        raise UsageError(
            "the runs have not finished the same image sets and evaluations; finish them, or compare runs of "
            "one config"
        )
    names = list(dict.fromkeys(name for name, _ in keys))
    if baseline not in names:
        raise UsageError(
            f"--baseline {baseline}: no such image set is evaluated; there are {', '.join(names)}"
        )
    rows = []
    for name, evaluation in keys:
        row = tables[0][name, evaluation]
        figures = [next(each for each in run.image_sets if each.name == name) for run in runs]
        means, base = (
            tuple(table[key].mean for table in tables if key in table)
            for key in ((name, evaluation), (baseline, evaluation))
        )
        differences = tuple(a - b for a, b in zip(means, base, strict=False))  # none without a baseline
        rows.append(
            ComparedRow(
                image_set=name,
                evaluation=evaluation,
                labels=row.labels,
                split=row.split,
                run_means=means,
                differences=differences,
                cosine_mean=_mean([each.cosine_mean for each in figures]),
                cosine_variance=_mean([each.cosine_variance for each in figures]),
                seconds=statistics.fmean(each.seconds for each in figures),
                images_per_second=_mean([each.images_per_second for each in figures]),
                verified={
                    judge: statistics.fmean(each.verified[judge] for each in figures)
                    for judge in figures[0].verified
                },
                mean=statistics.fmean(means),
                spread=spread(means),
                mean_difference=_mean(differences),
                difference_spread=spread(differences),
            )
        )
    order = list(dict.fromkeys(evaluation for _, evaluation in keys))
    rows.sort(key=lambda row: (order.index(row.evaluation), -row.mean))
    return Comparison(len(runs), baseline, tuple(rows))


def to_markdown(comparison: Comparison) -> str:
    """Return the table as Markdown, as in docs/results.md."""
    head = f"image set | evaluation | accuracy, % | minus {comparison.baseline} | verified, % | cosine"
    lines = [f"| {head} | its variance | s | images/s |", "|" + "---|" * 2 + "--:|" * 7]
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


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known and len(known) == len(values) else None


def _with_spread(value: float | None, spread: float | None, sign: str = "") -> str:
    if value is None:
        return "-"
    text = f"{100 * value:{sign}.2f}"
    return text if spread is None else f"{text} +- {100 * spread:.2f}"
