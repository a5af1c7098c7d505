"""The comparison of several runs of one config that differ in their seed: in pools, images and students.

Within a run all image sets share teachers, views and students' seeds, so differences are taken run by run.
The spread is over runs, not over the students of one run, because these share one image set.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, replace
from typing import Any

from prism_ray.analyze.results import Results, number_text, spread
from prism_ray.config.controls import control_names
from prism_ray.config.resolve import CONTROL, FULL_DATA
from prism_ray.config.text import shown
from prism_ray.errors import UsageError
from prism_ray.plan.fingerprint import differences, run_scopes
from prism_ray.plan.versions import PLAN_VERSION, View
from prism_ray.run import Run, RunProgress
from prism_ray.shell import command
from prism_ray.stages.squeeze import RUN
from prism_ray.wording import first_of

_MAX_LINES = 30  # of differences between two runs
_OF_TEACHERS = ("squeeze", "collect")  # stages whose scopes belong to no image set


@dataclass(frozen=True)
class ComparedRow:
    """One image set under one evaluation, over all runs; accuracies and differences are shares in [0, 1]."""

    image_set: str  # name of the image set
    evaluation: str  # name of the evaluation
    labels: str  # soft, hard
    split: str  # real images that students were tested on: test, validation
    run_means: tuple[float, ...]  # mean over a run's students
    differences: tuple[float, ...]  # to the baseline under the same evaluation, run by run; () if it has none
    cosine_mean: float | None  # intra-class similarity of features, mean over the runs; None: not measured
    cosine_variance: float | None  # of the same similarity, mean over the runs; None: not measured
    seconds: float  # that actors worked on the images, mean over the runs
    images_per_second: float | None  # of one actor, mean over the runs
    verified: dict[str, float]  # verifier -> share of the images it classifies correctly, mean over the runs
    mean: float  # of `run_means`
    spread: float | None  # sample standard deviation over the runs
    student_spread: float | None  # the same over the students of a run, mean over the runs
    test_error: float | None  # standard error that the number of test images allows by itself
    mean_difference: float | None  # mean of `differences`; None without these
    difference_spread: float | None  # their sample standard deviation; None for less than two


@dataclass(frozen=True)
class Comparison:
    """All rows, the best accuracy first within an evaluation."""

    num_runs: int  # that are compared
    baseline: str  # image set that the others are compared with
    rows: tuple[ComparedRow, ...]  # one for each image set and evaluation

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
        lines = _unlike(first_run, run, first, store)
        if lines:
            raise UsageError(
                f"{first} and {store} have different settings, and only runs of one config are compared; the "
                "settings that differ, first against second:\n  " + "\n  ".join(lines)
            )
        seed = run.config.seed
        if seed in seeds:
            raise UsageError(
                f"{seeds[seed]} and {store} both have seed {seed}, so their results are the same; give each "
                "run another seed, with --set seed=..."
            )
        seeds[seed] = store


def _unlike(one: Run, other: Run, one_store: str, other_store: str) -> list[str]:
    """Return a line for each setting that two runs do not share, each only once.

    Image sets and evaluations that the present config of a run does not name may be missing in the other run,
    and so may controls: a run of an earlier version has none.
    """
    own, others, lines = _settings(one), _settings(other), []
    for scope in [scope for scope in own if scope not in others and scope in _present(one)]:
        lines.append(f"{_title(scope, own, others)}: only {one_store} has it")
    for scope in [scope for scope in others if scope not in own and scope in _present(other)]:
        lines.append(f"{_title(scope, others, own)}: only {other_store} has it")
    view, found = View(PLAN_VERSION), dict[str, list[str]]()
    for scope in [scope for scope in own if scope in others]:
        for difference in differences(own[scope], others[scope], view):
            old, new = ("nothing" if v is MISSING else shown(v) for v in (difference.old, difference.new))
            found.setdefault(f"{difference.key} = {old} against {new}", []).append(scope)
    for text, scopes in found.items():
        where = first_of(scopes, 3)
        lines.append(text if RUN in scopes else f"{text} ({where})")
    lines = list(dict.fromkeys(lines))
    if len(lines) > _MAX_LINES:
        lines[_MAX_LINES:] = [f"and {len(lines) - _MAX_LINES} more"]
    return lines


def _title(scope: str, own: Mapping[str, Any], others: Mapping[str, Any]) -> str:
    """Return the name of what one run has and the other has not: an image set stands for all its scopes."""
    kind, _, name = scope.partition("/")
    image_set = name.partition("/")[0]
    if f"recover/{image_set}" in own and f"recover/{image_set}" not in others and kind not in _OF_TEACHERS:
        return f"image set {image_set}"
    return f"teacher {name}" if kind == "squeeze" else f"{kind} {name}"


def _present(run: Run) -> set[str]:
    """Return the scopes of the present config, without those of controls."""
    controls = control_names(run.config.evaluations)
    scopes = run_scopes(run.config, run.facts, run.num_threads, run.weights)
    return {
        scope
        for scope in scopes
        if not (scope.startswith("evaluate/") and scope.rpartition("/")[2] in controls)
    }


def _settings(run: Run) -> dict[str, Any]:
    """Return the settings that a run's results depend on, scope by scope, without seed and threads."""
    scopes: dict[str, Any] = {}
    for each in (run, *run.others):  # in one plan version for all
        derived = run_scopes(each.config, run.facts, run.num_threads, run.weights)
        for scope, inputs in derived.items():
            if each is run or scope in run.scopes:
                scopes.setdefault(scope, inputs["settings"])
    free = ("seed", "orchestrate")
    return scopes | {RUN: {key: value for key, value in scopes[RUN].items() if key not in free}}


def comparable_results(run: Run, present: Results, others: Results) -> Results:
    """Return the results of a run for a comparison, with the finished ones that only earlier configs name."""
    rows = {(row.image_set, row.evaluation): row for row in present.rows}
    for row in others.rows:
        configs = [each.config for each in run.others if row.evaluation in each.config.evaluations]
        if len(row.accuracies) in [each.evaluations[row.evaluation].num_students for each in configs]:
            rows[row.image_set, row.evaluation] = row
    return Results(tuple(rows.values()), present.image_sets + others.image_sets)


def shared_rows(results: Sequence[Results]) -> tuple[list[Results], list[str]]:
    """Return the results without the rows that not all runs have, and the names of the rows left out."""
    keys = [{(row.image_set, row.evaluation) for row in each.rows} for each in results]
    everywhere = set.intersection(*keys)
    left_out = sorted(f"{name} ({evaluation})" for name, evaluation in set.union(*keys) - everywhere)
    kept = [
        replace(each, rows=tuple(row for row in each.rows if (row.image_set, row.evaluation) in everywhere))
        for each in results
    ]
    return kept, left_out


def default_baseline(run: Run) -> str:
    """Return the first image set of random real images, or the first of all if there is none."""
    names = run.config.image_sets
    return next((name for name, each in names.items() if each.method == CONTROL), next(iter(names)))


def compare(runs: Sequence[Results], baseline: str) -> Comparison:
    """Combine the results of runs; all image sets are compared with the image set `baseline`.

    Raises UsageError if the runs do not have the same rows, or none of the baseline.
    """
    tables = [
        {(row.image_set, row.evaluation): row for row in run.rows if row.image_set != FULL_DATA}
        for run in runs
    ]
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
                student_spread=_mean([table[name, evaluation].spread for table in tables]),
                test_error=replace(row, accuracies=means).test_error,
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
