"""Killed at any moment and started again: the run ends with the very bytes of an undisturbed one."""

import random
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.effort import TELL_IMPORTS, imports_told
from tests.stores import committed, parts

pytestmark = pytest.mark.ray

Start = Callable[..., "subprocess.Popen[str]"]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def disturb(
    start: Start, arguments: list[str | Path], store: Path, num_kills: int, num_units: int, rng: random.Random
) -> None:
    """Start the command and kill it, again and again: at a random moment after a random number of commits."""
    killed = 0
    for number in range(num_kills):
        num_done = len(committed(store))
        if num_done == num_units:
            break
        after = num_done if number == 0 else rng.randrange(num_done, num_units)
        process = start(*arguments, "--store", store)
        deadline = time.monotonic() + 150.0
        while len(committed(store)) < after and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(rng.uniform(0.0, 1.5))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=90)
        killed += process.returncode == -signal.SIGKILL  # near its end it may have been too quick
    assert killed >= 2


def check_equal_after_kills(
    start_cli: Start, cli: Run, arguments: list[str | Path], calm: Path, rough: Path, num_kills: int
) -> None:
    disturb(start_cli, arguments, rough, num_kills, len(committed(calm)), random.Random(20261123))
    result = cli(*arguments, "--store", rough)
    assert result.returncode == 0, result.stderr
    assert committed(rough) == committed(calm)
    assert parts(rough) == parts(calm)
    assert not list((rough / "failures").rglob("*.json"))


@pytest.mark.timeout(300)
def test_killed_driver_resumes_byte_identically(
    start_cli: Start,
    cli: Run,
    digits_config: Path,
    small_options: list[str],
    calm: Path,
    tmp_path: Path,
) -> None:
    """Catches work done twice or lost, half a part that counts, and any draw that depends on history."""
    two = ["--set", "orchestrate.actors=2"]
    arguments: list[str | Path] = ["distill", digits_config, *small_options, *two]
    store = tmp_path / "rough"
    check_equal_after_kills(start_cli, cli, arguments, calm, store, num_kills=4)

    again = cli(*arguments, "--store", store, **TELL_IMPORTS)
    assert again.returncode == 0
    assert "Nothing to do" in again.stdout
    assert not imports_told(again.stderr) & {"torch", "ray"}

    (store / "plan.json").unlink()
    assert "plan.json is missing" in cli("status", store).stderr
    assert cli(*arguments, "--store", store).returncode == 0
    status = cli("status", store)
    assert status.returncode == 0
    next((store / "commits" / "evaluate").rglob("*.json")).unlink()
    assert cli("status", store).returncode == 3


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_digits_job_resumes_byte_identically(
    start_cli: Start, cli: Run, digits_config: Path, tmp_path: Path
) -> None:
    """Catches the same on the whole job, with more kills."""
    arguments: list[str | Path] = ["distill", digits_config]
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    result = cli(*arguments, "--store", calm)
    assert result.returncode == 0, result.stderr
    found = re.search(r"^Teachers +(\d+) loaded, (\d+) times found", result.stdout, re.MULTILINE)
    assert found is not None
    assert int(found[2]) > int(found[1]) >= 2
    check_equal_after_kills(start_cli, cli, arguments, calm, rough, num_kills=12)


@pytest.mark.timeout(120)
def test_interrupt_keeps_the_work_and_ends_ray(
    start_cli: Start, digits_config: Path, small_options: list[str], tmp_path: Path
) -> None:
    """Catches a Ctrl-C that leaves Ray running, loses commits, or does not say how to go on."""
    store = tmp_path / "run"
    process = start_cli("distill", digits_config, *small_options, "--store", store)
    deadline = time.monotonic() + 90.0
    while not list(store.glob("commits/squeeze/*.json")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.1)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=90)
    assert process.returncode == 130
    assert "prism-ray distill" in err
    assert list(store.glob("commits/squeeze/*.json"))
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
