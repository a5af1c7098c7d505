"""`distill` and `plan` as functions: results and exceptions, no output to parse and no sys.exit."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

import prism_ray
from prism_ray.config import load_config
from prism_ray.errors import ConfigError, FingerprintError, UsageError
from prism_ray.library.calls import read
from tests.programs import run_program
from tests.worked import DIGITS, QUICK, work

SMALL: dict[str, Any] = {
    "teachers.pool": [{"name": "resnet", "arch": "timm:test_resnet"}],
    "teachers.squeeze.epochs": 1,
    "recover.ipc": 1,
    "recover.iterations": 2,
    "recover.iterations_step": 0,
    "relabel.epochs": 2,
    "evaluate.num_students": 1,
    "orchestrate.actors": 1,
    "orchestrate.threads_per_actor": 1,
}
PROGRAM = """
import json, sys, threading
import prism_ray
config, store, small = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
before = prism_ray.plan(config, store=store, set=small)
first = prism_ray.distill(config, store=store, set=small)
second = prism_ray.distill(config, store=store, set=small | {"evaluate.num_students": 2})
assert "torch" not in sys.modules
import ray
assert not ray.is_initialized()
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
try:
    prism_ray.distill(config, store=store, set=small | {"evaluate.num_students": 3})
except prism_ray.UsageError as error:
    refused = str(error)
assert ray.is_initialized()
ray.shutdown()
print(json.dumps({
    "before": before.stages, "complete": [first.complete, second.complete],
    "students": [first.students().num_rows, second.students().num_rows], "refused": refused,
}))
"""
EARLY_RAY = """
import json, sys
import ray, prism_ray
try:
    prism_ray.distill(sys.argv[1], store=sys.argv[2])
except prism_ray.UsageError as error:
    print(json.dumps({"refused": str(error)}))
"""


@pytest.mark.ray
def test_a_run_from_python(tmp_path: Path, environment: dict[str, str]) -> None:
    """Catches a second run in one process that fails, a driver with torch, and the end of a user's Ray."""

    words = (str(DIGITS), str(tmp_path / "run"), json.dumps(SMALL))
    found = run_program(PROGRAM, *words, environment=environment, timeout=200)
    assert found["before"]["recover"] == [0, 2]
    assert found["complete"] == [True, True]
    assert found["students"] == [4, 8]  # of two sets, with soft and with hard labels
    assert "call ray.shutdown() first" in found["refused"]


@pytest.mark.ray
def test_ray_that_was_imported_before_is_said(tmp_path: Path, environment: dict[str, str]) -> None:
    """Catches an AssertionError, or a local Ray that refuses its own driver."""
    words = (str(DIGITS), str(tmp_path / "run"))
    found = run_program(EARLY_RAY, *words, environment=environment, timeout=100)
    assert "call distill before the first `import ray`" in found["refused"]


def test_a_run_in_a_thread_is_refused(tmp_path: Path) -> None:
    """Catches a ValueError of the signal module after Ray has started."""
    caught: list[BaseException] = []

    def start() -> None:
        try:
            prism_ray.distill(DIGITS, store=tmp_path / "run")
        except UsageError as error:
            caught.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert "in the main thread only" in str(caught[0])
    assert not (tmp_path / "run" / "plan.json").exists()


def test_a_finished_run_is_returned_and_another_refused(tmp_path: Path) -> None:
    """Catches a call that starts Ray for nothing, and settings that change a finished run."""
    store = tmp_path / "run"
    work(store, "evaluate.num_students=1")
    values = {key: value for key, _, value in (text.partition("=") for text in QUICK)}
    values |= {key: int(value) for key, value in values.items() if value.isdecimal()}
    values["teachers.pool"] = [{"name": "resnet", "arch": "timm:test_resnet"}]
    run = prism_ray.distill(DIGITS, store=store, set=values)
    assert run.complete
    assert run.location == str(store)
    with pytest.raises(FingerprintError, match=r"recover.ipc: the store has 2, now 3"):
        prism_ray.distill(DIGITS, store=store, set=values | {"recover.ipc": 3})


def test_a_plan_has_the_figures_of_the_command(tmp_path: Path) -> None:
    """Catches a plan that writes, and figures that only print."""
    figures = prism_ray.plan(DIGITS, store=tmp_path / "run", set=SMALL)
    assert figures.stages["recover"] == (0, 2)
    assert figures.num_classes == 10
    assert figures.estimated_label_bytes > 0
    assert figures.to_json()["store"] == str(tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"recover.ipc": -1}, r"recover.ipc = -1: must be 1 or more"),
        ({"recover.ipcc": 1}, "did you mean recover.ipc"),
        ({"recover.ipc": object()}, "set: recover.ipc = <object object .* is not plain data"),
        ({"": 1}, "expected key=value"),
    ],
)
def test_wrong_settings_are_exceptions(settings: dict[str, Any], message: str) -> None:
    """Catches a TypeError of JSON, or an exit of the interpreter."""
    with pytest.raises(ConfigError, match=message):
        prism_ray.plan(DIGITS, store="x", set=settings)


def test_a_config_can_be_plain_data(tmp_path: Path) -> None:
    """Catches a mapping that is read by other rules than a file, and one that is changed on the way."""

    values = yaml.safe_load(DIGITS.read_text())
    kept = yaml.safe_load(DIGITS.read_text())
    settings = {"recover.ipc": 3, "data.path": "odd: #2 \U0001f600", "evaluate.learning_rate": 1e-5}
    settings |= {
        "recover.flip": False,
        "orchestrate.actors": {"min": 1, "max": 2},
        "data.source": "fashion-mnist",
    }
    config, origin = read(values, tmp_path / "run", settings)
    assert values == kept
    assert origin == "CONFIG"
    of_file, _ = read(DIGITS, tmp_path / "run", settings)
    assert config == of_file
    assert config.data.path == "odd: #2 \U0001f600"
    assert config.image_sets["distilled"].ipc == 3
    assert config.store_url == str(tmp_path / "run")
    with pytest.raises(ConfigError, match="CONFIG: store is missing"):
        prism_ray.plan({"seed": 1})
    assert load_config(DIGITS, store="x") == read(str(DIGITS), "x", None)[0]
