"""The figures of a run, from its commits alone: teachers, students, stages. Printed as tables or as JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from prism_ray.analyze.compare import comparable_results
from prism_ray.analyze.fair import (
    FairFigures,
    fair_figures,
    fair_tables,
    missing_controls,
    spread_notes,
)
from prism_ray.analyze.results import (
    Results,
    TeacherFigures,
    number_text,
    read_other_results,
    read_results,
    read_teachers,
    student_spread,
)
from prism_ray.analyze.states import stage_states
from prism_ray.analyze.text_table import TextTable
from prism_ray.analyze.verdict import Observed, Verdict, judge
from prism_ray.config.resolve import STUDENT
from prism_ray.run import NOT_IN_CONFIG, Run, RunProgress
from prism_ray.run.live import Live, read_live
from prism_ray.stages import Within, stages
from prism_ray.store import Driver, StoreFiles, read_driver

_IMAGES = "Images (intra-class cosine similarity: lower is more diverse)"


@dataclass(frozen=True)
class StageFigures:
    """The work on a stage in all calls of the command."""

    stage: str  # its name, such as recover
    num_done: int  # units that are done
    num_units: int  # units of the present config
    actor_seconds: float  # sum over the units
    num_bytes: int  # of the committed files
    state: str  # see states.py


@dataclass(frozen=True)
class OtherSet:
    """An image set in the store that the present config does not name."""

    name: str  # name of the image set
    method: str | None  # None if its settings were not kept, by an earlier version of prism-ray
    stages: dict[str, tuple[int, int | None]]  # stage -> (units done, units), of stages that work on one set


@dataclass(frozen=True)
class Summary:
    """Everything that `status` prints; `distill` prints a part of it."""

    store: str  # folder or URL
    complete: bool  # all units of the config are done
    stages: tuple[StageFigures, ...]  # in the order of the pipeline
    teachers: tuple[TeacherFigures, ...]  # those that are in the store
    results: Results  # of the present config
    verdict: Verdict  # on the run
    damaged: dict[str, str]  # unit id -> what is wrong with its files
    driver: Driver | None  # that has not released the store; None if there is none
    other_sets: tuple[OtherSet, ...]  # that only earlier configs name
    other_results: Results  # of these sets, and of other evaluations and students
    fair: FairFigures  # scores of the present config beside its controls
    missing_controls: str  # a sentence; "" if none
    live: Live | None  # what a driver that is at work is doing

    @property
    def num_bytes(self) -> int:
        return sum(stage.num_bytes for stage in self.stages)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `--json`."""
        return asdict(self) | {
            "results": self.results.to_json(),
            "other_results": self.other_results.to_json(),
            "verdict": self.verdict.to_json(),
            "fair": self.fair.to_json(),
        }


def summarise(files: StoreFiles, run: Run, progress: RunProgress) -> Summary:
    """Read the figures from the commits; raises StoreError if one does not have the figures of its unit."""
    results, teachers = read_results(files, run, progress), read_teachers(files, run, progress)
    others = read_other_results(files, run, progress, results)
    comparable = comparable_results(run, results, others)
    driver = read_driver(files)
    states = stage_states(progress, driver is not None and driver.alive)
    figures = []
    for stage in progress.stages:
        sums = progress.sums[stage.stage]
        figures.append(
            StageFigures(
                stage=stage.stage,
                num_done=stage.num_done,
                num_units=stage.num_units,
                actor_seconds=sums.seconds,
                num_bytes=sums.num_bytes,
                state=states[stage.stage],
            )
        )
    return Summary(
        store=files.location,
        complete=progress.complete,
        stages=tuple(figures),
        teachers=teachers,
        results=results,
        verdict=judge(run, [Observed(comparable, teachers)]),
        damaged=progress.damaged,
        driver=driver,
        other_sets=tuple(_other_sets(run, progress)),
        other_results=others,
        fair=fair_figures(run, [comparable]),
        missing_controls=missing_controls(run.config),
        live=read_live(files),
    )


