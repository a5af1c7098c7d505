"""A forecast in numbers: hours, money, bytes, memory."""

from dataclasses import replace

import pytest

from prism_ray.calibrate.figures import Calibration, Group, Machine
from prism_ray.forecast import costs, price
from prism_ray.forecast.price import RAY_START_S, Shape, make_forecast, shape_of
from tests.forecast.test_costs import progress_of
from tests.forecast.test_rates import GROUPS, plan_of
from tests.plans import config_of

ALL = GROUPS | {"squeeze/t1": GROUPS["squeeze/t0"], "recover/random-real": {"rest": 0.1}}
MADE = Calibration(
    Machine("a CPU", 2, "cpu"),
    {},
    1,
    2,
    "2026-11-27",
    60.0,
    3.0,
    {name: Group("", dict(seconds), 2**30) for name, seconds in ALL.items()},
)
TWO = Shape(2, 1, 0.0)


def test_money_is_hours_of_gpus_times_their_price() -> None:
    """Catches the price of one GPU for a run on eight, or of the busy hours alone: idle ones are paid too."""
    gpu = replace(MADE, machine=Machine("a CPU", 8, "a GPU"))
    shape = Shape(8, 1, 0.5)
    made = make_forecast(plan_of(), None, shape, gpu, ALL, 2.5)
    assert made.wall_seconds is not None
    assert made.gpu_hours == pytest.approx(made.wall_seconds * 8 * 0.5 / 3600, rel=1e-3)
    assert made.price == pytest.approx(2.5 * made.wall_seconds * 8 * 0.5 / 3600, rel=1e-3)
    assert made.price_left == made.price
    on_cpus = make_forecast(plan_of(), None, TWO, MADE, ALL, 0.1)
    assert on_cpus.gpu_hours == 0.0
    assert on_cpus.actor_hours is not None
    assert on_cpus.price == pytest.approx(0.1 * on_cpus.actor_hours, rel=1e-3)
    assert make_forecast(plan_of(), None, TWO, MADE, ALL).price is None


def test_what_is_left_is_told_from_the_whole() -> None:
    """Catches a price of the whole run for its last hour, or the reverse."""
    plan = plan_of()
    done = {unit_id for stage in ("squeeze", "recover") for unit_id in plan.unit_ids(stage)}
    seconds = {"squeeze/t0": 90.0, "squeeze/t1": 110.0, "recover/distilled": 40.0, "recover/random-real": 1.0}
    progress = progress_of(plan, seconds, done)
    made = make_forecast(plan, progress, TWO, MADE, ALL)
    assert made.wall_seconds is not None
    assert made.wall_seconds_left is not None
    assert made.wall_seconds_left < made.wall_seconds - 100.0
    rows = {f"{row.stage}/{row.what}": row for row in made.rows}
    assert rows["squeeze/t0"].busy_seconds == 90.0
    assert rows["squeeze/t0"].busy_seconds_left == 0.0
    assert rows["recover/distilled"].num_left == 0
    assert rows["relabel/distilled"].bytes_left == rows["relabel/distilled"].num_bytes
    everything = {
        unit_id
        for stage in ("squeeze", "recover", "relabel", "measure", "evaluate")
        for unit_id in plan.unit_ids(stage)
    }
    complete = make_forecast(plan, progress_of(plan, seconds, everything), TWO, None, {})
    assert complete.wall_seconds_left == 0.0
    assert complete.actor_hours_left == 0.0


def test_without_figures_it_says_how_to_get_them() -> None:
    """Catches a forecast of zero seconds, or of nothing at all, before anything was measured."""
    made = make_forecast(plan_of(), None, TWO, None, {}, 2.5)
    assert (made.wall_seconds, made.actor_hours, made.price) == (None, None, None)
    assert made.num_bytes > 0
    assert any("--calibrate" in note for note in made.notes)
    assert {row.known_from for row in made.rows} == {""}


def test_ray_and_its_actors_must_start() -> None:
    """Catches a forecast of the work alone: on a laptop the start is a tenth of a small run."""
    made = make_forecast(plan_of(), None, TWO, MADE, ALL)
    assert made.start_seconds == RAY_START_S + 3.0
    assert min(row.begins_after for row in made.rows if row.begins_after is not None) >= made.start_seconds


def test_memory_is_that_of_an_actor() -> None:
    """Catches the memory of a calibration's few images for that of all of them."""
    made = make_forecast(plan_of(), None, TWO, MADE, ALL)
    rows = {f"{row.stage}/{row.what}": row.peak_bytes for row in made.rows}
    relabel, student = rows["relabel/distilled"], rows["evaluate/distilled/student"]
    assert relabel is not None
    assert student is not None
    assert student - relabel == 40 * 3 * 32 * 32
    assert made.peak_bytes == max(peak for peak in rows.values() if peak is not None)


def test_a_run_of_many_units_is_not_simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a `plan` that takes minutes for a million units, and another answer for them."""
    exact = make_forecast(plan_of(), None, TWO, MADE, ALL)
    monkeypatch.setattr(price, "MOST_UNITS", 3)
    monkeypatch.setattr(costs, "MOST_UNITS", 3)
    rough = make_forecast(plan_of(), None, TWO, MADE, ALL)
    assert exact.wall_seconds is not None
    assert rough.wall_seconds == pytest.approx(exact.wall_seconds, rel=0.3)


def test_the_actors_are_those_of_the_config_or_those_asked_for() -> None:
    """Catches a forecast for one actor of a config that has eight, and threads that no run would have."""
    config = config_of(orchestrate={"actors": 3, "threads_per_actor": 2})
    assert shape_of(config, None, None, "cpu") == Shape(3, 2, 0.0)
    assert shape_of(config, 4, 8, "cpu") == Shape(8, 4, 0.0)
    assert shape_of(config, None, None, "a GPU").gpus_per_actor == 1.0
    elastic = shape_of(config_of(orchestrate={"actors": {"min": 1, "max": 6}}), 1, None, "cpu")
    assert elastic.num_actors == 6
    assert "range" in elastic.notes[0]
    (note,) = shape_of(config_of(), 1, None, "cpu").notes
    assert "--actors" in note
