"""A Ray cluster of several nodes on this machine, whose nodes can be killed and replaced.

Imported: `Nodes`, which has the cluster in a process of its own. Run (`-m`): that process. It reads one
command a line, `add` or `kill PID` (of a raylet), and answers each with one line of JSON.
"""

import json
import secrets
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import psutil

from tests.processes import descendants

_ROOT = Path(__file__).parents[2]
NUM_NODES = 2  # beside the head, which has no CPU to give
_ACTOR = "ray::WorkerActo"  # 15 letters of the name: of "ray::WorkerActor.do" too


class Nodes:
    """The cluster. Used as a context; its processes end with it."""

    def __init__(self, environment: dict[str, str]) -> None:
        """`environment` is that of its processes, and with `RAY_ADDRESS` the one to join it with."""
        self.environment = environment | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self.raylets: list[int] = []  # their pids

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="ray-")  # short, because Ray's socket paths must be
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.nodes", self._folder.name],
            cwd=_ROOT,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            self.environment = self.environment | {"RAY_ADDRESS": self._answer()["address"]}
            for _ in range(NUM_NODES):
                self.add()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        children = psutil.Process(self._process.pid).children(recursive=True)
        with suppress(subprocess.TimeoutExpired, BrokenPipeError):
            self._process.communicate(timeout=60)  # the end of its input ends it
        for process in (
            [*children, psutil.Process(self._process.pid)] if self._process.poll() is None else children
        ):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        self._folder.cleanup()

    def add(self) -> None:
        """Start a node."""
        self.raylets.append(self._ask("add")["raylet"])

    def kill(self, raylet: int) -> None:
        """End a node as a power cut does: everything on it at once."""
        self.raylets.remove(raylet)
        self._ask(f"kill {raylet}")

    def actors(self) -> list[psutil.Process]:
        """Return the processes of the drivers' actors that live."""
        return [actor for raylet in self.raylets for actor in descendants(raylet, _ACTOR)]

    def _ask(self, command: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


def _answer(**values: Any) -> None:
    print(json.dumps(values), file=sys.__stdout__, flush=True)


def main() -> None:
    from ray.cluster_utils import Cluster

    sys.stdout = sys.stderr  # Ray's words are no answers
    sizes = {"num_cpus": 1, "object_store_memory": 80_000_000}
    quick = {"health_check_period_ms": 500, "health_check_failure_threshold": 2}
    head = {**sizes, "num_cpus": 0, "_system_config": quick, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head | {"temp_dir": sys.argv[1]})
    nodes = {}
    _answer(address=cluster.address)
    for line in sys.stdin:
        command, *arguments = line.split()
        if command == "add":
            node = cluster.add_node(**sizes)
            raylet = node.all_processes["raylet"][0].process.pid
            nodes[raylet] = node
            _answer(raylet=raylet)
        else:
            raylet = int(arguments[0])
            workers = psutil.Process(raylet).children(recursive=True)
            for process in [psutil.Process(raylet), *workers]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            cluster.remove_node(nodes.pop(raylet), allow_graceful=False)
            _answer(killed=1 + len(workers))
    cluster.shutdown()


if __name__ == "__main__":
    main()
