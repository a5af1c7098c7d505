"""The benchmark of scale, small: what it prints is true, and the driver does not grow."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCALE = Path(__file__).parents[1] / "benchmarks" / "scale.py"


def scale(*arguments: str) -> str:
    """Run the benchmark; return what it prints."""
    done = subprocess.run(
        [sys.executable, str(SCALE), *arguments], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_many_units_are_planned_done_and_found_again(tmp_path: Path) -> None:
    """A driver that keeps what it has done, or a store that cannot be resumed from its ledger."""
    out = scale("--units", "12000", "--actors", "4", "--store", str(tmp_path))
    assert "the store says 12,000 of 12,000" in out
    assert len(list((tmp_path / "ledger").iterdir())) == 3
    sizes = [int(number) for number in re.findall(r"driver (\d+) MB", out)]
    assert max(sizes) - sizes[10] < 15  # once the first file of the ledger is written
    again = scale("--units", "12000", "--actors", "4", "--store", str(tmp_path))
    assert "driver" not in again
    assert "the store says 12,000 of 12,000" in again


@pytest.mark.ray
def test_the_real_pool_does_the_same(tmp_path: Path) -> None:
    """A benchmark whose actors are no longer what the pool expects."""
    out = scale("--units", "1000", "--actors", "2", "--ray", "--store", str(tmp_path))
    assert "the store says 1,000 of 1,000" in out
