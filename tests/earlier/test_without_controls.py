"""A store of the time before controls: it stays complete under its config, and can have them on request."""

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from prism_ray.config import load_config
from prism_ray.run import match
from prism_ray.store import StoreFiles, layout
from tests.stores import committed

FOLDER = Path(__file__).parent
CONFIG = FOLDER / "without-controls.yaml"
Cli = Callable[..., "CompletedProcess[str]"]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with tarfile.open(FOLDER / "without-controls.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "run"


def test_it_stays_complete_under_its_config(store: Path, cli: Cli) -> None:
    """Catches a default that adds students to finished runs: `plan` would call them incomplete."""
    before = committed(store)
    planned = cli("plan", CONFIG, "--store", store)
    assert "(complete)" in planned.stdout
    assert "Controls        Not trained: the controls hard-labels (for " in planned.stdout
    assert "Nothing to do" in cli("distill", CONFIG, "--store", store).stdout
    status = cli("status", store)
    assert status.returncode == 0
    assert "evaluate.controls adds them to this run" in status.stdout
    assert committed(store) == before
    compared = json.loads(cli("compare", store, "--json").stdout)
    (evaluation,) = compared["fair"]["evaluations"]
    assert evaluation["missing"] == ["hard-labels", "no-augmentation", "full-data"]
    assert {row["lrs"] for row in evaluation["rows"]} == {None}


def test_controls_are_added_to_it_on_request(store: Path) -> None:
    """Catches a key without effect on runs of the time before it, and students that are made anew."""
    files = StoreFiles(str(store))
    config = load_config(CONFIG, ["evaluate.controls=[hard-labels, full-data]"], str(store))
    asked = match(config, files, str(CONFIG))
    assert asked.fits
    wanted = set(asked.run.plan.unit_ids("evaluate"))
    done = {unit_id for unit_id in committed(store) if unit_id.startswith("evaluate/")}
    assert done < wanted
    assert wanted - done == {
        *(
            f"evaluate/{name}/student-hard-labels/s00{k}"
            for name in ("distilled", "random-real")
            for k in (0, 1)
        ),
        *(f"evaluate/full-data/student-full-data/s00{k}" for k in (0, 1)),
    }


def test_it_stays_complete_when_its_plan_is_lost(store: Path) -> None:
    """Catches a default that adds students to a finished run, because nothing tells how it was begun."""
    (store / layout.PLAN).unlink()
    asked = match(load_config(CONFIG, store=str(store)), StoreFiles(str(store)), str(CONFIG))
    assert asked.plan_is_lost
    assert set(asked.run.plan.unit_ids("evaluate")) <= set(committed(store))
