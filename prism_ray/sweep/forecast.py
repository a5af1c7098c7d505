"""A forecast of a sweep: its points, the units that each makes, and those that it takes from others."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from prism_ray.parts.forecast import forecast_label_bytes
from prism_ray.run import RunProgress
from prism_ray.run.match import OpenData
from prism_ray.stages import stage_names
from prism_ray.sweep.drive import read_point
from prism_ray.sweep.file import Sweep, shown_changes
from prism_ray.sweep.sharing import Member, shares


@dataclass(frozen=True)
class PointForecast:
    """What a point needs."""

    sweep: str  # name of the sweep file
    folder: str  # its store, below the folder of the sweep
    changes: str  # keys and their values here, for people
    units: dict[str, int]  # by stage
    shared_units: dict[str, int]  # of these, made by an earlier point
    num_done: int  # units that are committed
    label_bytes: int  # as if it made all its labels itself
    error: str | None  # why this point cannot run; None if it can

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def forecast(sweeps: Sequence[Sweep]) -> list[PointForecast]:
    """Compare all points with their stores and with each other; write nothing, start nothing.

    Raises UsageError for wrong input.
    """
    known: dict[str, OpenData] = {}
    members, works = [], []
    for each in sweeps:
        for point in each.points:
            work = read_point(point, known)
            works.append((each, work))
            if work.asked is not None:
                run = work.asked.run_with(work.asked.num_threads or 1)
                progress = work.progress or RunProgress(run.plan, {})
                members.append(Member(point.folder, work.files, run, progress))
    shared = shares(members)
    by_folder = {member.folder: member for member in members}
    found = []
    for each, work in works:
        point = work.point
        member = by_folder.get(point.folder)
        stages = member.progress.stages if member else ()
        found.append(
            PointForecast(
                each.name,
                point.folder,
                shown_changes(point.changes),
                {stage.stage: stage.num_units for stage in stages},
                shared.get(point.folder, {}),
                sum(stage.num_done for stage in stages),
                forecast_label_bytes(member.run.plan) if member else 0,
                str(work.error) if work.error else None,
            )
        )
    return found


def print_forecast(points: Sequence[PointForecast], console: Console) -> None:
    """Print a line for each point: units of each stage, those taken from other points in brackets."""
    title = "Points: units of each stage (of these, shared with a point above)"
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    names = stage_names()
    for number, head in enumerate(("point", *names, "done", "label bytes")):
        table.add_column(head, justify="left" if number == 0 else "right", overflow="fold")
    for point in points:
        cells = [f"{point.units.get(name, 0)} ({point.shared_units.get(name, 0)})" for name in names]
        table.add_row(point.folder, *cells, str(point.num_done), f"{point.label_bytes:,}")
    console.print(table)
    total = sum(sum(point.units.values()) for point in points)
    shared = sum(sum(point.shared_units.values()) for point in points)
    console.print(f"{len(points)} points, {total:,} units: {total - shared:,} to be made, {shared:,} shared")
    for point in points:
        if point.error is not None:
            console.print(f"{point.folder}: {point.error}")
