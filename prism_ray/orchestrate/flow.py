"""Recover, relabel and evaluate as one flow: a unit can begin once what it builds on is committed. Pure.

A label group's units once its batches are there, the students of an image set once its labels are, its
measures once its images are. Units are made as they are asked for; held are only those of groups in work.
"""

from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from prism_ray.plan import Plan
from prism_ray.units import RecoverUnit, RelabelUnit, Stage, Unit, recover_id

OVERLAPPING: tuple[Stage, ...] = ("recover", "relabel", "evaluate")


@dataclass
class _Group:
    """A label group of which batches are missing."""

    num_missing: int = 0
    is_listed: bool = False  # every batch of it has been looked at


@dataclass
class _ImageSet:
    """How far an image set is."""

    num_groups: int = 0  # whose batches are not all there
    num_label_units: int = 0  # that are not committed, of groups whose batches are
    is_listed: bool = False  # every group of it has been looked at
    has_images: bool = False
    has_labels: bool = False


class Flow:
    """A source of the units of `stages`, those that are neither `committed` nor `left_out`."""

    def __init__(
        self,
        plan: Plan,
        stages: Collection[Stage],
        committed: Collection[str],
        left_out: Collection[str] = (),
    ) -> None:
        self._plan = plan
        self._stages = stages
        self._committed = committed
        self._left_out = left_out  # what builds on these is not begun
        self._sets = {name: _ImageSet() for name in plan.image_sets}
        self._groups: dict[tuple[str, int], _Group] = {}
        self._group_of: dict[str, tuple[str, int]] = {}  # of each batch in work
        self._labels: deque[RelabelUnit] = deque()
        self._evaluations: deque[Unit] = deque()
        self._batches = self._walk()

    def take(self) -> Unit | None:
        """Return the next unit that can be begun, those of later stages first; None if there is none now."""
        while True:
            if self._evaluations:
                return self._evaluations.popleft()
            if self._labels:
                return self._labels.popleft()
            try:
                unit = next(self._batches)
            except StopIteration:
                return None
            if unit is not None:
                return unit

    def done(self, unit: Unit) -> None:
        """A unit is committed: what waits for it may be begun."""
        if isinstance(unit, RecoverUnit):
            key = self._group_of.pop(unit.id)
            self._groups[key].num_missing -= 1
            self._look_at_group(key)
        elif isinstance(unit, RelabelUnit):
            self._sets[unit.image_set].num_label_units -= 1
            self._look_at_set(unit.image_set)

    def _walk(self) -> Iterator[RecoverUnit | None]:
        """Yield the batches that are missing, and None after each group: its labels may be ready."""
        for name in self._plan.image_sets:
            for number in range(self._plan.num_groups(name)):
                key = (name, number)
                group = self._groups[key] = _Group()
                self._sets[name].num_groups += 1
                for place in self._plan.group_batches(name, number):
                    unit_id = recover_id(name, self._plan.batch_key(name, place))
                    if unit_id in self._committed:
                        continue
                    group.num_missing += 1
                    self._group_of[unit_id] = key
                    if "recover" in self._stages and unit_id not in self._left_out:
                        yield self._plan.batch(name, place)
                group.is_listed = True
                self._look_at_group(key)
                yield None
            self._sets[name].is_listed = True
            self._look_at_set(name)
            yield None

    def _look_at_group(self, key: tuple[str, int]) -> None:
        group, (name, number) = self._groups[key], key
        if not group.is_listed or group.num_missing > 0:
            return
        del self._groups[key]
        missing = [unit for unit in self._plan.relabel_group(name, number) if unit.id not in self._committed]
        self._sets[name].num_groups -= 1
        self._sets[name].num_label_units += len(missing)
        if "relabel" in self._stages:
            self._labels.extend(unit for unit in missing if unit.id not in self._left_out)
        self._look_at_set(name)

    def _look_at_set(self, name: str) -> None:
        """Begin what an image set's images, and its labels, were missing for."""
        state = self._sets[name]
        if not state.is_listed or state.num_groups > 0:
            return
        if not state.has_images:
            state.has_images = True
            self._begin(self._plan.measure_unit(name))
        if not state.has_labels and state.num_label_units == 0:
            state.has_labels = True
            for key in self._plan.config.evaluations:
                if name in self._plan.config.sets_of(key):
                    self._begin(*self._plan.evaluate_units(name, key))

    def _begin(self, *units: Unit) -> None:
        if "evaluate" in self._stages:
            known = (self._committed, self._left_out)
            self._evaluations += [unit for unit in units if not any(unit.id in ids for ids in known)]
