"""What a run says of itself while it goes on."""

import io
from dataclasses import replace

from prism_ray.orchestrate.display import ProgressDisplay
from prism_ray.plan import Plan
from prism_ray.run import RunProgress
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


def play(stream: io.StringIO, interval: float) -> str:
    """Four batches, two of them done before; labels of which the first is begun while the last batch runs."""
    with ProgressDisplay(interval, stream) as display:
        display.expect(progress())
        display.began(RecoverUnit("distilled", "i00002-c00000", (), (), (), 0))
        display.done(commit("recover/distilled/i00002-c00000"))
        display.tick()
        display.began(RelabelUnit("distilled", 0, (), 0, 1, 0))
        display.failed(Failure("recover/x", "EngineError", "not finite\nmore", "tb", "host"), again=True)
        display.tick()
        display.done(commit("recover/distilled/i00003-c00000"))
    assert set(display.stage_seconds) == {"recover", "relabel"}
    return stream.getvalue()


def test_lines_are_key_value_pairs_without_a_terminal() -> None:
    """Catches bars in a log file, totals that start anew after a resume, and a failure that is not told."""
    lines = play(io.StringIO(), interval=0.0).splitlines()
    assert lines[0].startswith("stage=recover event=started done=2 total=4 failed=0 elapsed_s=")
    assert lines[1].startswith("stage=recover event=running done=3 total=4 failed=0")
    assert lines[2].startswith("stage=relabel event=started done=0 total=2 failed=0")
    assert lines[3] == "recover/x failed: EngineError: not finite; it will be tried again"
    assert lines[4].startswith("stage=recover event=running done=3 total=4 failed=1")
    assert lines[5].startswith("stage=relabel event=running done=0 total=2 failed=0")
    assert lines[6].startswith("stage=recover event=ended done=4 total=4 failed=1")


def test_lines_keep_their_interval() -> None:
    """Catches a line at every tick, which fills a job's log."""
    assert "event=running" not in play(io.StringIO(), interval=60.0)


def test_bars_on_a_terminal() -> None:
    """Catches key=value lines on a terminal, or bars that never reach their end."""
    text = play(Terminal(), interval=0.0)
    assert "4/4" in text
    assert "event=" not in text


def test_a_note_of_a_unit_is_told() -> None:
    """Catches a choice that a unit made, for example among the networks of a file, that nobody is told of."""
    stream = io.StringIO()
    with ProgressDisplay(0.0, stream) as display:
        display.expect(progress())
        display.began(RecoverUnit("distilled", "i00002-c00000", (), (), (), 0))
        noted = replace(commit("recover/distilled/i00002-c00000"), stats={"note": "takes 'model_ema'"})
        display.done(noted)
    assert "recover/distilled/i00002-c00000: takes 'model_ema'\n" in stream.getvalue()
