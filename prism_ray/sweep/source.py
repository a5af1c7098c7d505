"""The units of all points of a sweep as one source, in which no unit is made twice. No torch, no Ray.

A point goes through its stages in order, as a run of its own does. Points do not wait for each other, except
for a unit that another point is making and that they need too. Units of earlier points come first, so that
the actors turn to the next point when the one before has nothing that could begin.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from prism_ray.errors import IncompleteError, PrismRayError, StoreError
from prism_ray.orchestrate.flow import phases
from prism_ray.orchestrate.jobs import JobUnit
from prism_ray.orchestrate.scheduler import Ready, Source
from prism_ray.run import Ledger
from prism_ray.stages import Unit, stage_names, stage_of
from prism_ray.store import Commit
from prism_ray.sweep.sharing import Lenders, Member

_MAX_WAITING = 256  # units of a point that wait for another one


@dataclass(eq=False)
class ActivePoint:
    """A point with missing units, as it goes through its stages."""

    number: int
    member: Member
    ledger: Ledger
    left_out: set[str]  # units that were set aside
    check: Callable[[Sequence[str], set[str]], None]  # of stages and units left out: raises IncompleteError
    error: PrismRayError | None = None  # why it ended early
    over: bool = False
    num_open: int = 0  # units of the present stage that are being made, here or at another point
    num_waiting: int = 0  # of these, at another point
    again: deque[Unit] = field(default_factory=deque)  # that it waited for in vain
    failed_elsewhere: dict[str, str] = field(default_factory=dict)  # unit -> point that could not make it
    source: Source = field(default_factory=lambda: Ready(()))
    stages: Sequence[str] = ()  # that the source has units of

    def __post_init__(self) -> None:
        plan, done = self.member.run.plan, self.member.progress.done
        self._phases = phases(plan, stage_names(), done, self.left_out)
        self.next_phase()

    def next_phase(self) -> None:
        """Go on to the next stages; without any, or if units were left out in the last, the point is over."""
        try:
            self._check()
        except IncompleteError as error:
            self.fail(error)
            return
        found = next(self._phases, None)
        if found is None:
            self.over = True
        else:
            self.stages, self.source = found

    def _check(self) -> None:
        names = self.stages
        elsewhere = {u: p for u, p in self.failed_elsewhere.items() if stage_of(u) in names}
        self.check(names, self.left_out - elsewhere.keys())
        if elsewhere:
            unit_id, point = min(elsewhere.items())
            raise IncompleteError(
                f"{unit_id} failed at the point {point}, which makes it for this one too; correct the cause "
                "there, and run the same command again"
            )

    def fail(self, error: PrismRayError) -> None:
        """End the point early: none of its units begins any more."""
        self.error, self.over = self.error or error, True


class SweepSource:
    """A source of the units of many points; see `SharedSource` of the dispatcher."""

    def __init__(
        self,
        points: Sequence[ActivePoint],
        lenders: Lenders,
        taken: Callable[[ActivePoint, Commit], None],
        ended: Callable[[ActivePoint], None],
    ) -> None:
        """`taken` is called for each unit that a point takes from another, `ended` when a point is over."""
        self._points = {point.number: point for point in points}
        self._lenders = lenders
        self._taken = taken
        self._ended = ended
        self._left = deque(points)  # that are not over, or whose end was not told yet
        # Units that are being made, by fingerprint and id: where, and the points that wait for each.
        self._making: dict[tuple[str, str], tuple[ActivePoint, list[tuple[ActivePoint, Unit]]]] = {}

    def take(self) -> Unit | None:
        """Return the next unit that can begin, None if there is none now."""
        for point in list(self._left):
            unit = self._next(point)
            if unit is not None:
                return JobUnit(point.number, point.member.files, unit)
            if point.over:
                self._left.remove(point)
                self._ended(point)
        return None

    def _next(self, point: ActivePoint) -> Unit | None:
        """Return the next unit that a point must make itself; take those that another point has."""
        while not point.over and point.num_waiting < _MAX_WAITING:
            unit = point.again.popleft() if point.again else point.source.take()
            if unit is None:
                if point.num_open > 0:
                    return None
                point.next_phase()
                continue
            key = self._key(point, unit)
            if key in self._making:
                self._making[key][1].append((point, unit))
                point.num_open += 1
                point.num_waiting += 1
            elif not self._take_from_another(point, unit):
                if point.over:
                    return None
                self._making[key] = point, []
                point.num_open += 1
                return unit
        return None

    def _take_from_another(self, point: ActivePoint, unit: Unit) -> bool:
        try:
            commit = self._lenders.take(point.member, unit.id)
        except StoreError as error:  # its own store cannot be written
            point.fail(error)
            return False
        if commit is None:
            return False
        point.ledger.add(commit)
        point.member.progress.add(commit)
        self._taken(point, commit)
        point.source.done(unit)
        return True

    @staticmethod
    def _key(point: ActivePoint, unit: Unit) -> tuple[str, str]:
        return point.member.fingerprint_of(unit.id), unit.id

    def done(self, unit: Unit) -> None:
        """The unit is committed: its point goes on, and so do the points that wait for it."""
        point, its_unit = self._of(unit)
        point.num_open -= 1
        self._lenders.made_now.add((point.member.files.location, its_unit.id))
        point.source.done(its_unit)
        for other, same in self._release(point, its_unit):
            if not other.over and not self._take_from_another(other, same):
                other.again.append(same)

    def set_aside(self, unit: JobUnit) -> None:
        """The unit failed in all its attempts: what builds on it cannot begin, at any point."""
        point, its_unit = self._of(unit)
        point.num_open -= 1
        point.left_out.add(its_unit.id)
        for other, same in self._release(point, its_unit):
            other.left_out.add(same.id)
            other.failed_elsewhere[same.id] = point.member.folder

    def is_over(self, unit: Unit) -> bool:
        """Return whether the unit's point has ended, so that the unit must not begin."""
        return self._of(unit)[0].over

    def fail(self, number: int, error: PrismRayError) -> None:
        """End a point early. Points that wait for its units make them themselves."""
        point = self._points[number]
        point.fail(error)
        for key in [key for key, (maker, _) in self._making.items() if maker is point]:
            for other, unit in self._making.pop(key)[1]:
                other.num_open -= 1
                other.num_waiting -= 1
                other.again.append(unit)

    def _release(self, point: ActivePoint, unit: Unit) -> list[tuple[ActivePoint, Unit]]:
        """Return the points that wait for a unit of this one; they do not wait any more."""
        key = self._key(point, unit)
        if key not in self._making or self._making[key][0] is not point:
            return []
        _, waiting = self._making.pop(key)
        for other, _ in waiting:
            other.num_open -= 1
            other.num_waiting -= 1
        return waiting

    def _of(self, unit: Unit) -> tuple[ActivePoint, Unit]:
        assert isinstance(unit, JobUnit)
        return self._points[unit.number], unit.unit
