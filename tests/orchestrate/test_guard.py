"""A local Ray whose own processes are killed under a run."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.processes import descendants
from tests.stores import committed

pytestmark = [pytest.mark.ray, pytest.mark.timeout(280)]


@pytest.mark.parametrize("name", ["gcs_server", pytest.param("raylet", marks=pytest.mark.slow)])
def test_the_command_says_so_and_leaves_nothing_behind(
    name: str,
    start_cli: Callable[..., "subprocess.Popen[str]"],
    digits_config: Path,
    small_options: list[str],
    store_with_teachers: Path,
) -> None:
    """Catches a command that stands still for a minute and ends without a word, its actors still at work."""
    options = [*small_options, "--set", "recover.iterations=2000", "--store", store_with_teachers]
    before = len(committed(store_with_teachers))
    process = start_cli("distill", digits_config, *options)
    deadline = time.monotonic() + 200.0
    while len(committed(store_with_teachers)) == before:  # random-real's labels, while recover is at work
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    (victim,) = descendants(process.pid, name)
    victim.kill()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"error: Ray's {name} (process {victim.pid}) has ended" in err
    assert "Run the same command again" in err
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
