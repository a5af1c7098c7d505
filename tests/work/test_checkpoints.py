"""When the state of a unit is due, and that a stop keeps it."""

import os
from pathlib import Path

import pytest

from prism_ray.errors import UnitStopped
from prism_ray.store import StoreFiles
from prism_ray.work.checkpoints import Control, StoreCheckpoints


def checkpoints_in(folder: Path, interval_s: float, control: Control | None = None) -> StoreCheckpoints:
    files = StoreFiles(str(folder))
    return StoreCheckpoints(files, "recover/a/b", "identity", interval_s, control or Control())


def test_a_state_is_due_when_the_interval_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch an interval that starts with the first save only, or never starts again."""
    now = 100.0
    monkeypatch.setattr("prism_ray.work.checkpoints.time.monotonic", lambda: now)
    checkpoints = checkpoints_in(tmp_path, 5.0)
    now = 104.9
    assert not checkpoints.due()
    now = 105.0
    assert checkpoints.due()
    assert checkpoints.due()  # asking is not saving
    checkpoints.save(b"state")
    assert not checkpoints.due()
    now = 110.0
    assert checkpoints.due()


def test_the_last_state_is_found_by_the_next_attempt(tmp_path: Path) -> None:
    """Would catch states under another name, or the first one kept."""
    checkpoints = checkpoints_in(tmp_path, 5.0)
    assert checkpoints.load(100) is None
    checkpoints.save(b"first")
    checkpoints.save(b"second")
    again = checkpoints_in(tmp_path, 5.0)
    assert again.load(100) == b"second"
    again.delete()
    again.delete()  # another attempt may have been first
    assert checkpoints.load(100) is None


def test_what_is_too_large_for_a_state_is_not_read(tmp_path: Path) -> None:
    """Catches a file without end in wip/ that fills the memory of every attempt."""
    control = Control()
    checkpoints = checkpoints_in(tmp_path, 5.0, control)
    checkpoints.save(b"0123456789")
    os.truncate(tmp_path / "wip" / "recover" / "a" / "b.safetensors", 2**40)
    assert checkpoints.load(2**30) is None
    assert not control.relies_on_checkpoint
    checkpoints.save(b"0123456789")
    assert checkpoints.load(10) == b"0123456789"
    assert control.relies_on_checkpoint
    checkpoints.save(b"further")
    assert not control.relies_on_checkpoint


def test_a_stop_makes_a_state_due_keeps_it_and_ends_the_unit(tmp_path: Path) -> None:
    """Would catch a stop that loses the work since the last state."""
    control = Control()
    checkpoints = checkpoints_in(tmp_path, 1000.0, control)
    assert not checkpoints.due()
    control.stop.set()
    assert checkpoints.due()
    with pytest.raises(UnitStopped, match="recover/a/b"):
        checkpoints.save(b"state")
    assert checkpoints.load(100) == b"state"
    assert control.num_steps == 2


def test_a_checkpoint_that_cannot_be_stored_ends_nothing(tmp_path: Path) -> None:
    """Catches hours of work thrown away because the disk was full for the moment of one checkpoint."""
    control = Control()
    checkpoints = checkpoints_in(tmp_path, 0.0, control)
    checkpoints.save(b"first")
    control.relies_on_checkpoint = True
    folder = tmp_path / "wip" / "recover"
    folder.rename(tmp_path / "away")
    folder.write_bytes(b"no folder")
    checkpoints.save(b"second")
    assert control.problem is not None
    assert control.problem.startswith("recover/a/b continues without a new checkpoint: ")
    assert control.relies_on_checkpoint  # on the first one still
    control.stop.set()
    with pytest.raises(UnitStopped, match="its checkpoint could not be stored"):
        checkpoints.save(b"third")
    folder.unlink()
    (tmp_path / "away").rename(folder)
    assert checkpoints.load(100) == b"first"
    with pytest.raises(UnitStopped, match="its checkpoint is stored"):
        checkpoints.save(b"fourth")
    assert control.problem is None
    assert checkpoints.load(100) == b"fourth"
