"""The results of a sweep from its stores alone: one row for each point, image set and evaluation."""

import csv
import io
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from prism_ray.analyze.results import ResultRow, read_results, spread, to_plain
from prism_ray.config.text import to_flow
from prism_ray.errors import PrismRayError, StoreError
from prism_ray.run import Run, RunProgress, load_run, read_progress
from prism_ray.run.progress import Sums
from prism_ray.store import StoreFiles, layout, units_set_aside
from prism_ray.store.sweeps import SweepRecord
from prism_ray.sweep.naming import short_keys

COMPLETE, NOT_BEGUN = "complete", "not begun"
_SEED = "seed"


@dataclass(frozen=True)
class SetFigures:
    """An image set of a point and its students under one evaluation."""

    image_set: str  # name of the image set
    evaluation: str  # name of the evaluation
    accuracies: tuple[float, ...]  # of the students, shares in [0, 1]
    actor_seconds: float  # for the images, their labels and these students
    image_bytes: int  # of its committed files
    label_bytes: int  # 0 if labels are made online, or not yet


@dataclass(frozen=True)
class PointFigures:
    """A point of a sweep as its store has it."""

    folder: str  # its store, below the folder of the sweep
    changes: dict[str, Any]  # config key -> its value here
    state: str  # complete, not begun, 12/40 units, or what is wrong
    actor_seconds: float  # of all units, as if the point had made each of them itself
    num_bytes: int  # of all units
    shared_bytes: int  # of these, in the stores of other points
    sets: tuple[SetFigures, ...]  # one for each image set and evaluation


@dataclass(frozen=True)
class Row:
    """A line of the table: the points that differ only in their seeds, for one image set and evaluation."""

    changes: dict[str, Any]  # config key -> its value here; without the seed of runs that are one row
    num_runs: int  # points in this line
    state: str  # of the points, as in PointFigures
    image_set: str  # its name; "-" if the points have no images yet
    evaluation: str  # its name; "-" too
    accuracies: tuple[float, ...]  # of all students of these runs
    actor_seconds: float  # mean over the runs, as the bytes
    image_bytes: float  # of the image set
    label_bytes: float  # of its soft labels

    JSON_PROPERTIES: ClassVar = ("mean", "spread")

    @property
    def mean(self) -> float | None:
        """Mean accuracy over students, a share in [0, 1]; None without students."""
        return statistics.fmean(self.accuracies) if self.accuracies else None

    @property
    def spread(self) -> float | None:
        """Sample standard deviation over students, None for less than two."""
        return spread(self.accuracies)


@dataclass(frozen=True)
class SweepTable:
    """The table of one sweep file."""

    name: str  # of the sweep file
    points: tuple[PointFigures, ...]  # in the order of the sweep file
    rows: tuple[Row, ...]  # of all points

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that the points change, in order; not the seed if rows are means over seeds."""
        return tuple(dict.fromkeys(key for row in self.rows for key in row.changes))

    @property
    def num_complete(self) -> int:
        return _num_complete(self.points)

    def to_json(self) -> dict[str, Any]:
        """Return plain data, means and spreads included."""
        rows = [to_plain(row) for row in self.rows]
        return {"name": self.name, "points": [asdict(point) for point in self.points], "rows": rows}


def read_table(folder: StoreFiles, record: SweepRecord) -> SweepTable:
    """Read the stores of a sweep's points; what is wrong with one becomes its state."""
    points = tuple(read_point(folder, name, changes) for name, changes in record.points.items())
    return SweepTable(record.name, points, tuple(_rows(points, record.has_seeds)))


def read_point(folder: StoreFiles, name: str, changes: dict[str, Any]) -> PointFigures:
    """Read the store of a point."""
    files = StoreFiles(f"{folder.location}/{name}")
    if not files.exists(layout.PLAN) and next(files.list(layout.COMMITS), None) is None:
        return PointFigures(name, changes, NOT_BEGUN, 0.0, 0, 0, ())
    try:
        run = load_run(files)
        progress = read_progress(files, run)
        results = read_results(files, run, progress)
    except PrismRayError as error:
        problem = error.problem if isinstance(error, StoreError) else str(error)
        return PointFigures(name, changes, problem.partition("\n")[0], 0.0, 0, 0, ())
    sums = progress.sums.values()
    return PointFigures(
        name,
        changes,
        _state(files, progress),
        sum(each.seconds for each in sums),
        sum(each.num_bytes for each in sums),
        sum(each.shared_bytes for each in sums),
        tuple(_sets(run, progress, results.rows)),
    )


def _state(files: StoreFiles, progress: RunProgress) -> str:
    if progress.complete:
        return COMPLETE
    done, total = (sum(getattr(s, key) for s in progress.stages) for key in ("num_done", "num_units"))
    aside = len(units_set_aside(files))
    notes = [f"{aside} failed"] if aside else []
    notes += [f"{len(progress.damaged)} damaged"] if progress.damaged else []
    return ", ".join([f"{done}/{total} units", *notes])


