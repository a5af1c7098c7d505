"""Machines that go away while a run is on them: a real Ray cluster of several nodes on this machine."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.programs import run_program

pytestmark = [pytest.mark.ray, pytest.mark.timeout(280)]

Run = Callable[..., "subprocess.CompletedProcess[str]"]

# Runs in a process of its own. Argument 1: what happens; 2: the store; 3: the command as JSON.
PROGRAM = """
import json, os, secrets, subprocess, sys, time
from contextlib import suppress
from pathlib import Path
import psutil
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
from ray.cluster_utils import Cluster

fault, store, command = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
sizes = {"num_cpus": 1, "object_store_memory": 100_000_000}
cluster = Cluster(initialize_head=True, head_node_args={**sizes, "num_cpus": 0})
nodes = [cluster.add_node(**sizes) for _ in range(2)]
driver = subprocess.Popen(
    command,
    env=os.environ | {"RAY_ADDRESS": cluster.address},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
)
deadline = time.monotonic() + 120
while not list(store.glob("commits/recover/**/*.json")) and driver.poll() is None:
    assert time.monotonic() < deadline
    time.sleep(0.02)
if fault == "gone":  # at once and with all that is on it; Ray will not know for half a minute
    raylet = psutil.Process(nodes[0].all_processes["raylet"][0].process.pid)
    for process in [raylet, *raylet.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    cluster.remove_node(nodes[0], allow_graceful=False)
elif fault == "drained":
    from ray._raylet import GcsClient
    preemption, soon = 2, int(time.time() * 1000) + 20_000
    print(GcsClient(address=cluster.gcs_address).drain_node(nodes[0].node_id, preemption, "spot", soon))
out, err = driver.communicate(timeout=200)
print(json.dumps({"returncode": driver.returncode, "out": out, "err": err}))
cluster.shutdown()
"""

# Batches of some seconds, so that there are some on both machines when one goes.
LONG = (
    "recover.iterations=400",
    "recover.iterations_step=0",
    "recover.ipc_indices_per_batch=1",
    "orchestrate.actors=2",
)


@pytest.mark.parametrize(
    "fault", [pytest.param("gone", marks=pytest.mark.slow), "drained"]
)  # tests/chaos has it, too
def test_a_run_goes_on_without_a_machine(
    fault: str,
    cli: Run,
    digits_config: Path,
    small_options: list[str],
    environment: dict[str, str],
    store_with_teachers: Path,
) -> None:
    """Catches units given up, or a run that ends, because a spot machine was taken away."""
    options = [*small_options, *(word for override in LONG for word in ("--set", override))]
    store = store_with_teachers
    arguments = ["distill", str(digits_config), *options, "--store", str(store)]
    command = [sys.executable, "-m", "prism_ray", *arguments]
    program = (PROGRAM, fault, str(store), json.dumps(command))
    result = run_program(*program, environment=environment, timeout=250.0)
    assert result["returncode"] == 0, result["out"] + result["err"]
    said = "the machine of its actor was taken away" if fault == "gone" else "is leaving; its actor"
    assert said in result["out"]
    assert not list(store.glob("failures/**/*.json"))
    assert not list((store / "wip").rglob("*.safetensors"))
    assert cli("verify", store).returncode == 0
