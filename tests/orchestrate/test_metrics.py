"""The metrics: in the endpoint of a live run, and under the names that the Grafana dashboard uses."""

import json
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess, Popen

import pytest

from prism_ray.orchestrate.metrics import COUNTERS, GAUGES, exported_names
from tests.ports import free_ports

DASHBOARD = Path(__file__).parents[2] / "cluster" / "grafana" / "prism-ray.json"
NAME = re.compile(r"\bray_prism_\w+")
SAMPLE = re.compile(r"^(ray_prism_\w+)\{(.*)\} (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')
_SCRAPE_TIMEOUT_S = 200.0


def test_the_dashboard_uses_exactly_the_exported_names() -> None:
    """Catches a panel that stays empty because a metric was renamed, and a metric that nobody sees."""
    text = DASHBOARD.read_text(encoding="utf-8")
    assert set(NAME.findall(text)) == exported_names()
    used = {
        label for one in re.findall(r"\{([^{}]*=[^{}]*)\}", text) for label in re.findall(r"(\w+)=~?", one)
    }
    known = {"run"} | {label for _, labels in (GAUGES | COUNTERS).values() for label in labels}
    assert used <= known
    assert set(re.findall(r"sum by \((\w+)\)", text)) <= known


def test_the_dashboard_has_a_place_and_a_title_for_each_panel() -> None:
    """Catches panels that lie on one another, which Grafana shows in any order."""
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = set()
    for panel in panels:
        assert panel["title"]
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in cells
                assert x < 24
                cells.add((x, y))


def scraped(port: int) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Name -> labels and value of each sample of ours; empty if nobody answers yet."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
            text = answer.read().decode()
    except (urllib.error.URLError, OSError):
        return {}
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for name, labels, value in SAMPLE.findall(text):
        found.setdefault(name, []).append((dict(LABEL.findall(labels)), float(value)))
    return found


@pytest.mark.ray
def test_a_live_run_exports_all_metrics(
    start_cli: Callable[..., "Popen[str]"],
    digits_config: Path,
    small_overrides: tuple[str, ...],
    tmp_path: Path,
) -> None:
    """Catches metrics that are registered and never arrive, and a run whose numbers are not its own."""
    (port,) = free_ports(1)
    options = ["--store", tmp_path / "measured", "--set", f"orchestrate.metrics_port={port}"]
    long = ["--set", "recover.iterations=3000", "--set", "recover.iterations_step=0"]
    kept = [word for text in small_overrides if "iterations" not in text for word in ("--set", text)]
    process = start_cli("distill", digits_config, *options, *long, *kept)
    ends = time.monotonic() + _SCRAPE_TIMEOUT_S
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    while time.monotonic() < ends and process.poll() is None:
        time.sleep(1.0)
        found = scraped(port) or found
        states = {(labels["stage"], labels["state"]): n for labels, n in found.get("ray_prism_units", ())}
        rates = {labels["stage"]: n for labels, n in found.get("ray_prism_iterations_per_second", ())}
        if states.get(("recover", "running")) and rates.get("recover"):
            break
    else:
        pytest.fail(f"{found} {process.communicate(timeout=60) if process.poll() is not None else ''}")
    process.terminate()
    process.communicate(timeout=60)
    assert found.keys() == exported_names()
    assert {labels["run"] for samples in found.values() for labels, _ in samples} == {"measured"}
    assert states["squeeze", "planned"] == states["squeeze", "done"] == 2
    commits = {labels["stage"]: n for labels, n in found["ray_prism_commits_total"]}
    assert commits["squeeze"] == 2
    num_bytes = {labels["stage"]: n for labels, n in found["ray_prism_part_bytes_total"]}
    assert num_bytes["squeeze"] > 10_000
    (memory,) = found["ray_prism_device_bytes"]
    assert memory[1] > 2**26
    assert memory[0]["actor"] == "actor-1"
    assert {labels["stage"] for labels, n in found["ray_prism_retries_total"] if n == 0} >= {"squeeze"}


def test_a_port_that_is_taken_is_named_before_anything_starts(
    cli: Callable[..., "CompletedProcess[str]"], digits_config: Path, small_options: list[str], tmp_path: Path
) -> None:
    """Catches Ray's way: no endpoint, and a line in a log that nobody reads."""
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        options = ["--store", tmp_path / "run", "--set", f"orchestrate.metrics_port={port}"]
        done = cli("distill", digits_config, *options, *small_options)
    assert done.returncode == 2
    assert f"orchestrate.metrics_port = {port} cannot be used" in done.stderr
