"""The whole report of some stores: the page, and the numbers on it as plain data and as tables."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from prism_ray.analyze.sheet import chosen_labels
from prism_ray.analyze.text_table import TextTable
from prism_ray.config.resolve import CONTROL
from prism_ray.errors import PrismRayError
from prism_ray.report.charts import (
    accuracy_chart,
    class_charts,
    class_table,
    projection_charts,
    student_charts,
)
from prism_ray.report.classes import read_classes
from prism_ray.report.figure import Chart, Palette
from prism_ray.report.opened import Opened, plain
from prism_ray.report.outcome import Outcome, headline, judge_stores
from prism_ray.report.pictures import Pictures, read_pictures
from prism_ray.report.projection import project
from prism_ray.report.rows import (
    ClassRow,
    DrawRow,
    LossPoint,
    ProjectedImage,
    StudentPoint,
    StudentRow,
    UnitRow,
    table_of,
)
from prism_ray.report.store_page import StorePage, make_store_page
from prism_ray.report.students import read_students
from prism_ray.report.supervision import evenly, read_supervision
from prism_ray.report.timeline import read_timeline

_PROJECTED = 10  # classes without a choice; more colours cannot be told apart
_FORMAT = 1  # of figures.json


@dataclass(frozen=True)
class Projected:
    """The section of the projection; without charts, the text says why."""

    charts: tuple[Chart, ...]
    labels: tuple[int, ...]
    text: str


@dataclass(frozen=True)
class Report:
    """Everything that the templates need, and the tables behind it."""

    outcome: Outcome
    pages: tuple[StorePage, ...]
    pictures: Pictures
    accuracy: Chart | None
    students: tuple[Chart, ...]
    classes: tuple[Chart, ...]
    class_table: TextTable | None
    class_rows: tuple[ClassRow, ...]
    projected: Projected
    class_names: tuple[str, ...]
    controls: frozenset[str]  # image sets of random real images
    tables: dict[str, pa.Table]

    def charts(self) -> list[Chart]:
        """Return all charts of the page."""
        found = [self.accuracy] if self.accuracy else []
        found += [*self.students, *self.classes, *self.projected.charts]
        return found + [chart for page in self.pages for chart in page.charts()]

    def figures(self) -> dict[str, Any]:
        """Return all numbers of the page as plain data; the tables column by column."""
        outcome = self.outcome
        values: dict[str, Any] = plain(
            {
                "format": _FORMAT,
                "verdict": outcome.verdict.to_json(),
                "headline": asdict(headline(outcome.verdict, all(s.complete for s in outcome.summaries))),
                "apart": outcome.apart,
                "stores": {
                    page.name: summary.to_json()
                    for page, summary in zip(self.pages, outcome.summaries, strict=True)
                },
                "fair": {name or "all": figures.to_json() for name, figures in outcome.fair},
                "comparison": outcome.comparison and outcome.comparison.to_json(),
                "tables": {name: table.to_pydict() for name, table in self.tables.items()},
            }
        )
        return values


def build_report(stores: Sequence[Opened], classes: Sequence[str] = (), *, features: bool = True) -> Report:
    """Read everything from the stores.

    `classes` are the names or labels of the classes in the projection, by default ten that are evenly chosen;
    without `features` there is no projection, and torch is not loaded for it. Raises UsageError for a class
    that there is not, StoreError if a commit does not have the figures of its unit.
    """
    labels = chosen_classes(stores[0], classes)
    outcome = judge_stores(stores)
    several = len(stores) > 1
    palette = _palette(stores)
    students = [read_students(each) for each in stores]
    class_rows = tuple(
        row
        for opened, each in zip(stores, students, strict=True)
        for row in read_classes(opened, each.by_class)
    )
    supervision = [read_supervision(each) for each in stores]
    timelines = [read_timeline(each) for each in stores]
    pictures = read_pictures(stores)
    points, projected = _project(stores, labels, features)
    pages = tuple(
        make_store_page(opened, number, summary, supervised, timeline)
        for number, (opened, summary, supervised, timeline) in enumerate(
            zip(stores, outcome.summaries, supervision, timelines, strict=True)
        )
    )
    tables = {
        "students": table_of(StudentRow, [row for each in students for row in each.rows]),
        "student_curves": table_of(StudentPoint, [row for each in students for row in each.curves]),
        "classes": table_of(ClassRow, class_rows),
        "losses": table_of(LossPoint, [row for each in supervision for row in each.losses]),
        "draws": table_of(DrawRow, [row for each in supervision for row in each.draws]),
        "units": table_of(UnitRow, [row for each in timelines for row in each.units]),
        "projection": table_of(ProjectedImage, points),
    }
    return Report(
        outcome=outcome,
        pages=pages,
        pictures=pictures,
        accuracy=accuracy_chart(outcome.results, outcome.fair[0][1], outcome.verdict, palette),
        students=tuple(student_charts([row for each in students for row in each.curves], palette)),
        classes=tuple(class_charts(class_rows, palette, several)),
        class_table=class_table(class_rows, several) if class_rows else None,
        class_rows=class_rows,
        projected=projected,
        class_names=stores[0].run.facts.class_names,
        controls=palette.controls,
        tables=tables,
    )


def _palette(stores: Sequence[Opened]) -> Palette:
    names: dict[str, bool] = {}
    for opened in stores:
        for name, its_run in opened.run.image_sets.items():
            names.setdefault(name, its_run.config.image_sets[name].method == CONTROL)
    controls = frozenset(name for name, is_control in names.items() if is_control)
    return Palette(controls, [name for name in names if name not in controls])


def chosen_classes(opened: Opened, classes: Sequence[str]) -> list[int]:
    """Return the labels of the classes of the projection; a name counts before a number."""
    if not classes:
        return evenly(range(opened.run.facts.num_classes), _PROJECTED)
    return sorted(chosen_labels(opened.run, classes))


def _project(
    stores: Sequence[Opened], labels: Sequence[int], features: bool
) -> tuple[list[ProjectedImage], Projected]:
    """Return the projected images, and the section; what goes wrong becomes its text."""
    if not features:
        return [], Projected((), (), "Features were left out of this report (--without-features).")
    if not any(unit_id.startswith("recover/") for each in stores for unit_id in each.progress.done):
        return [], Projected((), (), "No images are there yet.")
    from prism_ray.report.features import read_features

    try:
        found = read_features(stores, labels)
    except PrismRayError as error:
        return [], Projected((), (), f"There are no features: {error}")
    if found is None:
        return [], Projected((), (), "No images of these classes are there yet.")
    projection = project(found.values)
    points = [
        ProjectedImage(*key, float(x), float(y))
        for key, (x, y) in zip(found.keys, projection.points, strict=True)
    ]
    names = stores[0].run.facts.class_names
    charts = projection_charts(points, projection, names, len(stores) > 1)
    text = (
        f"{projection.kind} of the penultimate features of {found.teacher}, computed for this report on the "
        "stored images. All sets are in one projection, so positions can be compared between the panels."
    )
    if projection.reason:
        text += f" It is not UMAP, because {projection.reason}."
    if found.note:
        text += f" Only {found.note} are in it."
    return points, Projected(tuple(charts), tuple(labels), text)


def encode_figures(report: Report) -> bytes:
    """Return figures.json."""
    return json.dumps(report.figures(), indent=1, allow_nan=False).encode()
