"""The connection to a Ray cluster: that of RAY_ADDRESS (which a Ray job sets), else a local one."""

import logging
import math
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import ray

from prism_ray.config import Config, ElasticActors
from prism_ray.errors import OrchestrateError, UsageError
from prism_ray.machine import num_cores
from prism_ray.orchestrate.environment import cluster_address
from prism_ray.orchestrate.fitting import check_fit
from prism_ray.orchestrate.guard import guarded_local_ray
from prism_ray.orchestrate.lean import lean_head
from prism_ray.orchestrate.local import (
    check_loopback,
    check_port,
    folder_for_ray,
    free_bytes,
    last_complaint,
    object_store_folder,
)
from prism_ray.orchestrate.nodes import Node, live_nodes
from prism_ray.orchestrate.scaling import Shape
from prism_ray.orchestrate.session import RayStartError, ray_session

# Pixels never pass through Ray's object store, so a local one can be small.
_OBJECT_STORE_BYTES = 128 * 2**20
_REACH_TIMEOUT_S = 10.0
_FULL_BYTES = 2**20
_OMP_WAIT = "OMP_WAIT_POLICY"


@contextmanager
def connect(config: Config, num_threads: int | None, say: Callable[[str], None] = print) -> Iterator[Shape]:
    """Join the cluster of RAY_ADDRESS, or start a local Ray that ends with the context.

    `num_threads` per actor comes from the config or from the run that is resumed; None: cores / actors. `say`
    gets notes for the user. Raises UsageError if RAY_ADDRESS is not an address, or no machine fits an actor
    and no autoscaler can bring one, and OrchestrateError if the cluster cannot be reached or a local Ray
    cannot start.
    """
    address = cluster_address()
    session = _local_session(config, num_threads, say) if address is None else _joined(address, config)
    with session as nodes:
        yield _shape(config, num_threads, nodes, is_local=address is None)


@contextmanager
def _joined(address: str, config: Config) -> Iterator[list[Node]]:
    """Join a cluster; yield its nodes."""
    where = f"RAY_ADDRESS = {address}"
    _check_reachable(address, where)

    def enter() -> list[Node]:
        ray.init(address=address, logging_level=logging.WARNING, log_to_driver=False)
        return live_nodes()

    try:
        with ray_session(enter, config.orchestrate.ray_start_timeout_s) as nodes:
            yield nodes
    except RayStartError as error:
        raise OrchestrateError(f"{where} cannot be joined: {error}; {_remedy(address, error)}") from error


def _remedy(address: str, error: RayStartError) -> str:
    """Return what to do about a cluster that cannot be joined."""
    text = f"{error} {error.said}"
    if "ersion mismatch" in text:
        return "install the versions of Ray and Python here that the cluster has"
    if "could not find any running" in text.lower():
        return "start a cluster with `ray start --head`, or unset RAY_ADDRESS to start a local Ray"
    if "uthentica" in text or "InvalidAuthToken" in text:
        return (
            "the cluster did not accept the token: set RAY_AUTH_MODE to the mode of the cluster (token by "
            "default), and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to its token"
        )
    named = "the address that was found" if address == "auto" else "the port"
    return (
        f"look whether {named} is that of a running Ray (6379 by default; 8265 is its dashboard), whether it "
        f"has version {ray.__version__} too, and whether RAY_AUTH_MODE is its mode (token by default); unset "
        "RAY_ADDRESS to start a local Ray"
    )


