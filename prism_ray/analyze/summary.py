"""The figures of a run, from its commits alone: teachers, students, stages. Printed as tables or as JSON."""

from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.table import Table

from prism_ray.analyze.results import Results, figures_of, number_text, read_results
from prism_ray.config.resolve import STUDENT
from prism_ray.run import Run, RunProgress
from prism_ray.stages import stage_of
from prism_ray.stages.squeeze import scope_of_teacher
from prism_ray.store import StoreFiles


@dataclass(frozen=True)
class TeacherFigures:
    """A teacher in the store."""

    name: str
    arch: str
    num_parameters: int
    num_bn_layers: int
    test_accuracy: float | None  # share in [0, 1] of the real test images, if there are any
    validation_accuracy: float | None  # the same for the validation images


@dataclass(frozen=True)
class StageFigures:
    """The work on a stage in all calls of the command."""

    stage: str
    num_done: int
    num_units: int
    actor_seconds: float  # sum over the units
    num_bytes: int  # of the committed files


@dataclass(frozen=True)
class Summary:
    """Everything that `distill` and `status` print."""

    store: str
    complete: bool
    stages: tuple[StageFigures, ...]
    teachers: tuple[TeacherFigures, ...]
    results: Results
    damaged: dict[str, str]

    @property
    def num_bytes(self) -> int:
        return sum(stage.num_bytes for stage in self.stages)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `--json`."""
        return asdict(self) | {"results": self.results.to_json()}


def summarise(files: StoreFiles, run: Run, progress: RunProgress) -> Summary:
    """Read the figures from the commits; raises StoreError if one does not have the figures of its unit."""
    commits, stages = progress.commits, []
    for stage in progress.stages:
        figures = [figures for scope, figures in progress.figures.items() if stage_of(scope) == stage.stage]
        seconds, num_bytes = sum(each.seconds for each in figures), sum(each.num_bytes for each in figures)
        stages.append(StageFigures(stage.stage, stage.num_done, stage.num_units, seconds, num_bytes))
    teachers = [
        figures_of(files, commits[unit_id], TeacherFigures, name=teacher.name)
        for teacher in run.config.teachers.pool
        if (unit_id := scope_of_teacher(teacher.name)) in commits
    ]
    return Summary(
        store=files.location,
        complete=progress.complete,
        stages=tuple(stages),
        teachers=tuple(teachers),
        results=read_results(files, run, progress),
        damaged=progress.damaged,
    )


def print_summary(summary: Summary, console: Console, wall_seconds: dict[str, float] | None = None) -> None:
    """Print the tables; `wall_seconds` has the seconds of each stage that this call worked on."""
    tables = [_stage_table(summary, wall_seconds or {})]
    if summary.teachers:
        tables.insert(0, _teacher_table(summary))
    if summary.results.rows:
        tables.append(_student_table(summary.results))
    if summary.results.image_sets:
        tables.append(_set_table(summary.results))
    console.print(Group(*tables))


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", no_wrap=True)
    return table


def _teacher_table(summary: Summary) -> Table:
    table = _table("Teachers", "name", "architecture", "parameters", "BN layers", "test accuracy")
    for teacher in summary.teachers:
        table.add_row(
            teacher.name,
            teacher.arch,
            f"{teacher.num_parameters:,}",
            str(teacher.num_bn_layers),
            "-" if teacher.test_accuracy is None else f"{100 * teacher.test_accuracy:.2f} %",
        )
    return table


def _stage_table(summary: Summary, wall_seconds: dict[str, float]) -> Table:
    table = _table("Stages", "stage", "units", "wall s, this call", "actor s, in all", "bytes written")
    for stage in summary.stages:
        wall = wall_seconds.get(stage.stage)
        table.add_row(
            stage.stage,
            f"{stage.num_done}/{stage.num_units}",
            "-" if wall is None else f"{wall:.1f}",
            f"{stage.actor_seconds:.1f}",
            f"{stage.num_bytes:,}",
        )
    return table


def _student_table(results: Results) -> Table:
    table = _table("Students (last epoch)", "trained on", "tested on", "accuracy", "each student")
    for row in results.rows:
        spread = "" if row.spread is None else f" +- {100 * row.spread:.2f}"
        each = " ".join(f"{100 * accuracy:.2f}" for accuracy in row.accuracies)
        name = row.image_set if row.evaluation == STUDENT else f"{row.image_set}, {row.evaluation}"
        trained_on = f"{name} + {row.labels} labels"
        table.add_row(trained_on, f"{row.split} images", f"{100 * row.mean:.2f}{spread} %", each)
    return table


def _set_table(results: Results) -> Table:
    columns = ("image set", "method", "cosine", "its variance", "verified", "actor s", "images/s")
    table = _table("Images (intra-class cosine similarity: lower is more diverse)", *columns)
    for figures in results.image_sets:
        table.add_row(
            figures.name,
            figures.method,
            number_text(figures.cosine_mean, ".3f"),
            number_text(figures.cosine_variance, ".4f"),
            " ".join(f"{100 * share:.1f} %" for share in figures.verified.values()) or "-",
            f"{figures.seconds:.1f}",
            number_text(figures.images_per_second, ".2f"),
        )
    return table
