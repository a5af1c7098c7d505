"""Killed at any moment and started again: the run ends with the very bytes of an undisturbed one."""

import json
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.ray

Start = Callable[..., "subprocess.Popen[str]"]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def committed(store: Path) -> dict[str, list[tuple[str, str]]]:
    """Unit -> (name, SHA-256) of the files that its commit names."""
    found = {}
    for path in (store / "commits").rglob("*.json"):
        commit = json.loads(path.read_text())
        found[commit["unit"]] = [(part["name"], part["sha256"]) for part in commit["files"]]
    return found


def parts(store: Path) -> dict[str, bytes]:
    """Every Parquet and weights file of a store, committed or not, by name."""
    names = [path for suffix in ("*.parquet", "*.safetensors") for path in store.rglob(suffix)]
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in names}


def disturb(start: Start, arguments: list[str | Path], store: Path, moments: list[float]) -> int:
    """Start the command and kill it after each moment (seconds); return how often it was killed at work."""
    num_kills = 0
    for moment in moments:
        process = start(*arguments, "--store", store)
        try:
            process.communicate(timeout=moment)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=30)
            num_kills += 1
    return num_kills


def check_equal_after_kills(
    start_cli: Start, cli: Run, arguments: list[str | Path], tmp_path: Path, num_kills: int, longest: float
) -> None:
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    result = cli(*arguments, "--store", calm)
    assert result.returncode == 0, result.stderr
    rng = random.Random(20261123)
    moments = [rng.uniform(1.0, longest) for _ in range(num_kills)]
    assert disturb(start_cli, arguments, rough, moments) > 0
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
    tmp_path: Path,
) -> None:
    """Catches work done twice or lost, half a part that counts, and any draw that depends on history."""
    arguments: list[str | Path] = ["distill", digits_config, *small_options]
    check_equal_after_kills(start_cli, cli, arguments, tmp_path, num_kills=3, longest=18.0)
    store = tmp_path / "rough"

    started = time.monotonic()
    again = cli(*arguments, "--store", store)
    assert again.returncode == 0
    assert "Nothing to do" in again.stdout
    assert time.monotonic() - started < 5.0

    status = cli("status", store)
    assert status.returncode == 0
    next((store / "commits" / "evaluate").rglob("*.json")).unlink()
    assert cli("status", store).returncode == 3


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_digits_job_resumes_byte_identically(
    start_cli: Start, cli: Run, digits_config: Path, tmp_path: Path
) -> None:
    """Catches the same on the main job itself, with more kills."""
    check_equal_after_kills(start_cli, cli, ["distill", digits_config], tmp_path, num_kills=12, longest=60.0)


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
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "prism-ray distill" in err
    assert list(store.glob("commits/squeeze/*.json"))
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive
