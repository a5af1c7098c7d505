"""The units that could be begun now, and which of them suits an actor best. Pure.

Units of one stage that need the same networks are alike, and stand in one line: an actor is offered the first
of each line only, so that the choice among hundreds takes microseconds.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from itertools import chain

from prism_ray.stages import Unit, stage_names

SIZE = 256  # units looked at
_PATIENCE = 64  # units that may go before one that came earlier


@dataclass(eq=False)
class Task:
    """A unit on its way."""

    unit: Unit
    stage: str
    networks: frozenset[str]  # that it needs loaded
    num_failed: int = 0
    failed_at: set[str] = field(default_factory=set)
    held_by: set[str] = field(default_factory=set)  # two actors, once it runs a second time
    over: bool = False  # done or set aside; a second attempt may still be running
    place: int = 0  # among all that wait; the smaller, the earlier


class Window:
    """Tasks that no actor holds."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, frozenset[str]], deque[Task]] = {}
        self._returned: list[Task] = []  # each may be barred from other actors
        self._order = stage_names()
        self._size = self._num_added = self._num_returned = self._num_taken = 0

    def __len__(self) -> int:
        return self._size

    def add(self, task: Task) -> None:
        """A new task comes last."""
        self._num_added += 1
        task.place = self._num_added
        self._lines.setdefault((task.stage, task.networks), deque()).append(task)
        self._size += 1

    def put_back(self, task: Task) -> None:
        """A task that was taken comes before all others."""
        self._num_returned += 1
        self._num_taken -= 1
        task.place = -self._num_returned
        self._returned.append(task)
        self._size += 1

    def take(
        self, loaded: Collection[str], preferred: Collection[str], may_have: Callable[[Task], bool]
    ) -> Task | None:
        """Return the task that suits best an actor that has the networks `loaded`; None if it may have none.

        That for which the fewest networks are missing, of the stages `preferred` first; among those one of
        the latest stage, then the earliest. One that has waited for long goes before all.
        """

        def rank(task: Task) -> tuple[bool, bool, int, int, int]:
            return (
                self._num_taken - task.place < _PATIENCE,  # in turn it would be the next
                task.stage not in preferred,
                len(task.networks.difference(loaded)),
                -self._order.index(task.stage),
                task.place,
            )

        best = min(filter(may_have, self._offers()), key=rank, default=None)
        if best is None:
            return None
        self._num_taken += 1
        self._size -= 1
        if best.place < 0:
            self._returned.remove(best)
            return best
        key = (best.stage, best.networks)
        self._lines[key].popleft()
        if not self._lines[key]:
            del self._lines[key]
        return best

    def _offers(self) -> Iterator[Task]:
        return chain(self._returned, (line[0] for line in self._lines.values()))