def _check_reachable(address: str, where: str) -> None:
    """Try to reach a host:port for some seconds; Ray itself would try for minutes.

    Raises UsageError if it is no address, and OrchestrateError if nobody answers there.
    """
    scheme, separator, rest = address.rpartition("://")
    if address == "auto" or (separator and scheme not in ("ray", "http", "https")):
        return  # Ray looks for the cluster
    remedy = "give host:port, for example RAY_ADDRESS=10.0.0.1:6379, or unset it to start a local Ray"
    if scheme in ("http", "https"):
        raise UsageError(f"{where} is the address of a dashboard, for `ray job submit`; {remedy}")
    host, colon, port = rest.rpartition(":")
    if not (host and colon and port.isdecimal() and 0 < int(port) < 2**16):
        raise UsageError(f"{where} is not an address; {remedy}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_TIMEOUT_S).close()
    except (OSError, UnicodeError) as error:
        raise OrchestrateError(
            f"{where} cannot be reached: {error}; look whether the cluster runs and a firewall lets this "
            "machine through, or unset RAY_ADDRESS to start a local Ray"
        ) from error


@contextmanager
def _local_session(
    config: Config, num_threads: int | None, say: Callable[[str], None]
) -> Iterator[list[Node]]:
    """Start a local Ray; yield its node in a list.

    On a busy machine a part of Ray that waits for another one gives up within seconds, so a start that fails
    is tried once more.
    """
    check_loopback()
    port = config.orchestrate.metrics_port
    if port is not None:
        check_port(port)
    actors = config.orchestrate.actors
    num_actors = _bounds(actors)[1] if actors != "auto" else 1
    threads, here = num_threads or 1, num_cores()
    wanted = num_actors * threads

    def start() -> AbstractContextManager[list[Node]]:
        return _started(max(here, wanted), port, config.orchestrate.ray_start_timeout_s, say)

    with ExitStack() as stack:
        if wanted > here and num_actors > 1 and threads > 1:
            say(
                f"note: {num_actors} actors of {threads} threads each share {here} cores; the bytes of a "
                f"run depend on its threads, so it keeps them, and orchestrate.actors = "
                f"{max(1, here // threads)} may be as fast"
            )
            stack.enter_context(_patient_threads())
        try:
            nodes = stack.enter_context(start())
        except _LocalStartError as error:
            if not error.is_worth_another:
                raise
            say(f"note: {error.summary}; starting it once more")
            nodes = stack.enter_context(start())
        yield nodes


@contextmanager
def _patient_threads() -> Iterator[None]:
    """Let the threads of processes that are started inside sleep while they wait for each other.

    OpenMP's spin for a while by default, and take the cores from those that they wait for: students of two
    actors of two threads on two cores were three times slower.
    """
    if _OMP_WAIT in os.environ:
        yield
        return
    os.environ[_OMP_WAIT] = "PASSIVE"
    try:
        yield
    finally:
        del os.environ[_OMP_WAIT]


class _LocalStartError(OrchestrateError):
    """A local Ray did not start."""

    def __init__(self, error: RayStartError, folder: str) -> None:
        complaint = last_complaint(folder)
        said = f" (its log says: {complaint})" if complaint else ""
        self.is_worth_another = free_bytes(folder) >= _FULL_BYTES
        self.summary = f"a local Ray cannot start: {error}{said}"
        if self.is_worth_another:
            remedy = "look for limits of this machine on memory, processes and open files (ulimit -a)"
        else:
            remedy = f"the disk of {os.path.dirname(folder)} is full: free some space there"
        super().__init__(f"{self.summary}; {remedy}")


@contextmanager
def _started(
    num_cpus: int, port: int | None, limit_s: float, say: Callable[[str], None]
) -> Iterator[list[Node]]:
    """Start a local Ray in a folder of its own."""
    with folder_for_ray(say) as folder:
        store_folder = object_store_folder(folder, _OBJECT_STORE_BYTES, say)

        def enter() -> list[Node]:
            with lean_head():
                ray.init(
                    address="local",
                    num_cpus=num_cpus,
                    include_dashboard=False,
                    logging_level=logging.WARNING,
                    log_to_driver=False,
                    object_store_memory=_OBJECT_STORE_BYTES,
                    _temp_dir=folder,
                    _plasma_directory=store_folder,
                    _metrics_export_port=port,
                )
            return live_nodes()

        try:
            with ray_session(enter, limit_s) as nodes, guarded_local_ray(folder):
                yield nodes
        except RayStartError as error:
            raise _LocalStartError(error, folder) from error


def _shape(config: Config, num_threads: int | None, nodes: list[Node], is_local: bool) -> Shape:
    """Return the shape of the run; what the config leaves to the cluster is settled here."""
    orchestrate = config.orchestrate
    resources = [node["Resources"] for node in nodes]
    cluster_gpus = sum(each.get("GPU", 0.0) for each in resources)
    num_gpus = orchestrate.gpus_per_actor
    if num_gpus == "auto":
        num_gpus = 1.0 if cluster_gpus else 0.0
    if is_local and num_gpus > cluster_gpus:
        raise UsageError(
            f"orchestrate.gpus_per_actor = {num_gpus:g}: this machine has {cluster_gpus:g} GPUs that Ray can "
            "see; set it to auto or 0, or set RAY_ADDRESS to a cluster that has them"
        )
    if orchestrate.students_per_actor > 1 and not num_gpus:
        raise UsageError(
            f"orchestrate.students_per_actor = {orchestrate.students_per_actor}: students can share a GPU, "
            "and the actors of this run have none; set it to 1, or give actors GPUs "
            "(orchestrate.gpus_per_actor)"
        )
    if orchestrate.actors == "auto":
        fewest = most = max(1, math.floor(cluster_gpus / num_gpus)) if num_gpus else 1
    else:
        fewest, most = _bounds(orchestrate.actors)
    if num_threads is None:
        cpus = [each.get("CPU", 0.0) for each in resources]
        num_threads = max(1, int(min(sum(cpus) / most, max(cpus, default=1.0))))
    shape = Shape(fewest, most, num_threads, num_gpus, orchestrate.students_per_actor)
    check_fit(orchestrate, shape)
    return shape


def _bounds(actors: int | ElasticActors) -> tuple[int, int]:
    """Return the minimum and the maximum number of actors."""
    return (actors, actors) if isinstance(actors, int) else (actors.min, actors.max)
