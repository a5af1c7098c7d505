"""How many actors a run wants. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """How many actors a run gets, and what each of them asks of the cluster."""

    min_actors: int
    max_actors: int
    num_threads: int  # per actor, also its CPUs
    num_gpus: float  # per actor

    def wanted(self, num_busy: int, num_waiting: int) -> int:
        """Return how many actors there is work for, within the bounds."""
        return min(self.max_actors, max(self.min_actors, num_busy + num_waiting))