def _other_sets(run: Run, progress: RunProgress) -> Iterator[OtherSet]:
    """Yield the image sets that only earlier configs name."""
    for name, its_run in run.image_sets.items():
        if name in run.config.image_sets:
            continue
        counts: dict[str, tuple[int, int | None]] = {}
        for stage in stages():
            if stage.overlaps:
                unit_ids = list(stage.ids(its_run.plan, Within(name)))
                counts[stage.name] = sum(unit_id in progress.done for unit_id in unit_ids), len(unit_ids)
        yield OtherSet(name, its_run.config.image_sets[name].method, counts)
    for name in run.forgotten:
        counts = {}
        for stage in stages():
            prefix = f"{stage.name}/{name}/"
            numbers = [n for scope, n in progress.num_others.items() if f"{scope}/".startswith(prefix)]
            if numbers:
                counts[stage.name] = sum(numbers), None
        yield OtherSet(name, None, counts)


def print_summary(summary: Summary, console: Console) -> None:
    """Print all tables."""
    tables: list[Table | str] = [_stage_table(summary)]
    if summary.teachers:
        tables.insert(0, _teacher_table(summary))
    if summary.results.rows:
        tables.append(student_table(summary.results, "Students (last epoch)"))
        tables += [_text_table(table) for table in fair_tables(summary.fair)]
        tables += [*spread_notes(summary.fair, student_spread([summary.results]), over_runs=False), ""]
    if summary.results.image_sets:
        tables.append(_set_table(summary.results, _IMAGES))
    if summary.other_sets:
        tables.append(_other_set_table(summary.other_sets))
    if summary.other_results.rows:
        tables.append(student_table(summary.other_results, f"Students {NOT_IN_CONFIG}"))
    if summary.other_results.image_sets:
        tables.append(_set_table(summary.other_results, f"Images {NOT_IN_CONFIG}"))
    for table in tables:
        console.print(table, markup=False, highlight=False)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for index, column in enumerate(columns):
        # Folded, never cut: a narrow terminal shows long cells on several lines.
        table.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    return table


def _text_table(text: TextTable) -> Table:
    table = _table(text.title, *text.columns)
    for cells in text.rows:
        table.add_row(*cells)
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


def _stage_table(summary: Summary) -> Table:
    table = _table("Stages", "stage", "state", "units", "actor seconds", "bytes")
    for stage in summary.stages:
        units, seconds = f"{stage.num_done}/{stage.num_units}", f"{stage.actor_seconds:.1f}"
        table.add_row(stage.stage, stage.state, units, seconds, f"{stage.num_bytes:,}")
    return table


def _other_set_table(sets: Sequence[OtherSet]) -> Table:
    names = [stage.name for stage in stages() if stage.overlaps]
    table = _table(f"In the store, but {NOT_IN_CONFIG}", "image set", "method", *names)
    for each in sets:
        cells = []
        for name in names:
            num_done, num_units = each.stages.get(name, (0, None))
            cells.append(f"{num_done}/{'?' if num_units is None else num_units}")
        table.add_row(each.name, each.method or "?", *cells)
    return table


def student_table(results: Results, title: str) -> Table:
    """Return a row for each image set and evaluation, with the accuracies of its students."""
    with_top5 = any(row.top5_mean is not None and row.top5_mean < 1.0 for row in results.rows)
    more = ("best test", "top-5") if with_top5 else ("best test",)
    table = _table(title, "trained on", "tested on", "accuracy", *more, "each student")
    for row in results.rows:
        spread = "" if row.spread is None else f" +- {100 * row.spread:.2f}"
        each = " ".join(f"{100 * accuracy:.2f}" for accuracy in row.accuracies)
        name = row.image_set if row.evaluation == STUDENT else f"{row.image_set}, {row.evaluation}"
        trained_on = f"{name} + {row.labels} labels"
        means = (row.best_mean, row.top5_mean) if with_top5 else (row.best_mean,)
        shown = ("-" if mean is None else f"{100 * mean:.2f} %" for mean in means)
        table.add_row(trained_on, f"{row.split} images", f"{100 * row.mean:.2f}{spread} %", *shown, each)
    return table


def _set_table(results: Results, title: str) -> Table:
    columns = ("image set", "method", "cosine", "its variance", "verified", "actor s", "images/s")
    table = _table(title, *columns)
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
