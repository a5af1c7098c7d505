"""Waiting has an end: for the first actor to start, and for anything to get on."""

import time
from collections.abc import Collection

import ray

from prism_ray.config import OrchestrateConfig
from prism_ray.errors import OrchestrateError
from prism_ray.orchestrate.scaling import Shape
from prism_ray.stages import Unit


class Patience:
    """Ends a run in which no actor starts, or none gets on."""

    def __init__(self, settings: OrchestrateConfig, shape: Shape) -> None:
        self._settings = settings
        self._shape = shape
        self._none_alive_since = self._got_on_at = time.monotonic()

    def actor_gone(self) -> None:
        self._none_alive_since = time.monotonic()

    def got_on(self) -> None:
        """Something was done, or a batch made a step."""
        self._got_on_at = time.monotonic()

    def look(self, num_actors: int, busy_with: Collection[Unit] | None) -> None:
        """Raise OrchestrateError if it has taken too long; `busy_with` is None if no actor lives."""
        now = time.monotonic()
        limit = self._settings.actor_start_timeout_s
        if busy_with is None and now - self._none_alive_since >= limit:
            raise OrchestrateError(
                f"no actor could start within {limit:.0f} s (orchestrate.actor_start_timeout_s): "
                f"{self.asked_and_there(num_actors)}; {self._remedy()}, or enlarge the cluster"
            )
        limit = self._settings.stall_timeout_s
        if busy_with is not None and now - self._got_on_at >= limit:
            busy = sorted(unit.id for unit in busy_with)
            raise OrchestrateError(
                f"nothing was done, no batch made a step, for {limit:.0f} s (orchestrate.stall_timeout_s) "
                f"at {', '.join(busy[:5]) or 'no unit'}; look at the actors' logs, or raise the setting if a "
                "unit takes longer. Everything committed is kept"
            )

    def asked_and_there(self, num_actors: int) -> str:
        """Say what an actor asks for, and what the cluster has."""
        there = ray.cluster_resources()  # type: ignore[no-untyped-call]
        free = ray.available_resources()  # type: ignore[no-untyped-call]
        counts = [f"{kind} {free.get(kind, 0):g} of {there.get(kind, 0):g}" for kind in ("CPU", "GPU")]
        asked = [f"{self._shape.num_threads} CPUs", f"{self._shape.num_gpus:g} GPUs"]
        if self._settings.accelerator_type is not None:
            asked.append(f"accelerators of type {self._settings.accelerator_type!r}")
        if self._settings.label_selector:
            asked.append(f"machines with the labels {self._settings.label_selector}")
        return (
            f"each of {num_actors} asks for {', '.join(asked)}, and the cluster has free: {', '.join(counts)}"
        )

    def _remedy(self) -> str:
        keys = ["threads_per_actor", "gpus_per_actor"]
        keys += [key for key in ("accelerator_type", "label_selector") if getattr(self._settings, key)]
        return "lower or change " + ", ".join(f"orchestrate.{key}" for key in keys)
