"""Fair figures: each image set beside its controls, references, scores of DD-Ranking, students x sets.

All of it derives from the rows of one run or of several. What a control would have to tell, and is not there,
is None, and `missing_controls` says which key adds it.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from prism_ray.analyze.results import Results, spread, to_plain
from prism_ray.analyze.scores import (
    augmentation_robust_score,
    error_of_test_images,
    hard_label_recovery,
    improvement_over_random,
    label_robust_score,
)
from prism_ray.analyze.text_table import TextTable
from prism_ray.config import AnyImageSet, Config, EvaluateConfig
from prism_ray.config.controls import CONTROLS, find_control, is_main
from prism_ray.config.labels import Control
from prism_ray.config.resolve import CONTROL, FULL_DATA, STUDENT
from prism_ray.run import Run

_NEEDED_FOR: Mapping[Control, str] = {
    "hard-labels": "what is left without soft labels, and LRS",
    "no-augmentation": "ARS",
    "full-data": "LRS",
}
_ALL = "full data (all real images)"


@dataclass(frozen=True)
class Figure:
    """A figure of one or several runs."""

    by_run: tuple[float, ...]  # the figure in each run

    JSON_PROPERTIES: ClassVar = ("mean", "spread")

    @property
    def mean(self) -> float:
        """Mean over the runs."""
        return statistics.fmean(self.by_run)

    @property
    def spread(self) -> float | None:
        """Sample standard deviation over the runs, None for a single one."""
        return spread(self.by_run)

    def to_json(self) -> dict[str, Any]:
        return to_plain(self)


@dataclass(frozen=True)
class FairRow:
    """An image set under one evaluation and its controls; accuracies are shares, None: not trained."""

    image_set: str  # name of the image set
    control: str | None  # the random real images that it is compared with; None for these themselves
    accuracy: Figure  # under this evaluation, with soft labels
    hard_labels: Figure | None  # accuracy under the same evaluation with hard labels
    no_augmentation: Figure | None  # accuracy under the same evaluation without augmentation
    gain: Figure | None  # IOR: accuracy minus that of the control
    hard_labels_gain: Figure | None  # hard_labels minus that of the control
    no_augmentation_gain: Figure | None  # no_augmentation minus that of the control
    hlr: Figure | None  # accuracy of all real images minus that of the set, both with hard labels
    lrs: Figure | None  # 0 to 100
    ars: Figure | None  # 0 to 100


@dataclass(frozen=True)
class FairEvaluation:
    """One evaluation with soft labels: its image sets, and the student on all real images."""

    evaluation: str  # its name
    student: str  # architecture
    split: str  # real images that students were tested on: test, validation
    rows: tuple[FairRow, ...]  # one for each image set
    full_data: Figure | None  # accuracy of the student on all real training images, with hard labels
    missing: tuple[Control, ...]  # controls that the config does not name


@dataclass(frozen=True)
class FairFigures:
    """All evaluations, and the references that they share."""

    num_runs: int  # that the figures are of
    chance: float  # accuracy of guessing, share in [0, 1]
    num_test_images: int  # real test images; 0 if there are none
    test_error: float  # standard error of an accuracy of 50 % on these
    evaluations: tuple[FairEvaluation, ...]  # those with soft labels

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `--json`."""
        values = asdict(self)
        for each, evaluation in zip(values["evaluations"], self.evaluations, strict=True):
            each["full_data"] = evaluation.full_data.to_json() if evaluation.full_data else None
            each["rows"] = [_row_json(row) for row in evaluation.rows]
        return values


def _row_json(row: FairRow) -> dict[str, Any]:
    return {key: value.to_json() if isinstance(value, Figure) else value for key, value in vars(row).items()}


def fair_figures(run: Run, runs: Sequence[Results]) -> FairFigures:
    """Return the fair figures of one run, or of several runs of its config that differ in their seeds.

    `run` describes any of them. Only rows that all runs have count.
    """
    evaluations: dict[str, EvaluateConfig] = {}
    for each in reversed((run, *run.others)):
        evaluations |= each.config.evaluations
    image_sets = {name: its_run.config.image_sets[name] for name, its_run in run.image_sets.items()}
    tables = [{(row.image_set, row.evaluation): row for row in results.rows} for results in runs]
    keys = [key for key in tables[0] if all(key in table for table in tables)]
    means = {key: Figure(tuple(table[key].mean for table in tables)) for key in keys}
    found = []
    for name, evaluation in evaluations.items():
        sets = [image_set for image_set, of in keys if of == name and image_set in image_sets]
        if is_main(evaluation) and sets:
            found.append(_evaluation(name, evaluations, sets, image_sets, means))
    num_test_images = run.facts.num_test_images
    return FairFigures(
        num_runs=len(runs),
        chance=1.0 / run.facts.num_classes,
        num_test_images=num_test_images,
        test_error=error_of_test_images(0.5, num_test_images) if num_test_images else 0.0,
        evaluations=tuple(found),
    )


