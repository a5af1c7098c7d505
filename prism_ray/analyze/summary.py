"""The figures of a run, from its commits alone: teachers, students, stages. Printed as tables or as JSON."""

import statistics
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.table import Table

from prism_ray.plan import IMAGE_SETS, Stage
from prism_ray.store import Run, RunProgress


@dataclass(frozen=True)
class TeacherFigures:
    """A squeezed teacher."""

    name: str
    arch: str
    num_parameters: int
    num_bn_layers: int
    test_accuracy: float  # share in [0, 1]


@dataclass(frozen=True)
class StudentFigures:
    """The students of an image set, each tested once after its last epoch."""

    image_set: str
    test_accuracies: tuple[float, ...]  # shares in [0, 1]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.test_accuracies)

    @property
    def spread(self) -> float | None:
        """Sample standard deviation, None for a single student."""
        return statistics.stdev(self.test_accuracies) if len(self.test_accuracies) > 1 else None


@dataclass(frozen=True)
class StageFigures:
    """A stage over all calls of the command."""

    stage: Stage
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
    students: tuple[StudentFigures, ...]
    damaged: dict[str, str]

    @property
    def num_bytes(self) -> int:
        return sum(stage.num_bytes for stage in self.stages)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `--json`."""
        values = asdict(self)
        for figures, student in zip(values["students"], self.students, strict=True):
            figures |= {"mean": student.mean, "spread": student.spread}
        return values


def summarise(location: str, run: Run, progress: RunProgress) -> Summary:
    """Draw the figures from the commits."""
    plan, commits = run.plan, progress.commits
    stages = []
    for stage in progress.stages:
        done = [commits[unit.id] for unit in plan.units(stage.stage) if unit.id in commits]
        seconds = sum(commit.seconds for commit in done)
        num_bytes = sum(commit.num_bytes for commit in done)
        stages.append(StageFigures(stage.stage, stage.num_done, stage.num_units, seconds, num_bytes))
    teachers = [
        TeacherFigures(unit.teacher, **commits[unit.id].stats)
        for unit in plan.squeeze_units()
        if unit.id in commits
    ]
    students = []
    for image_set in IMAGE_SETS:
        units = [unit for unit in plan.evaluate_units(image_set) if unit.id in commits]
        if units:
            accuracies = tuple(commits[unit.id].stats["test_accuracy"] for unit in units)
            students.append(StudentFigures(image_set, accuracies))
    return Summary(
        store=location,
        complete=progress.complete,
        stages=tuple(stages),
        teachers=tuple(teachers),
        students=tuple(students),
        damaged=progress.damaged,
    )


def print_summary(summary: Summary, console: Console, wall_seconds: dict[Stage, float] | None = None) -> None:
    """Print the tables; `wall_seconds` are the stages' in this call, if it worked on any."""
    tables = [_stage_table(summary, wall_seconds or {})]
    if summary.teachers:
        tables.insert(0, _teacher_table(summary))
    if summary.students:
        tables.append(_student_table(summary))
    console.print(Group(*tables))


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place == 0 else "right", no_wrap=True)
    return table


def _teacher_table(summary: Summary) -> Table:
    table = _table("Teachers", "name", "architecture", "parameters", "BN layers", "test accuracy")
    for teacher in summary.teachers:
        table.add_row(
            teacher.name,
            teacher.arch,
            f"{teacher.num_parameters:,}",
            str(teacher.num_bn_layers),
            f"{100 * teacher.test_accuracy:.2f} %",
        )
    return table


def _stage_table(summary: Summary, wall_seconds: dict[Stage, float]) -> Table:
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


def _student_table(summary: Summary) -> Table:
    table = _table("Students (last epoch, real test images)", "trained on", "test accuracy", "each student")
    for student in summary.students:
        spread = "" if student.spread is None else f" +- {100 * student.spread:.2f}"
        each = " ".join(f"{100 * accuracy:.2f}" for accuracy in student.test_accuracies)
        table.add_row(f"{student.image_set} + soft labels", f"{100 * student.mean:.2f}{spread} %", each)
    return table
