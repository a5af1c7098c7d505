"""The connection to a Ray cluster: that of RAY_ADDRESS (which a Ray job sets), else a local one."""

import logging
import math
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import ray

from prism_ray.config import Config, ElasticActors
from prism_ray.errors import OrchestrateError, UsageError
from prism_ray.orchestrate.fitting import check_fit
from prism_ray.orchestrate.guard import guarded_local_ray
from prism_ray.orchestrate.scaling import Shape
from prism_ray.signals import answer_to_sigterm_kept, interrupts_held_back

# Pixels never pass through Ray's object store, so a local one can be small.
_OBJECT_STORE_BYTES = 128 * 2**20
_REACH_TIMEOUT_S = 10.0


@contextmanager
def connect(config: Config, num_threads: int | None) -> Iterator[Shape]:
    """Join the cluster of RAY_ADDRESS, or start a local Ray that ends with the context.

    `num_threads` per actor comes from the config or from the run that is resumed; None: cores / actors.
    Raises OrchestrateError if the cluster cannot be reached, and UsageError if no machine fits an actor and
    no autoscaler can bring one.
    """
    address = os.environ.get("RAY_ADDRESS")
    try:
        with answer_to_sigterm_kept():
            if address:
                _check_reachable(address)
                ray.init(address=address, logging_level=logging.WARNING, log_to_driver=False)
            else:
                _start_local(config, num_threads)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        where = f"RAY_ADDRESS = {address}" if address else "a local Ray"
        raise OrchestrateError(
            f"{where} cannot be reached or started: {error}; unset RAY_ADDRESS to start a local Ray, or "
            "set RAY_AUTH_MODE to the mode of the cluster (token by default)"
        ) from error
    try:
        with nullcontext() if address else guarded_local_ray():
            yield _shape(config, num_threads)
    finally:
        with interrupts_held_back():  # an interrupted shutdown would let the process end with code 1
            ray.shutdown()


def _check_reachable(address: str) -> None:
    """Try to reach a host:port for some seconds; Ray itself would try for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit() and "://" not in address:
        socket.create_connection((host, int(port)), timeout=_REACH_TIMEOUT_S).close()


def _start_local(config: Config, num_threads: int | None) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    actors = config.orchestrate.actors
    wanted = (_bounds(actors)[1] if actors != "auto" else 1) * (num_threads or 1)
    ray.init(
        address="local",
        num_cpus=max(cores, wanted),
        include_dashboard=False,
        logging_level=logging.WARNING,
        log_to_driver=False,
        object_store_memory=_OBJECT_STORE_BYTES,
    )


def _shape(config: Config, num_threads: int | None) -> Shape:
    """Return the shape of the run; what the config leaves to the cluster is settled here."""
    orchestrate = config.orchestrate
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    cluster_gpus = sum(node.get("GPU", 0.0) for node in nodes)
    num_gpus = orchestrate.gpus_per_actor
    if num_gpus == "auto":
        num_gpus = 1.0 if cluster_gpus else 0.0
    if not os.environ.get("RAY_ADDRESS") and num_gpus > cluster_gpus:
        raise UsageError(
            f"orchestrate.gpus_per_actor = {num_gpus:g}: this machine has {cluster_gpus:g} GPUs that Ray can "
            "see; set it to auto or 0, or set RAY_ADDRESS to a cluster that has them"
        )
    if orchestrate.actors == "auto":
        fewest = most = max(1, math.floor(cluster_gpus / num_gpus)) if num_gpus else 1
    else:
        fewest, most = _bounds(orchestrate.actors)
    if num_threads is None:
        cpus = [node.get("CPU", 0.0) for node in nodes]
        num_threads = max(1, int(min(sum(cpus) / most, max(cpus, default=1.0))))
    shape = Shape(fewest, most, num_threads, num_gpus)
    check_fit(orchestrate, shape)
    return shape


def _bounds(actors: int | ElasticActors) -> tuple[int, int]:
    """Return the minimum and the maximum number of actors."""
    return (actors, actors) if isinstance(actors, int) else (actors.min, actors.max)
