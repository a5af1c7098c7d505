"""The benchmarks, small: they run, and what they compare is the same work."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TINY = ["--size", "32", "--rounds", "1", "--threads", "1"]


def run(name: str, *arguments: str, code: int = 0, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a benchmark; it must end with `code`."""
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / name), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What gpu.py finds on the CPU with tiny networks, by the name of the check."""
    out = tmp_path_factory.mktemp("gpu") / "gpu.json"
    run("gpu.py", "--device", "cpu", "--tiny", "--rounds", "1", "--limit", "250", "--out", str(out))
    whole = json.loads(out.read_text())
    assert whole["failed"] == []
    return {check["name"]: check for check in whole["checks"]}


def test_every_check_of_the_card_runs(report: dict[str, dict[str, Any]]) -> None:
    """Catches a script that has to be mended first on the day on which there is a card."""
    assert {name: check["status"] for name, check in report.items() if check["status"] != "ok"} == {
        "no synchronisation in the loop": "not here"
    }
    assert report["out of memory"]["values"] == {"checkpointing": [False, True], "same": True}
    assert set(report["a digits job in one process"]["values"]["accuracy"]) >= {
        "evaluate/prism/student",
        "evaluate/random-real/hard-labels",
    }
    for row in ("recover, fp32", "relabel", "student", "relabel, bf16", "student, bf16", "memory, fp32"):
        assert report[row]["values"]


def test_a_failure_hides_nothing_and_ends_with_1(tmp_path: Path) -> None:
    """Catches a first error on the card that costs all that comes after it, or that goes unnoticed."""
    (tmp_path / "sitecustomize.py").write_text("import prism_ray.relabel.ensemble as e\ne.combine = None\n")
    out = tmp_path / "gpu.json"
    arguments = ["--device", "cpu", "--tiny", "--rounds", "1", "--only", "relabel,memory, fp32"]
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", ""), str(BENCHMARKS.parent)])
    done = run("gpu.py", *arguments, "--out", str(out), code=1, PYTHONPATH=path)
    assert "failed: relabel" in done.stderr
    found = {check["name"]: check for check in json.loads(out.read_text())["checks"]}
    assert found["relabel"]["status"] == "failed"
    assert "TypeError" in found["relabel"]["error"]
    assert found["memory, fp32"]["status"] == "ok"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_without_a_card_it_says_so() -> None:
    """Catches minutes of work on a CPU that somebody takes for a card, or a traceback."""
    done = run("gpu.py", code=2)
    assert done.stderr.count("\n") == 1
    assert "no CUDA device" in done.stderr


def test_the_plain_loop_computes_what_the_engine_does() -> None:
    """Catches a comparison with a loop that does less: the loss, gradient and pixels must be the same."""
    archs = ["--arch", "timm:test_resnet", "--teachers", "timm:test_byobnet"]
    done = run("plain_loop.py", *TINY, *archs, "--batch", "4", "--iterations", "1", "--no-memory")
    line = next(line for line in done.stdout.splitlines() if line.startswith("float64"))
    values = [float(word.rstrip(",")) for word in line.split() if word[0].isdigit()]
    assert len(values) == 3
    assert max(values) < 1e-9
    assert "ratio" in done.stdout


@pytest.mark.slow  # gpu.py above measures with the same classes
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("relabel.py", ["--images", "8", "--batch", "4", "--classes", "10", "--archs", "timm:test_resnet"]),
        ("student.py", ["--images", "8", "--batch", "4", "--classes", "10", "--arch", "timm:test_resnet"]),
    ],
)
def test_a_pipeline_over_png_files_runs(name: str, arguments: list[str]) -> None:
    """Catches a benchmark that no longer fits what it measures."""
    assert "rounds" in run(name, *TINY, *arguments).stdout


def test_a_law_is_that_of_the_medians(tmp_path: Path) -> None:
    """Catches a picture with a law that its points do not follow, or one that hides where it breaks."""
    results = tmp_path / "growth.json"
    batch = [{"x": x, "values": [9.0, (2 + 3 * x) / 1e3 if x > 1 else 7.0, 0.0]} for x in (1, 2, 4, 8)]
    size = [{"x": x, "values": [x**2 / (2 if x == 128 else 1)]} for x in (32, 64, 128, 256, 512)]
    series = [
        {"name": "batch, cpu", "unit": "s", "points": batch},
        {"name": "size, cpu", "unit": "s", "points": size},
    ]
    how = {"command": "growth.py step", "device": "x", "cores": 2, "load": 0.0, "date": "2026-11-27"}
    results.write_text(json.dumps({"step": {"how": how, "series": series}}))
    lines = run("growth.py", "--results", str(results), "plot", "--to", str(tmp_path)).stdout.splitlines()
    assert "CPU: 2 + 3 B; from 2: at most 0 %" in lines[1]
    assert "s²" in lines[2]
    assert lines[2].endswith("above the median (at 128)")
    assert (tmp_path / "growth-step.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("family", "arguments"),
    [
        (
            "step",
            "--arch timm:test_resnet --batches 1,2,3,4 --sizes 32 --teachers 1 --iterations 1 --threads 1",
        ),
        pytest.param("actors", "--of-threads 1,2,3 --of-ray 1,2 --units 30", marks=pytest.mark.slow),
        pytest.param("classes", "--classes 10,20,30 --images 64 --threads 1", marks=pytest.mark.slow),
    ],
)
def test_growth_is_measured_and_drawn(tmp_path: Path, family: str, arguments: str) -> None:
    """Catches a family of costs that cannot be measured any more, or that has no picture."""
    results = ("--results", str(tmp_path / "growth.json"))
    run("growth.py", *results, family, *arguments.split(), "--rounds", "1")
    assert "at most" in run("growth.py", *results, "plot", "--to", str(tmp_path)).stdout
    assert (tmp_path / f"growth-{family}.png").exists()


@pytest.mark.ray
@pytest.mark.slow  # five local Rays, one after the other
def test_a_rehearsal_goes_through_all_stages_and_commands(tmp_path: Path) -> None:
    """Catches a rehearsal that sees nothing of its actors, or whose steps no longer fit the commands."""
    arguments = ["--classes", "20", "--ipc", "3", "--epochs", "2", "--size", "32", "--folder", str(tmp_path)]
    run("rehearsal.py", *arguments, "--steps", "13")  # the smaller point
    file = tmp_path / "figures.json"
    small = json.loads(file.read_text())["small"]
    for stage in ("recover", "relabel", "measure", "evaluate"):
        took = small[stage]
        assert took["cpu"][f"{stage}/networks"] > 0.0
        assert took["busy_s"] < took["wall_s"]
        assert took["actor_bytes"] > took["driver_bytes"] > 50 * 2**20
    file.write_text(json.dumps({"small": small, "whole": small}))
    out = run("rehearsal.py", *arguments).stdout  # nothing is missing: it only prints
    assert "-- evaluate" in out
    assert "networks: images x epochs" in out
    assert "labels of the full job" in out
