"""A run while it is at work, as `status` shows it."""

import io
from collections.abc import Callable

import pytest

import prism_ray.analyze.watch as room
from prism_ray.analyze.watch import live_lines, watch
from prism_ray.cli.terminal import _Console
from prism_ray.run import Run, read_progress, save_run
from prism_ray.run.live import ActorNow, Live, StageNow, UnitNow
from prism_ray.store import Failure, Lease, StoreFiles, layout, record_failure

UNIT = UnitNow("recover/distilled/i00000-c00000", 30, 300, 2.0, {"ce": 1.5})
LIVE = Live(
    60.0,
    (StageNow("recover", 1, 8, 0, 60.0, 0.2, 240.0),),
    (ActorNow("actor-1", "h", 1, "cpu", (UNIT,)), ActorNow("actor-2", "h", 2, "cpu")),
    ("recover/distilled/i00001-c00000",),
    600.0,
)


def test_the_time_left_and_a_line_for_each_actor() -> None:
    """Catches an actor without a line, a unit that does not say how far it is, and a stage without an end."""
    assert list(live_lines(LIVE)) == [
        "recover: 20%, about 4 min left",
        "whole run: about 10 min left",
        "actor-1 on h (cpu): recover/distilled/i00000-c00000 30 of 300, 2 per s, cross-entropy 1.5, "
        "about 2 min left",
        "actor-2 on h (cpu): idle",
    ]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_screen_ends_with_the_driver(
    width: int, files: StoreFiles, make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a screen that outlives its run, lines wider than the terminal, and markup from a store."""
    run = make_run()
    save_run(files, run)
    record_failure(files, Failure("recover/x", "EngineError", "[red]not finite[/red]\nmore", "tb", "h"))
    lease = Lease(files, 20.0, lambda text: None)
    lease.__enter__()
    frames = []

    def sleep(seconds: float) -> None:
        frames.append(stream.getvalue())
        if len(frames) == 1:
            files.replace(layout.LIVE, LIVE.to_json())
        else:
            lease.__exit__()

    monkeypatch.setattr(room, "_sleep", sleep)
    stream = io.StringIO()
    console = _Console(file=stream, width=width, force_terminal=True, color_system=None)
    watch(files, read_progress(files, run), console)
    assert len(frames) == 2
    assert "has not said yet" in frames[0].replace("\n", " ")
    shown = frames[1][len(frames[0]) :]
    assert "10%" in shown
    assert "is at work (last heartbeat" in shown.replace("\n", "")
    assert "1 of 8" in shown
    assert "10 min" in shown
    assert "[red]not" in shown or width == 40
    assert max(len(line.rpartition("\x1b[2K")[2]) for line in shown.splitlines()) <= width
