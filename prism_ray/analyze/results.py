"""The results of a run, from its commits alone: teachers, students, and the measures of the images."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, TypeVar

from pydantic import ConfigDict

from prism_ray.analyze.scores import error_of_test_images
from prism_ray.run import Run, RunProgress
from prism_ray.stages.evaluate import students
from prism_ray.stages.squeeze import scope_of_teacher
from prism_ray.store import Commit, StoreFiles
from prism_ray.store.records import FINITE, record_of
from prism_ray.store.remedy import unfit

Figures = TypeVar("Figures")


def to_plain(figures: Any) -> dict[str, Any]:
    """Return the fields of a dataclass, and the properties that its JSON_PROPERTIES names, as plain data."""
    return asdict(figures) | {name: getattr(figures, name) for name in figures.JSON_PROPERTIES}


@dataclass(frozen=True)
class TeacherFigures:
    """A teacher in the store."""

    name: str  # name in the pool
    arch: str  # architecture
    num_parameters: int  # weights and biases
    num_bn_layers: int  # batch normalization layers
    test_accuracy: float | None  # share in [0, 1] of the real test images, if there are any
    validation_accuracy: float | None  # the same for the validation images


@dataclass(frozen=True)
class ResultRow:
    """The students of one evaluation of one image set. Their accuracies are those after the last epoch."""

    image_set: str  # name of the image set
    evaluation: str  # name of the evaluation
    labels: str  # soft, hard
    split: str  # real images they were tested on: test, validation
    accuracies: tuple[float, ...]  # shares in [0, 1]
    best_mean: float | None = None  # of each student's best test; None for students of earlier versions
    top5_mean: float | None = None  # the same for top-5 accuracy after the last epoch
    num_test_images: int | None = None  # None for validation images

    JSON_PROPERTIES: ClassVar = ("mean", "spread", "test_error")

    @property
    def mean(self) -> float:
        """Mean accuracy over the students, a share in [0, 1]."""
        return statistics.fmean(self.accuracies)

    @property
    def spread(self) -> float | None:
        """Sample standard deviation over the students, None for a single one."""
        return spread(self.accuracies)

    @property
    def test_error(self) -> float | None:
        """Standard error of the mean accuracy that so many test images allow by themselves, as a share."""
        if not self.num_test_images:
            return None
        return error_of_test_images(self.mean, self.num_test_images)


@dataclass(frozen=True)
class ImageSetFigures:
    """The cost and the diversity of an image set."""

    name: str  # name of the image set
    method: str  # name of the method
    num_images: int  # of all classes
    seconds: float  # that actors worked on it: recover, and the collections it needs
    cosine_mean: float | None  # intra-class cosine similarity of features; None: not measured yet
    cosine_variance: float | None  # of the same similarity; None: not measured yet
    verified: dict[str, float]  # verifier -> share of the images it classifies correctly

    JSON_PROPERTIES: ClassVar = ("images_per_second",)

    @property
    def images_per_second(self) -> float | None:
        """Images per second of one actor."""
        return self.num_images / self.seconds if self.seconds else None


@dataclass(frozen=True)
class Results:
    """Rows for tables."""

    rows: tuple[ResultRow, ...]  # one for each image set and evaluation with students
    image_sets: tuple[ImageSetFigures, ...]  # those with images

    def to_json(self) -> dict[str, Any]:
        """Return plain data, means and spreads included."""
        return {
            "rows": [to_plain(row) for row in self.rows],
            "image_sets": [to_plain(each) for each in self.image_sets],
        }


@dataclass(frozen=True)
class _StudentFigures:
    __pydantic_config__: ClassVar[ConfigDict] = FINITE
    accuracy: float
    best_accuracy: float | None = None
    top5_accuracy: float | None = None


@dataclass(frozen=True)
class _MeasureFigures:
    __pydantic_config__: ClassVar[ConfigDict] = FINITE
    cosine_mean: float | None = None
    cosine_variance: float | None = None
    verified: dict[str, float] = field(default_factory=dict)


def figures_of(files: StoreFiles, commit: Commit, kind: type[Figures], **given: Any) -> Figures:
    """Return the figures of a unit from its commit and `given`; raises StoreError if some are missing."""
    try:
        return record_of(kind, commit.stats | given)
    except ValueError as error:
        raise unfit(files, commit.unit, f"its commit lacks figures: {error}") from None


def spread(values: Sequence[float]) -> float | None:
    """Return the sample standard deviation, None for a single value."""
    return statistics.stdev(values) if len(values) > 1 else None


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean, None if a value is missing."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if len(known) == len(values) else None


def student_spread(results: Sequence[Results]) -> float | None:
    """Return the mean standard deviation over the students of a set; None if all sets have one student."""
    spreads = [row.spread for each in results for row in each.rows if row.spread is not None]
    return statistics.fmean(spreads) if spreads else None


def number_text(value: float | None, form: str) -> str:
    """Return a number for a table; a dash where there is none."""
    return "-" if value is None else format(value, form)


def read_results(files: StoreFiles, run: Run, progress: RunProgress) -> Results:
    """Read the rows from the commits, without units that are not done.

    Raises StoreError if a commit does not have the figures of its unit.
    """
    plan, commits = run.plan, progress.commits
    rows = []
    for key, evaluation in run.config.evaluations.items():
        for name in run.config.sets_of(key):
            done = [commits[unit.id] for unit in students(plan, name, key) if unit.id in commits]
            if done:
                each = [figures_of(files, commit, _StudentFigures) for commit in done]
                rows.append(
                    ResultRow(
                        name,
                        key,
                        evaluation.labels,
                        evaluation.split,
                        tuple(figures.accuracy for figures in each),
                        _mean([figures.best_accuracy for figures in each]),
                        _mean([figures.top5_accuracy for figures in each]),
                        run.facts.num_test_images if evaluation.split == "test" else None,
                    )
                )
    sets = []
    for name, config in run.config.image_sets.items():
        made = progress.figures.get(f"recover/{name}")
        if made is None:
            continue
        collected = (commits.get(unit_id) for unit_id in plan.unit_ids("collect", name))
        seconds = sum(commit.seconds for commit in collected if commit)
        measure = commits.get(f"measure/{name}")
        measured = figures_of(files, measure, _MeasureFigures) if measure else _MeasureFigures()
        sets.append(
            ImageSetFigures(name, config.method, made.num_rows, seconds + made.seconds, **vars(measured))
        )
    return Results(tuple(rows), tuple(sets))


def read_other_results(files: StoreFiles, run: Run, progress: RunProgress, present: Results) -> Results:
    """Read the rows that only earlier configs name: other image sets, evaluations, or more students.

    `present` has the results of the present config. Raises StoreError as `read_results`.
    """
    shown = {(row.image_set, row.evaluation): row for row in present.rows}
    rows: dict[tuple[str, str], ResultRow] = {}
    sets: dict[str, ImageSetFigures] = {}
    for other in run.others:
        found = read_results(files, other, progress)
        for row in found.rows:
            key = row.image_set, row.evaluation
            known = rows.get(key) or shown.get(key)
            if known is None or len(row.accuracies) > len(known.accuracies):
                rows[key] = row
        for figures in found.image_sets:
            if figures.name not in run.config.image_sets:
                sets.setdefault(figures.name, figures)
    return Results(tuple(rows.values()), tuple(sets.values()))


def read_teachers(files: StoreFiles, run: Run, progress: RunProgress) -> tuple[TeacherFigures, ...]:
    """Read the figures of the teachers in the store, in the order of the pool.

    Raises StoreError if a commit does not have the figures of its teacher.
    """
    return tuple(
        figures_of(files, progress.commits[unit_id], TeacherFigures, name=teacher.name)
        for teacher in run.config.teachers.pool
        if (unit_id := scope_of_teacher(teacher.name)) in progress.commits
    )
