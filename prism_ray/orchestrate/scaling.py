"""The number of actors that a run needs. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """The number of actors of a run, and what each of them requests from the cluster."""

    min_actors: int
    max_actors: int
    num_threads: int  # per actor, also its CPUs
    num_gpus: float  # per actor

    def wanted(self, num_busy: int, num_waiting: int) -> int:
        """Return how many actors there is work for, within the bounds.

        >>> Shape(1, 8, num_threads=2, num_gpus=0.0).wanted(num_busy=2, num_waiting=3)
        5
        """
        return min(self.max_actors, max(self.min_actors, num_busy + num_waiting))
