"""Time limits of a run: for the first actor to start, and for the work to make progress."""

import time
from collections.abc import Collection

import ray

from prism_ray.config import OrchestrateConfig
from prism_ray.errors import OrchestrateError
from prism_ray.orchestrate.scaling import Shape
from prism_ray.stages import Unit


class Patience:
    """Ends a run in which no actor starts, or no actor makes progress."""

    def __init__(self, settings: OrchestrateConfig, shape: Shape) -> None:
        self._settings = settings
        self._shape = shape
        self._lost_at = self._progress_at = time.monotonic()

    def note_loss(self) -> None:
        """An actor is gone."""
        self._lost_at = time.monotonic()

    def note_progress(self) -> None:
        """Something was done, or a batch made a step."""
        self._progress_at = time.monotonic()

    def raise_if_too_long(self, num_actors: int, busy_with: Collection[Unit] | None) -> None:
        """Raise OrchestrateError if a limit is exceeded; `busy_with` is None if no actor has started."""
        now, settings = time.monotonic(), self._settings
        limit = settings.actor_start_timeout_s
        if busy_with is None and now - self._lost_at >= limit:
            keys = ["threads_per_actor", "gpus_per_actor"]
            keys += [key for key in ("accelerator_type", "label_selector") if getattr(settings, key)]
            raise OrchestrateError(
                f"no actor could start within {limit:.0f} s (orchestrate.actor_start_timeout_s): "
                f"{self.describe_resources(num_actors)}; lower or change "
                f"{', '.join(f'orchestrate.{key}' for key in keys)}, or enlarge the cluster"
            )
        limit = settings.stall_timeout_s
        if busy_with is not None and now - self._progress_at >= limit:
            busy = sorted(unit.id for unit in busy_with)
            raise OrchestrateError(
                f"no unit was done and no batch made a step for {limit:.0f} s (orchestrate.stall_timeout_s) "
                f"at {', '.join(busy[:5]) or 'no unit'}; raise the setting if a unit takes longer; "
                "a cluster keeps the actors' logs (`ray logs`). Everything committed is kept"
            )

    def describe_resources(self, num_actors: int) -> str:
        """Say what each actor requests, and what the cluster has."""
        there = ray.cluster_resources()  # type: ignore[no-untyped-call]
        free = ray.available_resources()  # type: ignore[no-untyped-call]
        counts = [f"{kind} {free.get(kind, 0):g} of {there.get(kind, 0):g}" for kind in ("CPU", "GPU")]
        requests = f"{self._shape.num_threads} CPUs, {self._shape.num_gpus:g} GPUs"
        if self._settings.accelerator_type is not None:
            requests += f", accelerators of type {self._settings.accelerator_type!r}"
        if self._settings.label_selector:
            requests += f", machines with the labels {self._settings.label_selector}"
        return f"each of {num_actors} requests {requests}; free in the cluster are {', '.join(counts)}"
