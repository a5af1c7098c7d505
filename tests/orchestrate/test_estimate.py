"""How far a stage is, and how long it still takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prism_ray.orchestrate.estimate import StageWork, stage_of_unit, units_of
from prism_ray.run.live import ActorNow, UnitNow


def actors(*units: UnitNow) -> list[ActorNow]:
    return [ActorNow(f"actor-{n}", "host", n, "cpu", (unit,)) for n, unit in enumerate(units)]


def work(monkeypatch: pytest.MonkeyPatch, seconds: float, **values: int) -> StageWork:
    found = StageWork(values["num_before"], values["num_units"], started=0.0)
    found.num_done = values["num_done"]
    monkeypatch.setattr("prism_ray.orchestrate.estimate.time.monotonic", lambda: seconds)
    return found


def test_a_long_unit_counts_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a stage of one unit of two hours that stands at 0 % until it is done."""
    stage = work(monkeypatch, 60.0, num_before=0, num_units=1, num_done=0)
    now = stage.now("recover", actors(UnitNow("recover/a/b", 25, 100)))
    assert now.share == 0.25
    assert now.seconds_left == pytest.approx(180.0)


def test_what_was_done_before_has_no_part_in_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a resumed run that promises to be done in a second."""
    stage = work(monkeypatch, 100.0, num_before=90, num_units=100, num_done=95)
    assert stage.now("recover", ()).seconds_left == pytest.approx(100.0)


def test_no_rate_is_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches an estimate from nothing: before anything is done, or in the first moment."""
    nothing = work(monkeypatch, 100.0, num_before=5, num_units=10, num_done=5)
    assert nothing.now("recover", ()).seconds_left is None
    early = work(monkeypatch, 0.5, num_before=0, num_units=10, num_done=5)
    assert early.now("recover", ()).seconds_left is None


def test_units_that_are_taken_take_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a sweep whose time left counts units that its points have from each other, in one go."""
    found = work(monkeypatch, 100.0, num_before=0, num_units=40, num_done=12)
    found.num_to_take, found.num_taken = 20, 8  # four were made, 16 are left to be made
    assert found.now("recover", ()).seconds_left == pytest.approx(400.0)
    found.num_taken, found.num_done = 20, 24
    assert found.now("recover", ()).seconds_left == pytest.approx(400.0)


@given(
    st.integers(0, 50),
    st.integers(0, 50),
    st.integers(0, 50),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 1000)), max_size=8),
)
def test_a_share_is_never_above_one(before: int, done: int, left: int, parts: list[tuple[int, int]]) -> None:
    """Catches 104 %: a unit that runs twice, or that reports more steps than it has."""
    found = StageWork(before, before + done + left)
    found.num_done = before + done
    units = [UnitNow(f"recover/a/{number % 3}", *part) for number, part in enumerate(parts)]
    now = found.now("recover", actors(*units))
    assert 0.0 <= now.share <= 1.0
    assert now.seconds_left is None or now.seconds_left >= 0.0


def test_units_of_a_sweep_belong_to_their_stage() -> None:
    """Catches units of a sweep's points that count for no stage."""
    assert stage_of_unit(UnitNow("bn=0.1: recover/distilled/i00000-c00000")) == "recover"
    known, unknown = UnitNow("a/b", 1, 2), UnitNow("a/c")
    assert units_of(actors(unknown, known)) == [known, unknown]
