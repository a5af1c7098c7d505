"""The table of a sweep from its stores, in each form, and the forecast."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from prism_ray.run import Run, save_run
from prism_ray.store import Commit, StoreFiles, write_commit
from prism_ray.store.sweeps import SweepRecord, write_sweep
from prism_ray.sweep.file import read_sweeps
from prism_ray.sweep.forecast import forecast
from prism_ray.sweep.table import (
    COMPLETE,
    NOT_BEGUN,
    PointFigures,
    Row,
    SetFigures,
    SweepTable,
    _rows,
    accuracy_text,
    read_table,
    to_csv,
    to_markdown,
)

JOBS = Path(__file__).resolve().parents[2] / "jobs"


def figures(
    name: str, accuracies: tuple[float, ...], label_bytes: int = 100, **changes: object
) -> PointFigures:
    found = SetFigures("distilled", "student", accuracies, 2.0, 50, label_bytes)
    keys = {key.replace("__", "."): value for key, value in changes.items()}
    return PointFigures(name, keys, COMPLETE, 3.0, 150, 20, (found,))


def table(*points: PointFigures, has_seeds: bool = False) -> SweepTable:
    return SweepTable("s", points, tuple(_rows(points, has_seeds)))


def test_rows_of_several_seeds_are_one(make_run: Callable[..., Run]) -> None:
    """Catches seeds that are rows of their own, and a spread over means instead of students."""
    points = [
        figures("a", (0.5, 0.7), recover__ipc=1, seed=0),
        figures("b", (0.6,), 300, recover__ipc=1, seed=1),
        figures("c", (0.1,), recover__ipc=2, seed=0),
    ]
    found = table(*points, has_seeds=True)
    assert [(row.num_runs, row.changes) for row in found.rows] == [
        (2, {"recover.ipc": 1}),
        (1, {"recover.ipc": 2}),
    ]
    first = found.rows[0]
    assert first.mean == pytest.approx(0.6)
    assert first.spread == pytest.approx(0.1)
    assert first.label_bytes == 200
    assert found.keys == ("recover.ipc",)
    assert len(table(*points).rows) == 3  # without `seeds` the seed is a key like others


def test_each_form_has_every_row() -> None:
    """Catches a table that a program or Markdown cannot read."""
    found = table(
        figures("a", (0.5, 0.7), recover__init="a|b"),
        figures("b", (), recover__x=[1, "two"]),
        figures("c", (0.25,)),
    )
    text = to_markdown(found)
    assert "| init | x | image set | students | accuracy |" in text
    assert "| a/b | - | distilled | 2 | 60.0 % +- 14.1 |" in text
    assert "| - | [1, two] | distilled | 0 | - |" in text
    assert "| 25.0 % |" in text
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1
    rows = list(csv.DictReader(io.StringIO(to_csv([found]))))
    assert [row["mean"] for row in rows] == ["0.6", "", "0.25"]
    assert rows[0]["recover.init"] == "a|b"
    assert json.loads(json.dumps(found.to_json()))["rows"][0]["mean"] == 0.6


def test_a_row_without_students_has_no_accuracy() -> None:
    """Catches 0 % for a student that does not exist."""
    assert accuracy_text(Row({}, 1, "x", "a", "b", (), 0.0, 0.0, 0.0)) == "-"


def test_states_are_read_from_the_stores(files: StoreFiles, make_run: Callable[..., Run]) -> None:
    """Catches a sweep whose status fails because of one point that is damaged or not begun."""
    names = ("s.begun", "s.damaged", "s.none")
    write_sweep(files, SweepRecord("s", {name: {} for name in names}))
    run = make_run()
    for name in names[:2]:
        save_run(StoreFiles(f"{files.location}/{name}"), run)
    begun = StoreFiles(f"{files.location}/s.begun")
    write_commit(begun, Commit("squeeze/a", run.fingerprint_of("squeeze/a"), (), {}, 1.0, "here", "now"))
    files.replace("s.damaged/plan.json", b"{")
    found = read_table(files, SweepRecord("s", {name: {} for name in names}))
    states = {point.folder: point.state for point in found.points}
    num_units = sum(run.plan.num_units(s) for s in ("squeeze", "recover", "relabel", "measure", "evaluate"))
    assert states["s.begun"] == f"1/{num_units} units"
    assert states["s.none"] == NOT_BEGUN
    assert "is damaged" in states["s.damaged"]
    assert found.num_complete == 0


def test_the_forecast_of_the_ready_files(tmp_path: Path) -> None:
    """Catches ablations that squeeze the teachers at each point, and a forecast that writes something."""
    paths = [str(JOBS / "sweeps" / f"{name}.yaml") for name in ("loss", "label-encoding", "bn-teachers")]
    found = forecast(read_sweeps(paths, (), str(tmp_path / "all")))
    assert sum(point.units["squeeze"] - point.shared_units["squeeze"] for point in found) == 4
    losses = [point for point in found if point.sweep == "loss"]
    assert all(point.shared_units["relabel"] == point.units["relabel"] for point in losses[1:])
    encodings = [point for point in found if point.sweep == "label-encoding"]
    assert encodings[-1].label_bytes < encodings[0].label_bytes / 10
    assert list(tmp_path.iterdir()) == []
