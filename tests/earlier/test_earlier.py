"""Stores of earlier versions are read, verified, shown, exported, resumed and extended. It stays for good."""

import json
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from prism_ray.config import Config, load_config
from prism_ray.config.renamed import RenamedWarning
from prism_ray.plan.fingerprint import run_scopes
from prism_ray.run import load_run, match, read_progress
from prism_ray.stages import stage_names
from prism_ray.store import StoreFiles, layout
from tests.stores import committed

FOLDER = Path(__file__).parent
ARCHIVES = sorted(FOLDER.glob("plan-*.tar.xz"))
Cli = Callable[..., "CompletedProcess[str]"]


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.name.partition(".")[0])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A store of an earlier version, unpacked."""
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "run"


def config_of(path: Path, store: Path, *overrides: str) -> Config:
    """Read a config that has keys under their names of then."""
    with pytest.warns(RenamedWarning):
        return load_config(path, overrides, str(store))


def set_back(store: Path, *units: str) -> None:
    """Delete the commits of some units, so that they have to be done again."""
    for unit in units:
        (store / layout.commit(unit)).unlink()


def test_there_is_a_store_of_each_plan_version() -> None:
    """Catches a folder that was renamed: the tests below would pass on nothing."""
    assert [path.name for path in ARCHIVES] == ["plan-3.tar.xz"]


def test_its_commands_answer(store: Path, cli: Cli) -> None:
    """Catches a new key, stage or record that makes finished stores unreadable."""
    for command, said in (
        (["status", store], "Complete."),
        (["verify", store], "Complete and whole."),
        (["failures", store], "1 attempt failed"),
        (["show", store], "report/sheet.png"),
        (["export", store, "--to", store / "out"], "40 images of distilled"),
        (["export", store, "--to", store / "data", "--as", "dataset"], "40 images of distilled"),
        (["plan", store / "config.yaml", "--store", store], "complete"),
        (["compare", store, "--baseline", "rded"], "| rded |"),
        (["distill", store / "config.yaml", "--store", store], "Nothing to do"),
        (["compact", store], "parts merged"),
        (["gc", store], "files, "),
    ):
        done = cli(*command)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        assert said in done.stdout, command


def test_its_scopes_follow_from_its_config(store: Path) -> None:
    """Catches a change that alters the fingerprints of an earlier plan version: nothing could be resumed."""
    run = load_run(StoreFiles(str(store)))
    derived = run_scopes(run.config, run.facts, run.num_threads, run.weights, run.plan_version)
    assert derived.keys() >= run.scopes.keys()
    assert {name: derived[name] for name in run.scopes} == run.scopes


def test_its_own_config_and_its_first_one_are_those_of_the_run(store: Path) -> None:
    """Catches renamed keys, or defaults, through which a config no longer means what it meant."""
    files = StoreFiles(str(store))
    for path in (store / "config.yaml", FOLDER / "plan-3.yaml"):
        assert match(config_of(path, store), files, "config").fits
        assert not match(config_of(path, store, "image_sets.edc.iterations=7"), files, "config").fits


def test_a_lost_plan_is_proved_by_its_commits(store: Path) -> None:
    """Catches an old store that cannot be resumed once its plan.json is gone."""
    files = StoreFiles(str(store))
    run = load_run(files)
    files.delete(layout.PLAN)
    asked = match(config_of(store / "config.yaml", store), files, "config")
    assert asked.plan_is_lost
    assert asked.held is not None
    assert asked.held.scopes == run.scopes


@pytest.mark.ray
def test_it_is_resumed_and_extended(store: Path, cli: Cli) -> None:
    """Catches an old run that is refused, done again from the start, or read with other statistics."""
    before = committed(store)
    lost = ["recover/edc/j0000000", "relabel/distilled/g00000-e00003", "evaluate/distilled/student/s000"]
    lost += ["collect/statistics/resnet/c00005", "measure/rded"]
    set_back(store, *lost)
    done = cli(
        *("distill", store / "config.yaml", "--store", store),
        *("--set", "image_sets.more.method=delt", "--set", "image_sets.more.ipc=2"),
        *("--set", "image_sets.more.primary=resnet", "--set", "image_sets.more.images_per_batch=10"),
        *("--set", "image_sets.more.iterations=3", "--set", "image_sets.more.iterations_step=0"),
        *("--set", "orchestrate.actors=1"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    after = committed(store)
    assert after.keys() > before.keys()
    assert {unit for unit in before if after[unit] != before[unit]} <= set(lost)
    assert {unit.split("/")[1] for unit in after.keys() - before.keys()} == {"more"}
    plan = json.loads((store / "plan.json").read_text())
    assert plan["scopes"]["recover/more"]["settings"]["recover"]["method"] == "delt"
    fingerprints = {
        json.loads(path.read_text())["fingerprint"] for path in (store / "commits/recover/edc").glob("*.json")
    }
    assert len(fingerprints) == 1
    verified = cli("verify", store)
    assert verified.returncode == 0, verified.stdout
    assert re.search(r"recover +32 of 32 units", verified.stdout)


def test_every_unit_counts(store: Path) -> None:
    """Catches an id that changed: the work would be done again under another name."""
    files = StoreFiles(str(store))
    run = load_run(files)
    progress = read_progress(files, run)
    ids = {unit_id for name in stage_names() for unit_id in run.plan.unit_ids(name)}
    assert set(progress.done) == ids == set(committed(store))
