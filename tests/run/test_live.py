"""live.json: what a run is doing, for people."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from prism_ray.errors import StoreError
from prism_ray.run.live import ActorNow, Live, LiveWriter, StageNow, UnitNow, read_live
from prism_ray.store import Lease, StoreFiles, layout

LIVE = Live(
    seconds=12.5,
    stages=(StageNow("recover", 1, 4, 0, 12.0, 0.4, 30.0),),
    actors=(
        ActorNow("actor-1", "host", 7, "cpu", (UnitNow("recover/a/b", 5, 9, 0.5, {"ce": 2.0}),), ("t0",)),
    ),
    latest=("recover/a/a",),
)


def wait_for(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_a_reader_sees_what_the_driver_wrote_until_it_ends(files: StoreFiles) -> None:
    """Catches a state that is not readable again, or that stays behind when the driver has ended."""
    assert read_live(files) is None
    with Lease(files, 20.0, lambda text: None), LiveWriter(files, lambda: LIVE, every_s=0.05):
        wait_for(lambda: files.exists(layout.LIVE))
        assert read_live(files) == LIVE
    assert not files.exists(layout.LIVE)


def test_the_state_of_a_killed_driver_is_not_shown(tmp_path: Path) -> None:
    """Catches actors that seem to be at work for ever because their driver could not delete the file."""
    files = StoreFiles(str(tmp_path))
    files.replace(layout.LIVE, LIVE.to_json())
    assert read_live(files) == LIVE
    os.utime(tmp_path / layout.LIVE, (time.time() - 3600, time.time() - 3600))
    assert read_live(files) is None


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"seconds": "x"}', LIVE.to_json()[:-20]])
def test_a_damaged_file_is_none(data: bytes, files: StoreFiles) -> None:
    """Catches `status` that ends with an error because of a file that nothing depends on."""
    files.replace(layout.LIVE, data)
    assert read_live(files) is None


def test_a_store_that_cannot_be_written_ends_nothing(
    files: StoreFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a run that fails because its progress could not be written down."""
    tried = []

    def refuse(name: str, data: bytes) -> None:
        tried.append(name)
        raise StoreError("no space left")

    monkeypatch.setattr(files, "replace", refuse)
    with LiveWriter(files, lambda: LIVE, every_s=0.01):
        wait_for(lambda: len(tried) > 2)


def test_words_for_a_unit() -> None:
    """Catches a rate in place of a time, or an epoch that is shown as a loss."""
    unit = UnitNow("squeeze/a", 20, 100, 4.0, {"epoch": 1.0, "epochs": 5.0, "loss": 0.25})
    assert unit.describe() == "4 per s, epoch 1 of 5, loss 0.25"
    assert unit.share == 0.2
    assert unit.seconds_left == 20.0
    assert UnitNow("a/b").describe() == ""
    assert UnitNow("a/b").seconds_left is None


def test_a_point_of_a_sweep_shows_its_own_units(tmp_path: Path) -> None:
    """Catches a point at work that seems idle, or that shows the units of the others."""
    folder, point = StoreFiles(str(tmp_path)), StoreFiles(str(tmp_path / "bn=1"))
    theirs = ActorNow("actor-2", "host", 8, "cpu", (UnitNow("bn=10: recover/a/b"),))
    ours = ActorNow("actor-1", "host", 7, "cpu", (UnitNow("bn=1: recover/a/b", 1, 2),))
    folder.replace(layout.LIVE, replace(LIVE, actors=(ours, theirs)).to_json())
    assert read_live(point) is None  # no driver holds it
    with Lease(point, 20.0, lambda text: None):
        live = read_live(point)
    assert live is not None
    assert live.actors == (replace(ours, units=(UnitNow("recover/a/b", 1, 2),)),)
    assert live.stages == ()  # those of the folder count the units of all points
