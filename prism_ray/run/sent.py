"""What a tracker has of a run: the contents of trackers/<name>.json."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from prism_ray.store.records import FORMAT, Count, Figures


class Numbers:
    """A set of whole numbers as ranges, which are few if the numbers come nearly in order."""

    def __init__(self, ranges: Iterable[Sequence[int]] = ()) -> None:
        """`ranges` have a first and a last number."""
        self._ranges = sorted([first, last] for first, last in ranges)

    def __contains__(self, number: int) -> bool:
        place = bisect_right(self._ranges, number, key=lambda each: each[0]) - 1
        return place >= 0 and number <= self._ranges[place][1]

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self._ranges)

    def add(self, number: int) -> None:
        """Add a number; neighbouring ranges become one."""
        if number in self:
            return
        place = bisect_right(self._ranges, number, key=lambda each: each[0])
        self._ranges.insert(place, [number, number])
        if place + 1 < len(self._ranges) and self._ranges[place + 1][0] == number + 1:
            self._ranges[place][1] = self._ranges.pop(place + 1)[1]
        if place > 0 and self._ranges[place - 1][1] == number - 1:
            self._ranges[place - 1][1] = self._ranges.pop(place)[1]

    def ranges(self) -> list[tuple[int, int]]:
        """Return the ranges in order."""
        return [(first, last) for first, last in self._ranges]


@dataclass
class Sent:
    """The contents of trackers/<name>.json: what a tracker has."""

    run: str  # id of the tracker's run
    units: dict[str, list[tuple[Count, Count]]] = field(default_factory=dict)  # scope -> ranges of numbers
    sending: list[str] = field(default_factory=list)  # units that it may have, or have in part
    tracker: Figures = field(default_factory=dict)  # what the tracker needs to continue
    format: int = FORMAT
