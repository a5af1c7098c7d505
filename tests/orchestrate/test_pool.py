"""The pool on a real Ray: actors that die, units that fail, input that is wrong, a cluster too small."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.programs import run_program

pytestmark = [pytest.mark.ray, pytest.mark.timeout(200)]

# Runs in a process of its own, because a local Ray's environment must be settled before Ray is imported.
# Argument 1: what goes wrong; 2: the store; 3: the config; then overrides.
PROGRAM = """
import json, os, signal, sys, threading
import psutil
from prism_ray.orchestrate.environment import prepare_for_local_ray
prepare_for_local_ray()
import ray
from prism_ray.config import load_config
from prism_ray.data import open_data
from prism_ray.errors import PrismRayError
from prism_ray.orchestrate.cluster import connect
from prism_ray.orchestrate.pool import WorkerPool
from prism_ray.orchestrate.scaling import Shape
from prism_ray.orchestrate.scheduler import Ready
from prism_ray.units import RecoverUnit, Slot
from prism_ray.store import StoreFiles, new_run, save_run

fault, store, path, *overrides = sys.argv[1:]
config = load_config(path, overrides, store)
files = StoreFiles(store)
heard = []

class Listener:
    def began(self, unit):
        pass
    def message(self, text):
        heard.append(["message", text])
    def done(self, commit):
        heard.append(["done", commit.unit])
        if fault == "kill" and len(heard) == 1:
            victim = next(iter(pool._members.values()))
            os.kill(victim.info.pid, signal.SIGKILL)
    def failed(self, failure, again):
        heard.append(["failed", failure.unit_id, failure.error, again])
    def tick(self):
        pass

def kill_first_actor():
    while True:
        for process in psutil.Process().children(recursive=True):
            if process.name().startswith("ray::WorkerActo"):
                process.kill()
                return

try:
    with connect(config, 1) as shape:
        run = save_run(files, new_run(config, open_data(config.data).facts(), 1))
        if fault == "pending":
            shape = Shape(1, 1, num_threads=1, num_gpus=1.0)
        if fault == "crowded":  # each actor wants all the CPUs that there are
            shape = Shape(2, 2, num_threads=int(ray.cluster_resources()["CPU"]), num_gpus=0.0)
        with WorkerPool(config, files, shape) as pool:
            if fault == "early":
                threading.Thread(target=kill_first_actor, daemon=True).start()
                pool.check(10, frozenset(), print)
                print(json.dumps({"deaths": pool.losses.num_deaths_in_a_row}))
            elif fault == "arch":
                pool.check(10, frozenset(), print)
            elif fault == "unit":
                bad = RecoverUnit("distilled", "bad", (Slot(0, 0),), (5,), (("resnet",),), 1)
                good = next(u for u in run.plan.recover_units("random-real"))
                print(json.dumps({"set_aside": pool.do(run, Ready([bad, good]), Listener()), "heard": heard}))
            elif fault in ("kill", "crowded"):
                units = run.plan.recover_units("random-real")
                print(json.dumps({"set_aside": pool.do(run, Ready(units), Listener()), "heard": heard}))
            else:
                pool.do(run, Ready(run.plan.units("squeeze")), Listener())
except PrismRayError as error:
    print(json.dumps({"error": type(error).__name__, "message": str(error)}))
