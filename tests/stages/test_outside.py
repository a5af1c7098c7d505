"""A stage from another package: the example of docs/architecture.md, registered by an entry point and run."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from prism_ray.plan.fingerprint import fingerprint
from tests.sites import install
from tests.stores import committed, copy_store

DOCUMENT = Path(__file__).parents[2] / "docs" / "architecture.md"
Cli = Callable[..., "CompletedProcess[str]"]


@pytest.mark.ray
def test_it_is_planned_run_shown_and_verified(calm: Path, tmp_path: Path, cli: Cli) -> None:
    """Catches a stage that is not planned, not run, or run as another, because code knows stages by name."""
    site = str(install(tmp_path, DOCUMENT, "prism_brightness"))
    store = tmp_path / "run"
    copy_store(calm, store, lambda unit: True)
    config = store / "config.yaml"
    assert "brightness      0 of 2 units done" in cli("plan", config, PYTHONPATH=site).stdout
    assert cli("status", store, PYTHONPATH=site).returncode == 3
    before = committed(store)
    done = cli("brightness", config, "--store", store, PYTHONPATH=site)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "stage=brightness event=ended done=2 total=2" in done.stdout
    made = committed(store)
    new = {"brightness/distilled", "brightness/random-real"}
    assert made.keys() - before.keys() == new
    assert {unit: made[unit] for unit in before} == before
    commit = json.loads((store / "commits/brightness/distilled.json").read_text())
    assert 0.0 < commit["stats"]["brightness"] < 1.0
    assert commit["fingerprint"] == fingerprint_of(store)
    assert cli("verify", store, PYTHONPATH=site).returncode == 0
    assert "Nothing to do" in cli("distill", config, "--store", store, PYTHONPATH=site).stdout
    # Without the package the run is what it was before; what the stage made is kept.
    assert cli("verify", store).returncode == 0
    assert "0 files" in cli("gc", store, "--older-than", "0").stdout


def fingerprint_of(store: Path) -> str:
    """The fingerprint of the new scope, from plan.json."""
    return fingerprint(json.loads((store / "plan.json").read_text())["scopes"]["brightness/distilled"])


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("name = 'recover'", "the name 'recover' of its stage is taken"),
        ("after = 'nothing'", "builds on 'nothing', which is not a stage: squeeze"),
        ("overlaps = False", "so both stages must overlap"),
    ],
)
def test_a_stage_that_cannot_be_is_refused(tmp_path: Path, cli: Cli, line: str, problem: str) -> None:
    """Catches a stage that takes the place of another, or waits for ever."""
    site = install(tmp_path, DOCUMENT, "prism_brightness")
    module = site / "prism_brightness.py"
    key = line.split(" ")[0]
    module.write_text(re.sub(rf"(?m)^    {key} = .*$", f"    {line}", module.read_text()))
    refused = cli("methods", PYTHONPATH=str(site))
    assert refused.returncode != 0
    assert problem in refused.stderr
