"""Starts a calibration in processes of its own, so that `plan` loads no torch and its memory is its own."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from prism_ray.calibrate.figures import Calibration, Group
from prism_ray.errors import BY_NAME, PrismRayError
from prism_ray.machine import Machine, this_machine
from prism_ray.run import Asked, package_versions


def calibrate(
    asked: Asked,
    num_threads: int,
    num_processes: int,
    use_gpu: bool,
    is_assumed: bool,
    say: Callable[[str], None],
) -> Calibration:
    """Measure the steps of a run with `num_threads` on this machine.

    With `num_processes` above 1, others do the same beside it, as actors of one machine do, because cores
    share caches and memory. Raises the error of the process, and PrismRayError if it ends without an answer.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="prism-ray-calibrate-") as folder:
        index = ""
        if asked.index is not None:
            path = Path(folder) / "index.parquet"
            path.write_bytes(asked.index.to_parquet())
            index = str(path)
        config = asked.config
        request = {
            "config": config.model_dump(mode="json"),
            "facts": asdict(asked.facts),
            "is_assumed": is_assumed,
            "index": index,
            "num_threads": num_threads,
            "use_gpu": use_gpu,
            "trained": [teacher.name for teacher in config.teachers.pool if teacher.weights is None],
        }
        answer = _answer(json.dumps(request), num_processes, say)
    here = this_machine()
    return Calibration(
        machine=Machine(here.processor, here.num_cores, answer["device"]),
        versions=package_versions(),
        num_threads=num_threads,
        num_processes=num_processes,
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        took_seconds=round(time.monotonic() - started, 1),
        start_seconds=round(answer["start_seconds"], 2),
        groups={name: Group(**group) for name, group in answer["groups"].items()},
    )


def _answer(request: str, num_processes: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Return what the first of some equal processes answers; the others only keep their cores busy."""
    processes: list[subprocess.Popen[str]] = []
    try:
        for number in range(num_processes):
            errors = subprocess.PIPE if number == 0 else subprocess.DEVNULL
            output = subprocess.PIPE if number == 0 else subprocess.DEVNULL
            command = [sys.executable, "-m", "prism_ray.calibrate"]
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=output, stderr=errors, text=True
            )
            processes.append(process)
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(request)
            process.stdin.close()
        first = processes[0]
        assert first.stdout is not None
        assert first.stderr is not None
        last = _pass_on(first.stderr, say)
        lines = first.stdout.read().splitlines()
        code = first.wait()
    except OSError as error:
        raise PrismRayError(f"the calibration cannot be started: {error}") from None
    finally:
        for process in processes:
            process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
    try:
        answer = json.loads(lines[-1]) if code == 0 and lines else None
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        reason = last or f"the process ended with code {code}"
        raise PrismRayError(f"the calibration failed: {reason}")
    if "error" in answer:
        raise BY_NAME.get(answer["error"], PrismRayError)(answer["message"])
    return answer


def _pass_on(stream: IO[str], say: Callable[[str], None]) -> str:
    """Hand each line of a stream on until it ends; return the last one."""
    last = ""
    for line in stream:
        last = line.strip() or last
        say(line.rstrip())
    return last
