"""`ray job submit -- prism-ray distill ...` against a real local head."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.ports import free_ports
from tests.stores import committed, parts

pytestmark = [pytest.mark.ray, pytest.mark.timeout(280)]


@dataclass(frozen=True)
class Head:
    """A head node of ours: where jobs are submitted, and with which environment."""

    url: str
    environment: dict[str, str]


@pytest.fixture
def head(environment: dict[str, str], tmp_path: Path) -> Iterator[Head]:
    """`ray start --head --block` with a token in a temporary file; ended with its process group."""
    token = tmp_path / "token"
    token.write_text("0123456789abcdef" * 4)
    environment = environment | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    ray = str(Path(sys.executable).parent / "ray")
    port, dashboard, agent, client = free_ports(4)
    log = (tmp_path / "head.log").open("w")
    folder = tempfile.mkdtemp(prefix="ray-")  # short, because Ray's socket paths must be
    process = subprocess.Popen(
        [
            ray, "start", "--head", "--block", "--disable-usage-stats", "--num-cpus=2",
            f"--port={port}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}",
            f"--dashboard-agent-listen-port={agent}", "--object-store-memory=100000000",
            f"--temp-dir={folder}",
        ],
        env=environment,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )  # fmt: skip
    head = Head(f"http://127.0.0.1:{dashboard}", environment)
    try:
        deadline = time.monotonic() + 60.0
        while submit(head, "--", "true").returncode != 0:
            assert time.monotonic() < deadline, (tmp_path / "head.log").read_text()
            time.sleep(1.0)
        yield head
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=60)
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


def submit(head: Head, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return ray_job(head, "submit", *arguments)


def ray_job(head: Head, command: str, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    ray = str(Path(sys.executable).parent / "ray")
    return subprocess.run(
        [ray, "job", command, "--address", head.url, *map(str, arguments)],
        env=head.environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def ready_to_stop(head: Head, submission_id: str) -> "subprocess.Popen[str]":
    """Start `ray job stop`, which waits for a line: its imports take as long as the whole of a small run."""
    program = (
        "import sys; from ray.scripts.scripts import main; "
        "print('ready', flush=True); sys.stdin.readline(); main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, "job", "stop", "--address", head.url, submission_id],
        env=head.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_job_is_stopped_goes_on_and_refuses_relative_paths(
    head: Head, digits_config: Path, small_options: list[str], calm: Path, tmp_path: Path
) -> None:
    """Catches a job that cannot join its cluster, one whose end loses or changes anything, one that does not
    say how to go on, and a store that would vanish with the job's folder."""
    program = Path(sys.executable).parent / "prism-ray"
    entrypoint = [program, "distill", digits_config, *small_options]

    refused = submit(head, "--", *entrypoint, "--store", "runs/digits")
    assert refused.returncode == 1
    assert re.search(r"store = 'runs/digits' is relative", refused.stdout + refused.stderr)

    store = tmp_path / "run"
    job = ("--submission-id", "first")
    begun = submit(head, "--no-wait", *job, "--", *entrypoint, "--store", store)
    assert begun.returncode == 0, begun.stdout + begun.stderr
    stop = ready_to_stop(head, "first")
    deadline = time.monotonic() + 120.0
    while not committed(store):
        assert time.monotonic() < deadline, ray_job(head, "logs", "first").stdout
        time.sleep(0.1)
    out, err = stop.communicate("now\n", timeout=200)
    assert stop.returncode == 0, out + err
    log = ray_job(head, "logs", "first").stdout
    assert "interrupted; all finished work is kept. Resume with the same command:\n  prism-ray distill" in log
    assert f"--store {store}" in log
    assert "Traceback" not in log
    assert 0 < len(committed(store)) <= len(committed(calm))  # all of them, if `ray job stop` is slow

    done = submit(head, "--", *entrypoint, "--store", store)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "distilled + soft labels" in done.stdout
    assert "stage=evaluate event=ended" in done.stdout
    assert committed(store) == committed(calm)
    assert parts(store) == parts(calm)

    again = submit(head, "--", *entrypoint, "--store", store)
    assert again.returncode == 0
    assert "Nothing to do" in again.stdout
