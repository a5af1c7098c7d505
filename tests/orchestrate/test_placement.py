"""Where actors are put: parts of a GPU, kinds of accelerators, labels; on a real Ray of made-up machines."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.programs import run_program
from tests.stores import committed, copy_store

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(280)]

# Runs in a process of its own. Argument 1: the command as JSON. Prints on which machines its actors were.
PROGRAM = """
import json, os, secrets, subprocess, sys, time
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
import ray
from ray.cluster_utils import Cluster
from ray._raylet import GcsClient

sizes = {"num_cpus": 4, "object_store_memory": 100_000_000}
cluster = Cluster(initialize_head=True, head_node_args={**sizes, "num_cpus": 0})
kinds = {
    "small": {"num_gpus": 2, "resources": {"accelerator_type:A10": 1}, "labels": {"zone": "a"}},
    "large": {"num_gpus": 1, "resources": {"accelerator_type:H100": 1}, "labels": {"zone": "a"}},
    "other": {"num_gpus": 1, "resources": {"accelerator_type:H100": 1}, "labels": {"zone": "b"}},
}
names = {cluster.add_node(**sizes, **kind).node_id: name for name, kind in kinds.items()}
driver = subprocess.Popen(
    json.loads(sys.argv[1]),
    env=os.environ | {"RAY_ADDRESS": cluster.address},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
)
out, err = driver.communicate(timeout=200)
ray.init(address=cluster.address, logging_level="ERROR")
from ray._private.state import actors
workers = [actor for actor in actors().values() if actor["ActorClassName"] == "WorkerActor"]
times = sorted((actor["StartTime"], actor["EndTime"]) for actor in workers)
machines = [names.get(actor["Address"]["NodeID"], "") for actor in workers]
result = {"returncode": driver.returncode, "out": out, "err": err}
print(json.dumps(result | {"machines": sorted(machines), "times": times}))
ray.shutdown()
cluster.shutdown()
"""


@pytest.fixture
def recover(
    store_with_teachers: Path, digits_config: Path, small_options: list[str], environment: dict[str, str]
) -> Any:
    """Make the images, with actors placed as `settings` say; return what the command did."""

    def run(*settings: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "prism_ray", "recover", str(digits_config), *small_options]
        command += ["--store", str(store_with_teachers)]
        command += [word for setting in settings for word in ("--set", f"orchestrate.{setting}")]
        return run_program(PROGRAM, json.dumps(command), environment=environment, timeout=250.0)

    return run


def test_two_actors_share_the_gpu_that_is_asked_for(recover: Any) -> None:
    """Catches a setting that never reaches Ray: a run on the wrong GPUs, or one actor where two have room."""
    kind = ("accelerator_type=H100", "label_selector={zone: a}")
    result = recover("actors=2", "gpus_per_actor=0.5", *kind)
    assert result["returncode"] == 0, result["out"] + result["err"]
    assert result["machines"] == ["large", "large"]


@pytest.mark.timeout(600)
def test_students_share_the_place_of_an_actor(
    calm: Path, tmp_path: Path, digits_config: Path, small_options: list[str], environment: dict[str, str]
) -> None:
    """Catches students one after another where several have room, and students changed by others."""
    several = ("evaluate.num_students=3", "evaluate.image_sets=[distilled]", "relabel.epochs=12")
    settings = [*several, "orchestrate.accelerator_type=H100", "orchestrate.label_selector={zone: a}"]
    found, times = [], []
    for number in (1, 3):
        store = tmp_path / f"run-{number}"
        copy_store(calm, store, lambda unit: unit.startswith(("squeeze/", "recover/")))
        command = [sys.executable, "-m", "prism_ray", "distill", str(digits_config), *small_options]
        command += ["--store", str(store)]
        options = [*settings, "orchestrate.gpus_per_actor=1", f"orchestrate.students_per_actor={number}"]
        command += [word for setting in options for word in ("--set", setting)]
        result = run_program(PROGRAM, json.dumps(command), environment=environment, timeout=250.0)
        assert result["returncode"] == 0, result["out"] + result["err"]
        assert set(result["machines"]) == {"large"}  # which has one GPU
        found.append(committed(store))
        times.append(result["times"])
    assert found[0] == found[1]
    assert sum(unit.startswith("evaluate/") for unit in found[0]) == 3
    assert [len(each) for each in times] == [1, 1 + 3]  # the whole actor labels, and makes way
    begun, ended = zip(*times[1][1:], strict=True)
    assert max(begun) < min(ended)


def test_what_no_machine_has_is_named(recover: Any) -> None:
    """Catches a run that waits for minutes, or says CPUs are short, when a label was misspelt."""
    result = recover("actors=1", "gpus_per_actor=1", "label_selector={zone: c}")
    assert result["returncode"] == 2
    assert "orchestrate.label_selector = {zone: c}: none of the cluster's 4 machines has it" in result["err"]
