"""The stages of a run in order, and those that overlap as one source of units. Pure.

A unit of these can begin once what it builds on is committed. Each stage names the stage that its units build
on (`Stage.after`) and how much of it must be done (`Stage.waits_for`): the batches of a group for its labels,
all labels of an image set for its students. A *span* is such an amount: a group of an image set, or the whole
set. Units are made as they are needed; only those of spans that have begun are kept.
"""

from collections import deque
from collections.abc import Collection, Iterator, Sequence

from prism_ray.orchestrate.scheduler import Ready, Source
from prism_ray.plan import Plan
from prism_ray.stages import Stage, Unit, Within, find_stage, stage_of, stages

_Span = tuple[str, int | None]  # image set, group; without a group, the whole set


def phases(
    plan: Plan, names: Sequence[str], committed: Collection[str], left_out: Collection[str]
) -> Iterator[tuple[Sequence[str], Source]]:
    """Yield stages of `names` and the source of their missing units: one by one, then those that overlap.

    A phase is to begin when the one before has ended: only then its units are looked up. Those in `left_out`
    are not among them.
    """
    wanted = [find_stage(name) for name in names]
    for stage in wanted:
        if not stage.overlaps:
            missing = stage.missing(plan, committed)
            yield (stage.name,), Ready(unit for unit in missing if unit.id not in left_out)
    overlapping = tuple(stage.name for stage in wanted if stage.overlaps)
    yield overlapping, Flow(plan, overlapping, committed, left_out)


class Flow:
    """A source of the units of the stages `names`, without those `committed` or `left_out`."""

    def __init__(
        self, plan: Plan, names: Collection[str], committed: Collection[str], left_out: Collection[str] = ()
    ) -> None:
        self._plan = plan
        self._names = names
        self._committed = committed
        self._left_out = left_out  # units that build on these do not begin
        overlapping = [stage for stage in stages() if stage.overlaps]
        self._first = next(stage for stage in overlapping if stage.waits_for == "stage")
        self._followers = {
            stage.name: [other for other in overlapping if other.after == stage.name] for stage in overlapping
        }
        self._num_missing: dict[tuple[str, _Span], int] = {}  # units of a stage and a span that are not done
        self._span_of: dict[str, _Span] = {}  # of each unit that is missing, by its id
        self._num_open: dict[tuple[str, str], int] = {}  # groups of a stage and a set that are not done
        self._ready: dict[str, deque[Unit]] = {stage.name: deque() for stage in reversed(overlapping)}
        self._walk = self._open_groups()

    def take(self) -> Unit | None:
        """Return the next unit that can begin, those of later stages first; None if there is none now."""
        while True:
            for ready in self._ready.values():
                if ready:
                    return ready.popleft()
            if next(self._walk, None) is None:
                return None

    def done(self, unit: Unit) -> None:
        """The unit is committed: units that wait for it may begin."""
        stage, span = find_stage(stage_of(unit.id)), self._span_of.pop(unit.id)
        self._num_missing[stage.name, span] -= 1
        if self._num_missing[stage.name, span] == 0:
            del self._num_missing[stage.name, span]
            self._close(stage, span)

    def _open_groups(self) -> Iterator[bool]:
        """Open the groups of the first stage one by one, when the units before them are used up."""
        for image_set in self._plan.image_sets:
            num_groups = self._plan.formation(image_set).num_groups
            for name in self._followers:
                self._num_open[name, image_set] = num_groups
            for group in range(num_groups):
                self._open(self._first, (image_set, group))
                yield True

    def _open(self, stage: Stage, span: _Span) -> None:
        """Begin the units of a stage and a span, because what they build on is done."""
        missing = list(stage.missing(self._plan, self._committed, Within(*span)))
        if not missing:
            self._close(stage, span)
            return
        self._num_missing[stage.name, span] = len(missing)
        self._span_of |= {unit.id: span for unit in missing}
        if stage.name in self._names:
            self._ready[stage.name].extend(unit for unit in missing if unit.id not in self._left_out)

    def _close(self, stage: Stage, span: _Span) -> None:
        """Open what waits for the units of a stage and a span, because they are done."""
        image_set, group = span
        if group is not None:
            for follower in self._followers[stage.name]:
                if follower.waits_for == "group":
                    self._open(follower, span)
            self._num_open[stage.name, image_set] -= 1
            if self._num_open[stage.name, image_set] > 0:
                return
        for follower in self._followers[stage.name]:
            if follower.waits_for == "image set":
                self._open(follower, (image_set, None))
