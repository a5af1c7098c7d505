"""What a run says of itself while it goes on."""

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest

from prism_ray.errors import UsageError
from prism_ray.orchestrate.display import Level, Output, ProgressDisplay
from prism_ray.plan import Plan
from prism_ray.run import RunProgress
from prism_ray.run.live import ActorNow, UnitNow
from prism_ray.stages.recover import RecoverUnit
from prism_ray.stages.relabel import RelabelUnit
from prism_ray.store import Commit, Failure
from tests.plans import config_of, facts_of


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def commit(unit: str) -> Commit:
    return Commit(unit, "f", (), {}, 1.0, "host", "now")


def progress() -> RunProgress:
    """Four batches of which two are done, and two label units."""
    plan = Plan(config_of(image_sets={"distilled": {}}, relabel__epochs_per_unit=150), facts_of())
    found = RunProgress(plan, {})
    for unit_id in ("recover/distilled/i00000-c00000", "recover/distilled/i00001-c00000"):
        found.add(commit(unit_id))
    return found


NOW = (
    ActorNow(
        "actor-1",
        "host",
        1,
        "cpu",
        (UnitNow("recover/distilled/i00003-c00000", 150, 300, 4.0, {"ce": 1.25, "bn": 0.5}),),
    ),
    ActorNow("actor-2", "host", 2, "cpu", (UnitNow("relabel/distilled/g00000-e00000"),)),
)


def play(stream: io.StringIO, interval: float, output: Output | None = None) -> str:
    """Four batches, two of them done before; labels of which the first is begun while the last batch runs."""
    with ProgressDisplay(interval, stream, output) as display:
        display.expect(progress())
        display.began(RecoverUnit("distilled", "i00002-c00000", (), (), (), 0))
        display.done(commit("recover/distilled/i00002-c00000"))
        display.tick(lambda: NOW)
        display.began(RelabelUnit("distilled", 0, (), 0, 1, 0))
        display.failed(Failure("recover/x", "EngineError", "not finite\nmore", "tb", "host"), again=True)
        display.tick(lambda: NOW)
        display.done(commit("recover/distilled/i00003-c00000"))
    assert {stage.stage for stage in display.now().stages} == {"recover", "relabel"}
    return stream.getvalue()


def test_lines_are_key_value_pairs_without_a_terminal() -> None:
    """Catches bars in a log file, totals that start anew after a resume, and a failure that is not told."""
    lines = play(io.StringIO(), interval=0.0).splitlines()
    assert lines[0].startswith("stage=recover event=started done=2 total=4 failed=0 elapsed_s=")
    assert lines[1].startswith("stage=recover event=running done=3 total=4 failed=0")
    at_work = "unit='recover/distilled/i00003-c00000' actor=actor-1 done=150 of=300 per_s=4 ce=1.25 bn=0.5"
    assert lines[2:4] == [at_work, "unit='relabel/distilled/g00000-e00000' actor=actor-2"]
    assert lines[4].startswith("stage=relabel event=started done=0 total=2 failed=0")
    assert lines[5] == "recover/x failed: EngineError: not finite; it will be tried again"
    assert lines[6].startswith("stage=recover event=running done=3 total=4 failed=1")
    assert lines[7].startswith("stage=relabel event=running done=0 total=2 failed=0")
    assert lines[10].startswith("stage=recover event=ended done=4 total=4 failed=1")


def test_lines_keep_their_interval() -> None:
    """Catches a line at every tick, which fills a job's log."""
    assert "event=running" not in play(io.StringIO(), interval=60.0)


def test_bars_on_a_terminal() -> None:
    """Catches key=value lines on a terminal, or bars that never reach their end."""
    text = play(Terminal(), interval=0.0)
    assert "4/4" in text
    assert "event=" not in text
    assert "150/300" in text  # the unit at work has a bar
    assert "4 per s, cross-entr" in text


def test_the_state_of_a_call_is_what_was_shown() -> None:
    """Catches a live.json that lacks running units, or counts only whole units."""
    with ProgressDisplay(0.0, io.StringIO()) as display:
        display.expect(progress())
        display.began(RecoverUnit("distilled", "i00002-c00000", (), (), (), 0))
        display.done(commit("recover/distilled/i00002-c00000"))
        display.tick(lambda: NOW)
        live = display.now()
    (stage,) = live.stages
    assert (stage.num_done, stage.num_units, stage.share) == (3, 4, 0.875)
    assert live.actors == NOW
    assert live.latest == ("recover/distilled/i00002-c00000",)


def said(level: Level, stream: io.StringIO, log: Path) -> tuple[str, list[str]]:
    """Play a run; return what was shown and the lines of the log file without their times."""
    play(stream, 0.0, Output(level, log))
    lines = log.read_text().splitlines()
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ .+", line) for line in lines)
    return stream.getvalue(), [line.partition(" ")[2] for line in lines]


def test_quiet_says_only_what_fails(tmp_path: Path) -> None:
    """Catches --quiet that hides a failure, or a log file that is as quiet as the terminal."""
    for stream in (io.StringIO(), Terminal()):
        shown, logged = said("quiet", stream, tmp_path / f"{type(stream).__name__}.log")
        assert shown == "recover/x failed: EngineError: not finite; it will be tried again\n"
        assert sum(line.startswith("stage=recover event=running") for line in logged) == 2
        assert "unit='recover/distilled/i00003-c00000' event=done seconds=1.0 host=host" in logged


def test_verbose_names_each_unit(tmp_path: Path) -> None:
    """Catches --verbose that says no more than usual, and bars that keep lines out of the log file."""
    for stream in (io.StringIO(), Terminal()):
        shown, logged = said("verbose", stream, tmp_path / f"{type(stream).__name__}.log")
        assert "unit='recover/distilled/i00002-c00000' event=begun" in shown
        assert "unit='recover/distilled/i00003-c00000' event=done seconds=1.0 host=host" in shown
        assert any(line.startswith("stage=relabel event=started") for line in logged)
        assert sum("event=done" in line for line in logged) == 2


def test_a_log_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """Catches a traceback, or a run that goes on without the log that was asked for."""
    with pytest.raises(UsageError, match=r"--log-file .*nowhere/run\.log: there is no folder "):
        ProgressDisplay(1.0, output=Output(log_file=tmp_path / "nowhere" / "run.log"))


def test_a_note_of_a_unit_is_told() -> None:
    """Catches a choice that a unit made, for example among the networks of a file, that nobody is told of."""
    stream = io.StringIO()
    with ProgressDisplay(0.0, stream) as display:
        display.expect(progress())
        display.began(RecoverUnit("distilled", "i00002-c00000", (), (), (), 0))
        noted = replace(commit("recover/distilled/i00002-c00000"), stats={"note": "takes 'model_ema'"})
        display.done(noted)
    assert "recover/distilled/i00002-c00000: takes 'model_ema'\n" in stream.getvalue()


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_time_that_the_whole_run_takes_is_told(is_terminal: bool) -> None:
    """Catches a run of two days that says when a stage ends, and not when it does."""
    stream = Terminal() if is_terminal else io.StringIO()
    with ProgressDisplay(0.0, stream) as display:
        display.expect(progress())
        display.estimate_by(lambda actors: 5400.0 if actors else None)
        display.began(RecoverUnit("distilled", "i00002-c00000", (), (), (), 0))
        display.tick(lambda: NOW)
        assert display.now().seconds_left == 5400.0
    told = stream.getvalue()
    assert ("whole run" if is_terminal else "run event=running elapsed_s=0.0 eta_s=5400") in told