def _sets(run: Run, progress: RunProgress, rows: Sequence[ResultRow]) -> Iterator[SetFigures]:
    accuracies = {(row.image_set, row.evaluation): row.accuracies for row in rows}
    for evaluation in run.config.evaluations:
        for name in run.config.sets_of(evaluation):
            images, labels, students = (
                progress.figures.get(scope, Sums())
                for scope in (f"recover/{name}", f"relabel/{name}", f"evaluate/{name}/{evaluation}")
            )
            yield SetFigures(
                name,
                evaluation,
                accuracies.get((name, evaluation), ()),
                images.seconds + labels.seconds + students.seconds,
                images.num_bytes,
                labels.num_bytes,
            )


def _rows(points: Sequence[PointFigures], has_seeds: bool) -> Iterator[Row]:
    groups: dict[str, list[PointFigures]] = {}
    for point in points:
        groups.setdefault(json.dumps(_without_seed(point.changes, has_seeds), sort_keys=True), []).append(
            point
        )
    for group in groups.values():
        changes = _without_seed(group[0].changes, has_seeds)
        states = list(dict.fromkeys(point.state for point in group))
        state = states[0] if len(states) == 1 else f"{_num_complete(group)}/{len(group)} runs complete"
        sets = dict.fromkeys((each.image_set, each.evaluation) for point in group for each in point.sets)
        if not sets:
            yield Row(changes, len(group), state, "-", "-", (), 0.0, 0.0, 0.0)
        for image_set, evaluation in sets:
            found = [
                each
                for point in group
                for each in point.sets
                if (each.image_set, each.evaluation) == (image_set, evaluation)
            ]
            yield Row(
                changes,
                len(found),
                state,
                image_set,
                evaluation,
                tuple(accuracy for each in found for accuracy in each.accuracies),
                statistics.fmean(each.actor_seconds for each in found),
                statistics.fmean(each.image_bytes for each in found),
                statistics.fmean(each.label_bytes for each in found),
            )


def _num_complete(points: Sequence[PointFigures]) -> int:
    return sum(point.state == COMPLETE for point in points)


def _without_seed(changes: Mapping[str, Any], has_seeds: bool) -> dict[str, Any]:
    return {key: value for key, value in changes.items() if not (has_seeds and key == _SEED)}


def to_markdown(table: SweepTable) -> str:
    """Return the table of a sweep in Markdown."""
    names = short_keys(table.keys)
    several = len({row.evaluation for row in table.rows if row.accuracies}) > 1
    head = [*(names[key] for key in table.keys), "image set", *(["evaluation"] if several else [])]
    head += ["students", "accuracy", "actor s", "image bytes", "label bytes", "state"]
    num_left = len(head) - 5
    lines = [_line(head), _line(["---"] * (num_left - 1) + ["---:"] * 5 + ["---"])]
    for row in table.rows:
        cells = [*(value_text(row.changes, key) for key in table.keys), row.image_set]
        cells += [row.evaluation] if several else []
        cells += [str(len(row.accuracies)), accuracy_text(row), f"{row.actor_seconds:,.1f}"]
        cells += [f"{row.image_bytes:,.0f}", f"{row.label_bytes:,.0f}", row.state]
        lines.append(_line(cells))
    return "\n".join([f"### {table.name}", "", *lines])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/').replace(chr(10), ' ') for cell in cells)} |"


def accuracy_text(row: Row) -> str:
    """Return the mean over the students with their standard deviation, in percent."""
    if row.mean is None:
        return "-"
    return f"{100 * row.mean:.1f} %" + (f" +- {100 * row.spread:.1f}" if row.spread is not None else "")


def value_text(changes: Mapping[str, Any], key: str) -> str:
    """Return the value of a key as in YAML; a point that leaves the key as the base has it shows a dash."""
    if key not in changes:
        return "-"
    return to_flow(changes[key])


def to_csv(tables: Sequence[SweepTable]) -> str:
    """Return the rows of some sweeps as CSV, with a column for each key that any of them changes."""
    keys = list(dict.fromkeys(key for table in tables for key in table.keys))
    figures = ["num_students", "mean", "spread", "actor_seconds", "image_bytes", "label_bytes"]
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(["sweep", *keys, "image_set", "evaluation", "num_runs", "state", *figures])
    for table in tables:
        for row in table.rows:
            values = ["" if key not in row.changes else value_text(row.changes, key) for key in keys]
            numbers = [len(row.accuracies), row.mean, row.spread]
            costs = [round(row.actor_seconds, 3), round(row.image_bytes), round(row.label_bytes)]
            known = ["" if number is None else number for number in (*numbers, *costs)]
            writer.writerow(
                [table.name, *values, row.image_set, row.evaluation, row.num_runs, row.state, *known]
            )
    return sink.getvalue()