def _evaluation(
    name: str,
    evaluations: Mapping[str, EvaluateConfig],
    sets: Sequence[str],
    image_sets: Mapping[str, AnyImageSet],
    means: Mapping[tuple[str, str], Figure],
) -> FairEvaluation:
    named = {control: find_control(evaluations, name, control) for control in CONTROLS}
    hard, whole, full = (named[control] or "" for control in CONTROLS)
    full_data = means.get((FULL_DATA, full))
    rows = []
    for image_set in sets:
        own = control_of(image_sets, image_set, sets)
        base = own if own is not None or image_sets[image_set].method != CONTROL else image_set
        figures = [means.get((image_set, of)) for of in (name, hard, whole)]
        controls = [means.get((base, of)) if base else None for of in (name, hard, whole)]
        gain, hard_gain, whole_gain = (
            _each(improvement_over_random, one, other) for one, other in zip(figures, controls, strict=True)
        )
        hlr = _each(hard_label_recovery, full_data, figures[1])
        rows.append(
            FairRow(
                image_set=image_set,
                control=own,
                accuracy=means[image_set, name],
                hard_labels=figures[1],
                no_augmentation=figures[2],
                gain=gain if own else None,
                hard_labels_gain=hard_gain if own else None,
                no_augmentation_gain=whole_gain if own else None,
                hlr=hlr,
                lrs=_each(label_robust_score, gain, hlr),
                ars=_each(augmentation_robust_score, gain, whole_gain),
            )
        )
    of_evaluation = evaluations[name]
    return FairEvaluation(
        evaluation=name,
        student=of_evaluation.student.arch,
        split=of_evaluation.split,
        rows=tuple(rows),
        full_data=full_data,
        missing=tuple(control for control in CONTROLS if named[control] is None),
    )


def _each(
    formula: Callable[[float, float], float], one: Figure | None, other: Figure | None
) -> Figure | None:
    """Return a formula of two figures, run by run; None if one of them is missing."""
    if one is None or other is None:
        return None
    return Figure(tuple(formula(a, b) for a, b in zip(one.by_run, other.by_run, strict=True)))


def control_of(image_sets: Mapping[str, AnyImageSet], name: str, names: Sequence[str]) -> str | None:
    """Return the control among `names` with as many images per class; None if `name` is a control itself."""
    if name not in image_sets or image_sets[name].method == CONTROL:
        return None
    image_set = image_sets[name]
    controls = [other for other in names if other in image_sets and image_sets[other].method == CONTROL]
    controls = [other for other in controls if image_sets[other].ipc == image_set.ipc]
    controls.sort(key=lambda other: image_sets[other].replicate != image_set.replicate)
    return controls[0] if controls else None


def fair_tables(figures: FairFigures) -> list[TextTable]:
    """Return the tables for people: each evaluation with its controls, then students x sets."""
    tables = [_table(figures, evaluation) for evaluation in figures.evaluations if _has_controls(evaluation)]
    if len({evaluation.student for evaluation in figures.evaluations}) > 1:
        tables.append(_architecture_table(figures))
    return tables


def _has_controls(evaluation: FairEvaluation) -> bool:
    figures = [(row.hard_labels, row.no_augmentation) for row in evaluation.rows]
    return evaluation.full_data is not None or any(figure for row in figures for figure in row)


def _table(figures: FairFigures, evaluation: FairEvaluation) -> TextTable:
    rows = evaluation.rows
    has_hard, has_whole = any(row.hard_labels for row in rows), any(row.no_augmentation for row in rows)
    has_lrs, has_ars = any(row.lrs for row in rows), any(row.ars for row in rows)
    has_hard = has_hard or evaluation.full_data is not None
    columns = ["trained on", "soft labels, %"]
    columns += ["hard labels, %"] * has_hard + ["whole images, %"] * has_whole
    columns += ["LRS"] * has_lrs + ["ARS"] * has_ars
    lines = []
    for row in rows:
        cells = [row.image_set, _accuracy(row.accuracy, row.gain)]
        cells += [_accuracy(row.hard_labels, row.hard_labels_gain)] * has_hard
        cells += [_accuracy(row.no_augmentation, row.no_augmentation_gain)] * has_whole
        lines.append([*cells, *[_score(row.lrs)] * has_lrs, *[_score(row.ars)] * has_ars])
    chance = f"{100 * figures.chance:.1f}"
    rest = ["-"] * (has_lrs + has_ars)
    if evaluation.full_data is not None:
        full = _accuracy(evaluation.full_data, None)
        lines.append([_ALL, "-", full, *["-"] * has_whole, *rest])
    lines.append(["chance", chance, *[chance] * has_hard, *[chance] * has_whole, *rest])
    title = "Controls (in brackets: minus random real images under the same labels)"
    if evaluation.evaluation != STUDENT:
        title = f"{evaluation.evaluation}: {title[0].lower()}{title[1:]}"
    return TextTable(title, tuple(columns), tuple(map(tuple, lines)))


