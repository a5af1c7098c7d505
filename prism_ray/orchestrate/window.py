"""The units that could begin now, and the choice of the one that suits an actor best. Pure.

Units of one stage that need the same teachers are alike and wait in one line. An actor is offered only the
first of each line, so the choice among hundreds takes microseconds.
"""

from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from itertools import chain

from prism_ray.stages import Unit, stage_names

SIZE = 256  # units to choose from
_PATIENCE = 64  # units that may be taken before one that came earlier


@dataclass(eq=False)
class Task:
    """A unit that is not finished."""

    unit: Unit
    stage: str
    teachers: frozenset[str]  # that it needs loaded
    num_failed: int = 0
    failed_at: set[str] = field(default_factory=set)  # names of actors
    held_by: set[str] = field(default_factory=set)  # names of actors; two if it runs a second time
    over: bool = False  # done or set aside; a second attempt may still be running
    rank: int = 0  # among all that wait; the smaller, the earlier


class Window:
    """The tasks that no actor has."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, frozenset[str]], deque[Task]] = {}
        self._returned: list[Task] = []  # each may have failed at other actors
        self._order = stage_names()
        self._num_added = self._num_taken = self._num_returned = 0

    def __len__(self) -> int:
        return self._num_added - self._num_taken

    def count(self, stages: Collection[str]) -> int:
        """Return how many tasks are of these stages."""
        in_lines = sum(len(line) for (stage, _), line in self._lines.items() if stage in stages)
        return in_lines + sum(task.stage in stages for task in self._returned)

    def add(self, task: Task) -> None:
        """Add a new task behind all others."""
        self._num_added += 1
        task.rank = self._num_added
        self._lines.setdefault((task.stage, task.teachers), deque()).append(task)

    def put_back(self, task: Task) -> None:
        """Put a task that was taken before all others."""
        self._num_returned += 1
        self._num_taken -= 1
        task.rank = -self._num_returned
        self._returned.append(task)

    def remove(self, is_over: Callable[[Unit], bool]) -> None:
        """Remove the tasks of units that must not begin any more."""
        before = len(self._returned) + sum(map(len, self._lines.values()))
        self._returned = [task for task in self._returned if not is_over(task.unit)]
        lines = {
            key: deque(task for task in line if not is_over(task.unit)) for key, line in self._lines.items()
        }
        self._lines = {key: line for key, line in lines.items() if line}
        self._num_taken += before - len(self._returned) - sum(map(len, self._lines.values()))

    def take(
        self, loaded: Collection[str], preferred: Collection[str], may_have: Callable[[Task], bool]
    ) -> Task | None:
        """Take the task that suits an actor with the teachers `loaded` best; None if it `may_have` none.

        Tasks of the stages `preferred` come first. Among them, the task with the fewest missing teachers is
        chosen, then one of the latest stage, then the earliest. One that has waited for long precedes all.
        """

        def order(task: Task) -> tuple[bool, bool, int, int, int]:
            return (
                self._num_taken - task.rank < _PATIENCE,
                task.stage not in preferred,
                len(task.teachers.difference(loaded)),
                -self._order.index(task.stage),
                task.rank,
            )

        offers = chain(self._returned, (line[0] for line in self._lines.values()))
        best = min(filter(may_have, offers), key=order, default=None)
        if best is None:
            return None
        self._num_taken += 1
        if best.rank < 0:
            self._returned.remove(best)
            return best
        key = (best.stage, best.teachers)
        self._lines[key].popleft()
        if not self._lines[key]:
            del self._lines[key]
        return best
