"""SIGTERM, SIGHUP and Ctrl-C: nothing more is begun, what runs keeps its state, and the command ends soon."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.stores import committed, parts

pytestmark = pytest.mark.ray

Start = Callable[..., "subprocess.Popen[str]"]
Run = Callable[..., "subprocess.CompletedProcess[str]"]

# Two batches, one after the other, of some seconds each.
LONG = (
    "recover.iterations=600",
    "recover.iterations_step=0",
    "recover.ipc=2",
    "recover.ipc_indices_per_batch=1",
    "orchestrate.checkpoint_interval_s=0.2",
    "relabel.images_per_group=10",
)


def wait_until(
    condition: Callable[[], object], process: "subprocess.Popen[str]", timeout: float = 90.0
) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)


def states(store: Path) -> list[Path]:
    return list((store / "wip" / "recover").rglob("*.safetensors"))


@pytest.mark.timeout(500)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_batch_that_is_cut_off_goes_on_to_the_same_bytes(
    number: signal.Signals,
    start_cli: Start,
    cli: Run,
    digits_config: Path,
    small_options: list[str],
    store_with_teachers: Path,
    tmp_path: Path,
) -> None:
    """Catches hours of a batch lost at every preemption, a stop that takes too long, and Ray left behind."""
    options = [*small_options, *(word for override in LONG for word in ("--set", override))]
    calm, rough = store_with_teachers, tmp_path / "rough"
    shutil.copytree(calm, rough)
    if number == signal.SIGTERM:
        result = cli("distill", digits_config, *options, "--store", calm)
        assert result.returncode == 0, result.stderr
    process = start_cli("distill", digits_config, *options, "--store", rough)
    wait_until(lambda: states(rough), process)
    children = psutil.Process(process.pid).children(recursive=True)
    stopped_at = time.time()
    process.send_signal(number)
    for child in children if number == signal.SIGHUP else ():  # a closed terminal tells all of them
        child.send_signal(number)
    _, err = process.communicate(timeout=90)
    # A Ray job has 3 s, of which 2.5 are needed on an idle machine; here other tests run beside it.
    assert time.time() - stopped_at < 30.0
    assert process.returncode == (129 if number == signal.SIGHUP else 130)
    assert "prism-ray distill" in err
    (state,) = states(rough)
    assert state.stat().st_mtime > stopped_at  # not the one of a moment before
    assert not list(rough.glob("failures/**/*.json"))
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive

    if number == signal.SIGTERM:
        result = cli("distill", digits_config, *options, "--store", rough)
        assert result.returncode == 0, result.stderr
        assert committed(rough) == committed(calm)
        assert parts(rough) == parts(calm)
        assert not state.exists()
        commits = [json.loads(path.read_text()) for path in rough.glob("commits/recover/distilled/*.json")]
        assert [0 < commit["stats"]["resumed_at"] < 600 for commit in commits].count(True) == 1


@pytest.mark.timeout(120)
def test_sigterm_while_ray_starts(
    start_cli: Start, digits_config: Path, small_options: list[str], tmp_path: Path
) -> None:
    """Catches Ray's own answer to SIGTERM, which ends the command with code 15 and without a word."""
    process = start_cli("distill", digits_config, *small_options, "--store", tmp_path / "run")
    assert process.stdout is not None
    assert "starting Ray" in process.stdout.readline()
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=90)
    assert process.returncode == 130
    assert "prism-ray distill" in err
