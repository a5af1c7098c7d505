"""All that must be known of a card, in 8 minutes and one JSON: python benchmarks/gpu.py [--out gpu.json]

No Ray and no download: the weights are random. The checks of correctness.py come first, then the GPU rows of
docs/benchmarks.md. A check that fails hides no other. Exit code 1: a check failed. 2: there is no card.
"""

import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

# cuBLAS reads this when it starts; without it, matrix products on CUDA are not reproducible.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import click
import torch
from correctness import CHECKS, Place, describe_error
from measure import NotHere, describe, machine, pair
from pictures import Pictures
from plain_loop import Contest, peak_of, plain_float32
from relabel import Relabelling
from relabel import measure as measure_relabel
from roofline import roofline_of
from setups import PRECISIONS, Job
from student import Studying
from student import measure as measure_student

from prism_ray.device import let_go

_ROUNDS = 7
_LIMIT_S = 480.0


@dataclass
class Report:
    """What was found so far, and what there is still time for."""

    place: Place
    limit_s: float
    out: Path
    only: tuple[str, ...] = ()  # names of what is run; none: all
    started: float = field(default_factory=time.monotonic)
    found: list[dict[str, Any]] = field(default_factory=list)

    def run(self, name: str, work: Callable[[], dict[str, Any]]) -> None:
        """Do a piece of work and print a line on it; its errors are part of the report."""
        if self.only and name not in self.only:
            return
        began = time.monotonic()
        entry: dict[str, Any] = {"name": name, "status": "ok"}
        if began - self.started > self.limit_s:
            entry |= {"status": "no time"}
        else:
            try:
                entry |= {"values": work()}
            except NotHere as error:
                entry |= {"status": "not here", "error": str(error)}
            except Exception as error:
                entry |= {"status": "failed", "error": describe_error(error)}
                let_go(error)
        entry["seconds"] = round(time.monotonic() - began, 1)
        self.found.append(entry)
        self._write()  # at once: a crash of the process hides nothing before it
        text = json.dumps(entry.get("values", entry.get("error", "")), default=str)
        click.echo(f"{entry['status']:>8} {entry['seconds']:6.1f} s  {name}: {text}")

    @property
    def failed(self) -> list[str]:
        return [entry["name"] for entry in self.found if entry["status"] == "failed"]

    def _write(self) -> None:
        whole = {"machine": machine(self.place.device), "failed": self.failed, "checks": self.found}
        self.out.write_text(json.dumps(whole, indent=1, default=str) + "\n")


def recover_row(job: Job, iterations: int, warmup: int, rounds: int) -> dict[str, Any]:
    """A recover step against the plain loop in float32; on a card also the share of its roofline."""
    contest = Contest.of(job, iterations, warmup)
    pairs = pair(contest.ours, contest.theirs, rounds)
    found = pairs.to_dict() | {"images": job.batch, "size": job.size, "archs": job.archs}
    if job.device.type == "cuda":
        found |= roofline_of(job, contest.plain.networks, pairs.seconds[0])
        with plain_float32(allow_tf32=True):  # as torch is if nobody says otherwise
            found["plain_with_tf32_convolutions_s"] = contest.plain_seconds().wall
    return found


def memory_row(job: Job) -> dict[str, Any]:
    """The peak memory of an image in a step, by way."""
    peaks = {way: peak_of(way, job) / job.batch for way in ("plain", "engine", "recompute")}
    shares = {f"{way}_share": peak / max(peaks["plain"], 1.0) for way, peak in peaks.items()}
    return {f"{way}_bytes": round(peak) for way, peak in peaks.items()} | shares


def relabel_row(place: Place, rounds: int, precision: str = "fp32") -> dict[str, Any]:
    """Views a second against the plain pipeline, and the share of the bare forward passes."""
    images, batch, epochs, classes = (8, 8, 1, 10) if place.tiny else (1024, 256, 4, 1000)
    workers = 0 if place.tiny else min(8, os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as folder:
        pictures = Pictures(images, place.size, classes, Path(folder), place.device, workers, epochs)
        plain, bare = measure_relabel(Relabelling.of(place.archs, pictures, batch, precision), rounds)
    return {"plain": plain.to_dict(), "bare": bare.to_dict(), "loader_processes": workers}


def student_row(place: Place, rounds: int, precision: str = "fp32") -> dict[str, Any]:
    """Training against a plain DataLoader; the ratio of `input` is its share of a step."""
    images, batch, epochs, classes = (8, 4, 1, 10) if place.tiny else (1000, 50, 2, 1000)
    workers = 0 if place.tiny else min(8, os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as folder:
        pictures = Pictures(images, place.size, classes, Path(folder), place.device, workers, epochs)
        plain, own_input = measure_student(Studying.of(place.archs[0], pictures, batch, precision), rounds)
    return {"plain": plain.to_dict(), "input": own_input.to_dict(), "loader_processes": workers}


def run_rows(report: Report, rounds: int, iterations: int, warmup: int) -> None:
    """Measure the rows of docs/benchmarks.md, the most important ones first."""
    place = report.place
    for precision in reversed(PRECISIONS):
        job = replace(place.job(precision=precision), values={})
        report.run(f"recover, {precision}", partial(recover_row, job, iterations, warmup, rounds))
    for name, row in (("relabel", relabel_row), ("student", student_row)):
        report.run(name, partial(row, place, rounds))
        report.run(f"{name}, bf16", partial(row, place, rounds, "bf16"))
    for precision in PRECISIONS:
        report.run(f"memory, {precision}", partial(memory_row, place.job(precision=precision)))


@click.command(help=(__doc__ or "").partition("\n")[0])
@click.option("--device", help="cuda, cuda:1, cpu; default: cuda.")
@click.option("--tiny", is_flag=True, help="Tiny networks and images: whether the script itself works.")
@click.option("--rounds", default=_ROUNDS, show_default=True, help="Paired measurements of each row.")
@click.option("--limit", default=_LIMIT_S, show_default=True, help="Seconds after which nothing more begins.")
@click.option("--only", default="", help="Names of checks, with a comma and no space between two of them.")
@click.option("--out", default="gpu.json", show_default=True, type=click.Path(dir_okay=False, path_type=Path))
def main(device: str | None, tiny: bool, rounds: int, limit: float, only: str, out: Path) -> None:
    if device is None and not torch.cuda.is_available():
        click.echo("no CUDA device here; try the script itself with --device cpu --tiny", err=True)
        sys.exit(2)
    torch.backends.cudnn.benchmark = False  # as in an actor
    device = device or "cuda"
    if tiny:
        place = Place(torch.device(device), ("timm:test_resnet", "timm:test_byobnet"), 4, 32, True, 30.0)
        iterations, warmup = 2, 1
    else:
        archs = ("torchvision:resnet18", "torchvision:mobilenet_v2")
        place = Place(torch.device(device), archs, 100, 224, False, 120.0)
        iterations, warmup = 15, 10
    click.echo(describe(place.device))
    report = Report(place, limit, out, tuple(filter(None, re.split(r",(?! )", only))))
    for name, check in CHECKS.items():
        report.run(name, partial(check, place))
    run_rows(report, rounds, iterations, warmup)
    click.echo(f"{out} has all of it, {time.monotonic() - report.started:.0f} s")
    if report.failed:
        sys.exit(f"failed: {', '.join(report.failed)}")


if __name__ == "__main__":
    main()
