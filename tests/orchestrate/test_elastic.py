"""A cluster that grows for a run and shrinks after it: Ray's autoscaler with made-up machines."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(290)]

PORT = 6379
RAY = str(Path(sys.executable).parent / "ray")
CLUSTER = {
    "cluster_name": "elastic",
    "max_workers": 3,
    "idle_timeout_minutes": 0.1,
    "provider": {
        "type": "fake_multinode",
        "use_node_id_as_ip": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
    },
    "auth": {},
    "upscaling_speed": 10.0,
    "file_mounts": {},
    "file_mounts_sync_continuously": False,
    "cluster_synced_files": [],
    "docker": {},
    **{
        f"{kind}_commands": []
        for kind in (
            "initialization",
            "setup",
            "head_setup",
            "worker_setup",
            "head_start_ray",
            "worker_start_ray",
        )
    },
    "head_node_type": "ray.head.default",
    "available_node_types": {
        "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "gpu": {
            "resources": {"CPU": 1, "GPU": 1, "object_store_memory": 100_000_000},
            "node_config": {},
            "min_workers": 0,
            "max_workers": 3,
        },
    },
}
# Many batches of some seconds; the invented GPUs hold actors of one thread.
LONG = (
    "orchestrate.actors={min: 1, max: 3}",
    "orchestrate.gpus_per_actor=1",
    "orchestrate.idle_actor_s=2",
    "recover.ipc=16",
    "recover.ipc_indices_per_batch=1",
    "recover.iterations=60",
    "recover.iterations_step=0",
)
NODES = """
import json, os
from ray._raylet import GcsClient
nodes = GcsClient(address=os.environ["RAY_ADDRESS"]).get_all_node_info(timeout=60)
nodes = nodes[0] if isinstance(nodes, tuple) else nodes
print(json.dumps(sum(node.state == 0 and "GPU" in node.resources_total for node in nodes.values())))
"""


@pytest.fixture
def autoscaling(environment: dict[str, str], tmp_path: Path) -> Iterator[dict[str, str]]:
    """A head that starts up to three machines when they are asked for; yields the environment to join it."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", PORT)) == 0:
            pytest.skip(f"port {PORT} is in use, and Ray's made-up machines know no other")
    config = tmp_path / "cluster.yaml"
    config.write_text(yaml.safe_dump(CLUSTER))
    folder = tempfile.mkdtemp(prefix="ray-")  # short, because Ray's socket paths must be
    environment = environment | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "0123456789abcdef" * 4,
        "RAY_FAKE_CLUSTER": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    }
    with (tmp_path / "head.log").open("w") as log:
        process = subprocess.Popen(
            [
                RAY, "start", "--head", "--block", "--disable-usage-stats", "--num-cpus=0",
                f"--port={PORT}", "--include-dashboard=false", "--object-store-memory=100000000",
                f"--autoscaling-config={config}", f"--temp-dir={folder}",
            ],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )  # fmt: skip
    environment["RAY_ADDRESS"] = f"127.0.0.1:{PORT}"
    try:
        deadline = time.monotonic() + 60.0
        while num_nodes(environment) is None:
            assert time.monotonic() < deadline, (tmp_path / "head.log").read_text()
            time.sleep(1.0)
        yield environment
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


def num_nodes(environment: dict[str, str]) -> int | None:
    """Return how many machines there are beside the head, None if the cluster does not answer."""
    done = subprocess.run(
        [sys.executable, "-c", NODES], env=environment, capture_output=True, text=True, timeout=60
    )
    return int(json.loads(done.stdout.strip().splitlines()[-1])) if done.returncode == 0 else None


def test_machines_come_with_the_work_and_go_with_it(
    autoscaling: dict[str, str],
    start_cli: Callable[..., "subprocess.Popen[str]"],
    digits_config: Path,
    small_options: list[str],
    store_with_teachers: Path,
) -> None:
    """Catches a run that asks for no machines, for more than it has work for, or keeps them at its end."""
    options = [*small_options, *(word for override in LONG for word in ("--set", override))]
    store = store_with_teachers
    ray = {name: value for name, value in autoscaling.items() if name.startswith("RAY_")}
    assert num_nodes(autoscaling) == 0
    process = start_cli("distill", digits_config, *options, "--store", store, **ray)
    started, seen = time.monotonic(), [0]

    def look() -> int:
        """Note how many machines there are; `pytest -s` shows when that changed."""
        number = num_nodes(autoscaling) or 0
        if number != seen[-1]:
            seen.append(number)
            print(f"{time.monotonic() - started:5.1f} s: {number} machines")
        return number

    while process.poll() is None:
        look()
        time.sleep(0.5)
    print(f"{time.monotonic() - started:5.1f} s: the command ends")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    assert max(seen) == 3
    hosts = {json.loads(path.read_text())["host"] for path in store.glob("commits/recover/**/*.json")}
    assert hosts
    deadline = time.monotonic() + 60.0
    while look() != 0:
        assert time.monotonic() < deadline
        time.sleep(0.5)
