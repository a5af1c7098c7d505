"""Time and cost."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prism_ray.report.opened import Opened
from prism_ray.report.rows import UnitRow
from prism_ray.report.timeline import OVERLAP_S, Timeline, _in_lanes, _pauses, bars, read_timeline
from prism_ray.run.calls import Call, write_call
from tests.report.conftest import open_store


def unit(start: float, end: float, host: str = "a") -> UnitRow:
    return UnitRow("run", "recover/x/y", "recover", host, 0, start, end, end - start, 1, 1)


def test_the_cost_is_the_sum_over_the_commits(opened: Opened) -> None:
    """Catches units that are counted twice or left out."""
    timeline = read_timeline(opened)
    assert timeline.num_units == len(timeline.units) == len(opened.progress.done)
    assert timeline.cost.actor_seconds == pytest.approx(sum(row.seconds for row in timeline.units))
    assert sum(timeline.cost.bytes_by_stage.values()) == sum(row.num_bytes for row in timeline.units)
    assert timeline.cost.num_images == 40


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 9), st.sampled_from("ab"))))
def test_units_in_a_lane_do_not_overlap(times: list[tuple[int, int, str]]) -> None:
    """Catches two units that cover each other in the chart, so that one of them is not seen."""
    rows = sorted((unit(a, a + n, host) for a, n, host in times), key=lambda row: row.started_at)
    placed = _in_lanes(rows)
    lanes: dict[tuple[str, int], float] = {}
    for row in placed:
        assert lanes.get((row.host, row.lane), -9.0) <= row.started_at + OVERLAP_S
        lanes[row.host, row.lane] = row.finished_at
    assert len(placed) == len(rows)


def test_a_night_between_two_calls_is_cut_out() -> None:
    """Catches a chart in which an interrupted run is two thin lines at its edges."""
    units = (unit(0, 100), unit(100, 300), unit(40_000, 40_100))
    pauses = _pauses(units)
    assert pauses == [(300, 40_000)]
    timeline = Timeline(units, 3, tuple(pauses), None)  # type: ignore[arg-type]
    assert [timeline.seconds_of_work(row.finished_at) for row in units] == [100, 300, 400]
    assert [bar.end for bar in bars(timeline)] == [100, 300, 400]


def test_many_units_share_bars() -> None:
    """Catches a page of a million units that no browser can draw."""
    units = tuple(unit(k, k + 1) for k in range(5000))
    found = bars(Timeline(units, 5000, (), None))  # type: ignore[arg-type]
    assert sum(bar.num_units for bar in found) == 5000
    assert len(found) < 400
    few = bars(Timeline(units[:20], 20, (), None))  # type: ignore[arg-type]
    assert len(few) == 20


def test_a_strange_time_is_left_out(opened: Opened) -> None:
    """Catches a report that fails at a commit whose time is no time."""
    commit = opened.progress.commits["measure/prism"]
    opened.progress.commits["measure/prism"] = replace(commit, finished_at="now")
    assert len(read_timeline(opened).units) == len(opened.progress.done) - 1


def test_what_the_calls_counted_is_added_up(copied: Path) -> None:
    """Catches counts of the last call alone, and GPU-hours that are called unknown though the driver knew."""
    opened = open_store(copied)
    assert read_timeline(opened).cost.num_hits is None  # no record: not 0
    for number, gpus in ((1, 0.0), (3, 0.0)):
        write_call(opened.files, number, lambda gpus=gpus: Call(9.0, 10, 2, 1, gpus, ("cpu",)))
    opened.files.replace("calls/000004.json", b"damaged")
    cost = read_timeline(opened).cost
    assert (cost.num_hits, cost.num_loads, cost.num_preempted) == (20, 4, 2)
    assert cost.gpus_per_actor == 0.0
