"""The number of actors that a run needs, and what each requests. Pure.

With `orchestrate.students_per_actor` there are two kinds of actors: whole ones, and *shared* ones, of which
several have the place of a whole one. Units of stages that can share (`Stage.shares`) go to shared actors,
all others to whole ones.
"""

import math
from dataclasses import dataclass

_PARTS = 10_000  # Ray counts resources in ten-thousandths


@dataclass(frozen=True)
class Load:
    """The work for one kind of actors."""

    num_busy: int  # actors that have units
    num_waiting: int  # units that could begin now

    @property
    def num_wanted(self) -> int:
        """Actors that there is work for."""
        return self.num_busy + self.num_waiting


@dataclass(frozen=True)
class Shape:
    """The number of actors of a run, and what each of them requests from the cluster."""

    min_actors: int
    max_actors: int
    num_threads: int  # per actor, also its CPUs
    num_gpus: float  # per actor
    num_sharing: int = 1  # shared actors in the place of a whole one; 1: there are no shared ones

    def wanted(self, whole: Load, shared: Load = Load(0, 0)) -> tuple[int, int]:
        """Return how many whole and shared actors there is work for, within the bounds.

        Whole ones come first: shared ones get the places that are left, and keep those where they are busy.

        >>> Shape(1, 8, num_threads=2, num_gpus=0.0).wanted(Load(num_busy=2, num_waiting=3))
        (5, 0)
        >>> Shape(1, 2, num_threads=2, num_gpus=1.0, num_sharing=4).wanted(Load(1, 0), Load(0, 9))
        (1, 4)
        """
        num_whole = min(self.max_actors - self._places(shared.num_busy), whole.num_wanted)
        num_whole = max(num_whole, min(whole.num_busy, self.max_actors))
        num_shared = min(self.num_sharing * (self.max_actors - num_whole), shared.num_wanted)
        num_idle = self.min_actors - num_whole - self._places(num_shared)
        return num_whole + max(0, num_idle), num_shared

    def _places(self, num_shared: int) -> int:
        return math.ceil(num_shared / self.num_sharing)

    def request(self, is_shared: bool) -> dict[str, float]:
        """Return the CPUs and GPUs of an actor; shared ones have equal parts, which fit where one was."""
        amounts: dict[str, float] = {"num_cpus": self.num_threads, "num_gpus": self.num_gpus}
        if not is_shared:
            return amounts
        # Rounded down, so that the last of them fits too.
        return {name: int(_PARTS * amount / self.num_sharing) / _PARTS for name, amount in amounts.items()}