"""


def run_pool(
    fault: str, store: Path, config: Path, overrides: Sequence[str], environment: dict[str, str]
) -> dict[str, object]:
    arguments = (fault, str(store), str(config), *overrides)
    return run_program(PROGRAM, *arguments, environment=environment, timeout=150.0)


def test_a_failing_unit_is_set_aside_and_the_rest_goes_on(
    tmp_path: Path, digits_config: Path, small_overrides: tuple[str, ...], environment: dict[str, str]
) -> None:
    """Catches a unit that fails for good stopping the others, retried for ever, or leaving no traceback."""
    overrides = [*small_overrides, "orchestrate.max_attempts=2"]
    result = run_pool("unit", tmp_path / "run", digits_config, overrides, environment)
    assert result["set_aside"] == ["recover/distilled/bad"]
    heard = result["heard"]
    assert isinstance(heard, list)
    assert [event for event in heard if event[0] == "failed"] == [
        ["failed", "recover/distilled/bad", "StoreError", True],
        ["failed", "recover/distilled/bad", "StoreError", False],
    ]
    assert ["done", "recover/random-real/i00000-c00000"] in heard
    records = sorted((tmp_path / "run" / "failures").rglob("*.json"))
    assert [path.name for path in records] == ["bad-1.json", "bad-2.json"]
    assert "Traceback" in json.loads(records[0].read_text())["traceback"]
    assert (tmp_path / "run" / "aside" / "recover" / "distilled" / "bad.json").exists()


def test_a_killed_actor_is_replaced(
    tmp_path: Path, digits_config: Path, small_overrides: tuple[str, ...], environment: dict[str, str]
) -> None:
    """Catches a pool that loses an actor's units with it, or ends when its only actor is killed."""
    overrides = [*small_overrides, "recover.ipc_indices_per_batch=1"]
    result = run_pool("kill", tmp_path / "run", digits_config, overrides, environment)
    assert result["set_aside"] == []
    assert len(list((tmp_path / "run" / "commits").rglob("*.json"))) == 4


def test_an_actor_that_is_killed_before_it_works_is_replaced(
    tmp_path: Path, digits_config: Path, small_overrides: tuple[str, ...], environment: dict[str, str]
) -> None:
    """Catches a run that ends because its first actor, or that one's machine, went while it started."""
    assert run_pool("early", tmp_path / "run", digits_config, small_overrides, environment) == {"deaths": 1}


def test_wrong_architecture_is_found_before_any_work(
    tmp_path: Path, digits_config: Path, environment: dict[str, str]
) -> None:
    """Catches a typo in an architecture that is found only by the squeeze, or retried."""
    overrides = ["teachers.pool.1.arch=timm:test_resnett", "orchestrate.actors=1"]
    result = run_pool("arch", tmp_path / "run", digits_config, overrides, environment)
    assert result["error"] == "ConfigError"
    assert "teachers.pool.1.arch = 'timm:test_resnett'" in str(result["message"])
    assert "timm:test_resnet" in str(result["message"])


def test_a_cluster_too_small_is_an_error_not_a_wait(
    tmp_path: Path, digits_config: Path, environment: dict[str, str]
) -> None:
    """Catches waiting for a GPU that this machine has not and will never have."""
    overrides = ["orchestrate.gpus_per_actor=1", "orchestrate.actor_start_timeout_s=3"]
    result = run_pool("start", tmp_path / "run", digits_config, overrides, environment)
    assert result["error"] == "OrchestrateError"
    assert "orchestrate.gpus_per_actor = 1: this machine has 0 GPUs" in str(result["message"])


def test_actors_that_stay_pending_are_an_error_in_time(
    tmp_path: Path, digits_config: Path, environment: dict[str, str]
) -> None:
    """Catches a silent wait for resources that the cluster does not grow."""
    overrides = ["orchestrate.actor_start_timeout_s=3"]
    result = run_pool("pending", tmp_path / "run", digits_config, overrides, environment)
    assert result["error"] == "OrchestrateError"
    assert "within 3 s (orchestrate.actor_start_timeout_s)" in str(result["message"])
    assert "asks for 1 CPUs, 1 GPUs" in str(result["message"])
    assert "GPU 0 of 0" in str(result["message"])


def test_an_actor_without_a_place_gets_no_units(
    tmp_path: Path, digits_config: Path, small_overrides: tuple[str, ...], environment: dict[str, str]
) -> None:
    """Catches units that wait for ever at an actor which the cluster has no room for."""
    overrides = [*small_overrides, "recover.ipc_indices_per_batch=1"]
    result = run_pool("crowded", tmp_path / "run", digits_config, overrides, environment)
    assert result["set_aside"] == []
    assert len(list((tmp_path / "run" / "commits").rglob("*.json"))) == 4