def _architecture_table(figures: FairFigures) -> TextTable:
    """Return students x sets: one column for each evaluation."""
    evaluations = figures.evaluations
    names = list(dict.fromkeys(row.image_set for evaluation in evaluations for row in evaluation.rows))
    columns = [f"{evaluation.evaluation}: {evaluation.student}" for evaluation in evaluations]
    found = {(each.evaluation, row.image_set): row for each in evaluations for row in each.rows}
    lines = []
    for name in names:
        rows = [found.get((evaluation.evaluation, name)) for evaluation in evaluations]
        lines.append((name, *("-" if row is None else _accuracy(row.accuracy, row.gain) for row in rows)))
    if any(evaluation.full_data for evaluation in evaluations):
        full = (_accuracy(evaluation.full_data, None) for evaluation in evaluations)
        lines.append((f"{_ALL}, hard labels", *full))
    lines.append(("chance", *[f"{100 * figures.chance:.1f}"] * len(columns)))
    title = "Students x sets, accuracy in % (in brackets: minus random real images)"
    return TextTable(title, ("trained on", *columns), tuple(lines))


def _accuracy(figure: Figure | None, gain: Figure | None) -> str:
    if figure is None:
        return "-"
    text = f"{100 * figure.mean:.1f}"
    if figure.spread is not None:
        text += f" +- {100 * figure.spread:.1f}"
    return text if gain is None else f"{text} ({100 * gain.mean:+.1f})"


def _score(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    return f"{figure.mean:.1f}" if figure.spread is None else f"{figure.mean:.1f} +- {figure.spread:.1f}"


def missing_controls(config: Config) -> str:
    """Return in one sentence which controls a config lacks, and the key that adds them; "" if none."""
    lacking: dict[Control, list[str]] = {}
    main = [name for name, evaluation in config.evaluations.items() if is_main(evaluation)]
    for name in main:
        for control in CONTROLS:
            if find_control(config.evaluations, name, control) is None:
                lacking.setdefault(control, []).append(name)
    if not lacking:
        return ""
    parts = []
    for control, names in lacking.items():
        of = f" of {', '.join(names)}" if len(names) < len(main) else ""
        parts.append(f"{control}{of} (for {_NEEDED_FOR[control]})")
    return f"Not trained: the controls {', '.join(parts)}; evaluate.controls adds them to this run."


def spread_notes(figures: FairFigures, student_spread: float | None, *, over_runs: bool) -> list[str]:
    """Return what the +- of a table means, in sentences: over students or runs, and of the test images.

    `student_spread` is the mean standard deviation over the students of a set, as a share. `over_runs` tells
    whether the table has means of runs, or students.
    """
    within = "" if student_spread is None else f"{100 * student_spread:.1f} points on average"
    notes = []
    if not over_runs and within:
        notes.append(
            "+- is the standard deviation over the students of a set. They share its images, labels and "
            "teachers, so runs of other seeds (prism-ray compare) vary more."
        )
    elif over_runs and figures.num_runs > 1:
        notes.append(
            f"+- is the standard deviation over {figures.num_runs} runs, whose seeds differ: other teachers, "
            "images and students."
            + (f" Over the students of a set in a run it is {within}." if within else "")
        )
    elif over_runs and within:
        notes.append(
            "One run has no spread over runs. The standard deviation over the students of a set is "
            f"{within}; they share its images, labels and teachers, so runs of other seeds vary more."
        )
    if figures.num_test_images and any(each.split == "test" for each in figures.evaluations):
        notes.append(
            f"{figures.num_test_images:,} test images allow +-{100 * figures.test_error:.1f} points by "
            "themselves, at an accuracy of 50 % (one standard error). Differences between sets have less of "
            "it, because all students see the same test images."
        )
    return notes
