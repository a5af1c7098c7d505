"""Config -> Plan: which units of work a run has, with their keys, slots, teacher draws and seeds.

Pure: everything derives from the config and the facts of the data by arithmetic and hashing, lazily, so a
plan of a million batches takes no memory. Which actor does a unit, in which order and how often it was
tried is the scheduler's business and cannot change anything here. No torch, no Ray.

A cross-class batch is a chunk of classes in one round of IPC indices; a joint batch is a piece of all slots
in class order. Joint batches are numbered so that those with neighbouring numbers, which are labelled in one
group, are of classes far apart: CutMix partners come from a group. Seeds of batches, views and students do
not depend on the name of the image set, so that sets are compared in pairs: same noise, same crops, same
views, same first weights.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd
from typing import cast

from prism_ray.config import AnyImageSet, Config, RecoverConfig
from prism_ray.data import DataFacts
from prism_ray.errors import ConfigError
from prism_ray.seeds import derive_random, derive_seed
from prism_ray.selection import draw_teachers
from prism_ray.units import (
    STAGES,
    CollectKind,
    CollectUnit,
    EvaluateUnit,
    MeasureUnit,
    RecoverUnit,
    RelabelUnit,
    Slot,
    SqueezeUnit,
    Stage,
    Unit,
    label_key,
    recover_id,
)

_JOINT_KEY = re.compile(r"j(\d{7,})")
_CROSS_KEY = re.compile(r"i(\d{5,})-c(\d{5,})")
_LABEL_KEY = re.compile(r"g(\d{5,})-e(\d{5,})")
_MAX_UNITS = 10**8  # of a stage; to go through the names of more takes hours


@dataclass(frozen=True)
class Plan:
    """The units of a run, stage by stage; made of the config and the data's facts alone."""

    config: Config
    facts: DataFacts

    @property
    def image_sets(self) -> tuple[str, ...]:
        """Names of the image sets, in the config's order."""
        return tuple(self.config.image_sets)

    def num_images(self, image_set: str) -> int:
        return self.facts.num_classes * self.config.image_sets[image_set].ipc

    def num_batches(self, image_set: str) -> int:
        config = self.config.image_sets[image_set]
        if config.formation == "joint":
            return _ceil_div(self.num_images(image_set), config.images_per_batch)
        return self._num_rounds(config) * _ceil_div(self.facts.num_classes, _classes_per_batch(config))

    @staticmethod
    def _num_rounds(config: AnyImageSet) -> int:
        return _ceil_div(config.ipc, config.indices_per_round)

    def num_units(self, stage: Stage) -> int:
        """Return how many units `units(stage)` yields, without making them."""
        sets = self.image_sets
        if stage == "squeeze":
            return len(self.config.teachers.pool)
        if stage == "collect":
            return len(self.collections) * self._num_shards
        if stage == "recover":
            return sum(self.num_batches(name) for name in sets)
        if stage == "relabel":
            relabel = self.config.relabel
            ranges = _ceil_div(relabel.epochs, relabel.epochs_per_unit)
            return ranges * sum(self.num_groups(name) for name in sets)
        students = (
            len(self.config.sets_of(key)) * evaluation.num_students
            for key, evaluation in self.config.evaluations.items()
        )
        return len(sets) + sum(students)

    def check_size(self, origin: str) -> None:
        """Raise ConfigError if a stage has more units than anybody waits for; `origin` names the config."""
        for stage in STAGES:
            num_units = self.num_units(stage)
            if num_units > _MAX_UNITS:
                raise ConfigError(
                    f"{origin}: its settings make {num_units:,} units of {stage}, and a run can have "
                    f"{_MAX_UNITS:,}; lower ipc, num_students or epochs, or put more into a unit "
                    "(images_per_batch, relabel.epochs_per_unit, collect.classes_per_unit)"
                )

    def units(self, stage: Stage) -> Iterator[Unit]:
        """Yield the units of a stage in order."""
        if stage == "squeeze":
            yield from self.squeeze_units()
        elif stage == "collect":
            yield from self.collect_units()
        elif stage == "recover":
            for name in self.image_sets:
                yield from self.recover_units(name)
        elif stage == "relabel":
            for name in self.image_sets:
                yield from self.relabel_units(name)
        else:
            for name in self.image_sets:
                yield self.measure_unit(name)
            for key in self.config.evaluations:
                for name in self.config.sets_of(key):
                    yield from self.evaluate_units(name, key)

    def unit_ids(self, stage: Stage) -> Iterator[str]:
        """Yield the ids of `units(stage)`, without drawing teachers for batches."""
        if stage != "recover":
            yield from (unit.id for unit in self.units(stage))
            return
        for name in self.image_sets:
            yield from self.recover_ids(name)

    def squeeze_units(self) -> Iterator[SqueezeUnit]:
        for teacher in self.config.teachers.pool:
            yield SqueezeUnit(teacher.name, derive_seed(self.config.seed, "squeeze", teacher.name))

    @property
    def collections(self) -> tuple[tuple[CollectKind, str], ...]:
        """What is collected of the real images: kind and teacher, for all image sets together."""
        wanted: dict[tuple[CollectKind, str], None] = {}
        for config in self.config.image_sets.values():
            wanted |= dict.fromkeys(self.collections_of(config))
        return tuple(sorted(wanted))

    def collections_of(self, config: AnyImageSet) -> tuple[tuple[CollectKind, str], ...]:
        """What an image set needs collected."""
        wanted: list[tuple[CollectKind, str]] = []
        if config.init in ("median", "rded"):
            wanted.append((cast(CollectKind, config.init), config.primary))
        if isinstance(config, RecoverConfig):
            statistics = config.statistics
            if statistics.layers == "bn+conv" or statistics.class_share > 0.0:
                always = (config.primary,) if config.selection.include_primary else ()
                names = [*always, *self.config.candidates(config)]
                wanted += [("statistics", name) for name in names]
        return tuple(wanted)

    @property
    def _num_shards(self) -> int:
        return _ceil_div(self.facts.num_classes, self.config.collect.classes_per_unit)

    def collect_units(self) -> Iterator[CollectUnit]:
        for kind, teacher in self.collections:
            yield from self.collection(kind, teacher)

    def collection(self, kind: CollectKind, teacher: str) -> Iterator[CollectUnit]:
        """Yield the units of one collection, in the order of the classes."""
        size = self.config.collect.classes_per_unit
        for first in range(0, self.facts.num_classes, size):
            count = min(size, self.facts.num_classes - first)
            seed = derive_seed(self.config.seed, "collect", kind, teacher, first)
            yield CollectUnit(kind, teacher, first, count, seed)

    def recover_units(self, image_set: str) -> Iterator[RecoverUnit]:
        for number in range(self.num_batches(image_set)):
            yield self.batch(image_set, number)

    def recover_ids(self, image_set: str) -> Iterator[str]:
        """Yield the ids of `recover_units(image_set)`."""
        for number in range(self.num_batches(image_set)):
            yield recover_id(image_set, self.batch_key(image_set, number))

    def batch(self, image_set: str, number: int) -> RecoverUnit:
        """Return batch `number` of an image set."""
        config = self.config.image_sets[image_set]
        key = self.batch_key(image_set, number)
        if config.formation == "joint":
            first = self._first_joint_slot(image_set, number)
            last = min(first + config.images_per_batch, self.num_images(image_set))
            slots = tuple(Slot(*divmod(place, config.ipc)) for place in range(first, last))
            round_index = number
        else:
            round_index, classes = self._round_and_classes(config, number)
            first_index = round_index * config.indices_per_round
            last_index = min(first_index + config.indices_per_round, config.ipc)
            slots = tuple(Slot(label, index) for index in range(first_index, last_index) for label in classes)
        draws: tuple[tuple[str, ...], ...] = ()
        iterations = (0,) * len(slots)
        if isinstance(config, RecoverConfig):
            iterations = tuple(config.num_iterations(slot.ipc_index) for slot in slots)
            draws = self._draw(config, round_index, number, key, max(iterations))
        seed = derive_seed(self.config.seed, "recover", config.replicate, key)
        return RecoverUnit(image_set, key, slots, iterations, draws, seed)

    def batch_key(self, image_set: str, number: int) -> str:
        """Return the key of batch `number` of an image set, without its slots and its draws."""
        config = self.config.image_sets[image_set]
        if config.formation == "joint":
            return f"j{self._first_joint_slot(image_set, number):07d}"
        round_index, classes = self._round_and_classes(config, number)
        return f"i{round_index * config.indices_per_round:05d}-c{classes.start:05d}"

    def batch_number(self, image_set: str, key: str) -> int | None:
        """Return the number of the batch with a key, None if the image set has none; undoes `batch_key`."""
        config = self.config.image_sets[image_set]
        if config.formation == "joint":
            found = _JOINT_KEY.fullmatch(key)
            place = int(found[1]) // config.images_per_batch if found else 0
            count = self.num_batches(image_set)
            number = place * pow(_joint_step(count), -1, count) % count
        else:
            found = _CROSS_KEY.fullmatch(key)
            size = _classes_per_batch(config)
            round_index, chunk = (
                (int(found[1]) // config.indices_per_round, int(found[2]) // size) if found else (0, 0)
            )
            number = round_index * _ceil_div(self.facts.num_classes, size) + chunk
        known = found and number < self.num_batches(image_set) and self.batch_key(image_set, number) == key
        return number if known else None

    def _first_joint_slot(self, image_set: str, number: int) -> int:
        """Return where joint batch `number` begins among the slots in class order: golden section steps."""
        count = self.num_batches(image_set)
        place = number * _joint_step(count) % count
        return place * self.config.image_sets[image_set].images_per_batch

    def _round_and_classes(self, config: AnyImageSet, number: int) -> tuple[int, range]:
        """Return the round of a cross-class batch, and its chunk of classes."""
        size, num_classes = _classes_per_batch(config), self.facts.num_classes
        round_index, chunk = divmod(number, _ceil_div(num_classes, size))
        return round_index, range(chunk * size, min((chunk + 1) * size, num_classes))

    def _draw(
        self, config: RecoverConfig, round_index: int, number: int, key: str, num_iterations: int
    ) -> tuple[tuple[str, ...], ...]:
        redraw = config.selection.redraw
        own: tuple[str, ...] = ()
        num_draws, first = 1, round_index
        if redraw == "batch":
            own, first = ("batch",), number
        elif redraw != "round":
            own, num_draws, first = (key,), _ceil_div(num_iterations, redraw), 0
        parts: tuple[str | int, ...] = (self.config.seed, "teachers", config.replicate, *own)
        candidates = self.config.candidates(config)
        return draw_teachers(config, candidates, num_draws, lambda draw: derive_random(*parts, draw), first)

    def batches_per_group(self, image_set: str) -> int:
        """Whole batches that make a label group of about `relabel.images_per_group` images."""
        config = self.config.image_sets[image_set]
        if config.formation == "joint":
            size = min(config.images_per_batch, self.num_images(image_set))
        else:
            size = min(_classes_per_batch(config), self.facts.num_classes) * config.indices_per_round
        return max(1, self.config.relabel.images_per_group // size)

    def num_groups(self, image_set: str) -> int:
        """Label groups of an image set."""
        return _ceil_div(self.num_batches(image_set), self.batches_per_group(image_set))

    def group_batches(self, image_set: str, group: int) -> range:
        """Return the numbers of the batches of a label group."""
        size = self.batches_per_group(image_set)
        return range(group * size, min((group + 1) * size, self.num_batches(image_set)))

    def relabel_units(self, image_set: str) -> Iterator[RelabelUnit]:
        for group in range(self.num_groups(image_set)):
            yield from self.relabel_group(image_set, group)

    def relabel_group(self, image_set: str, group: int) -> Iterator[RelabelUnit]:
        """Yield the units of one label group, in the order of their epochs."""
        relabel = self.config.relabel
        numbers = self.group_batches(image_set, group)
        batch_ids = tuple(recover_id(image_set, self.batch_key(image_set, number)) for number in numbers)
        seed = derive_seed(self.config.seed, "relabel", group)
        for first_epoch in range(0, relabel.epochs, relabel.epochs_per_unit):
            num_epochs = min(relabel.epochs_per_unit, relabel.epochs - first_epoch)
            yield RelabelUnit(image_set, group, batch_ids, first_epoch, num_epochs, seed)

    def _label_place(self, image_set: str, key: str) -> tuple[int, int] | None:
        """Return group and first epoch of the label unit with a key, None if the image set has none."""
        found = _LABEL_KEY.fullmatch(key)
        if not found:
            return None
        group, first_epoch = int(found[1]), int(found[2])
        relabel = self.config.relabel
        known = group < self.num_groups(image_set) and first_epoch in range(
            0, relabel.epochs, relabel.epochs_per_unit
        )
        return (group, first_epoch) if known and label_key(group, first_epoch) == key else None

    def group_slots(self, image_set: str, group: int) -> Iterator[Slot]:
        """Yield the images of a label group, batch after batch."""
        for number in self.group_batches(image_set, group):
            yield from self.batch(image_set, number).slots

    def has(self, unit_id: str) -> bool:
        """True for the id of a batch or of a label unit of the plan; takes microseconds."""
        return self._place_of(unit_id) is not None

    def find(self, unit_id: str) -> RecoverUnit | RelabelUnit | None:
        """Return the batch or the label unit that has an id, None if there is none."""
        place = self._place_of(unit_id)
        if place is None:
            return None
        image_set, number, first_epoch = place
        if first_epoch is None:
            return self.batch(image_set, number)
        labels = self.relabel_group(image_set, number)
        return next(unit for unit in labels if unit.first_epoch == first_epoch)

    def _place_of(self, unit_id: str) -> tuple[str, int, int | None] | None:
        """Return image set, number of the batch or group, and of labels the first epoch."""
        stage, _, rest = unit_id.partition("/")
        image_set, _, key = rest.partition("/")
        if image_set not in self.config.image_sets:
            return None
        if stage == "recover":
            number = self.batch_number(image_set, key)
            return None if number is None else (image_set, number, None)
        place = self._label_place(image_set, key) if stage == "relabel" else None
        return None if place is None else (image_set, *place)

    def networks_of(self, unit: Unit) -> tuple[str, ...]:
        """Return the teachers that a unit needs loaded."""
        config = self.config
        if isinstance(unit, SqueezeUnit):
            return ()
        if isinstance(unit, CollectUnit):
            return (unit.teacher,)
        if isinstance(unit, RecoverUnit):
            return (config.image_sets[unit.image_set].primary, *unit.teachers) if unit.draws else ()
        if isinstance(unit, RelabelUnit):
            return config.label_teachers
        if isinstance(unit, MeasureUnit):
            return (config.feature_teacher, *config.analyze.verifiers)
        return (config.primary,)

    def evaluate_units(self, image_set: str, evaluation: str) -> Iterator[EvaluateUnit]:
        for student in range(self.config.evaluations[evaluation].num_students):
            seed = derive_seed(self.config.seed, "evaluate", student)
            yield EvaluateUnit(image_set, evaluation, student, seed)

    def measure_unit(self, image_set: str) -> MeasureUnit:
        return MeasureUnit(image_set, derive_seed(self.config.seed, "measure"))

    def estimated_image_bytes(self) -> int:
        """Bytes of all image sets: PNG of noisy images is about as large as the raw pixels."""
        pixels = self.facts.channels * self.config.data.image_size**2
        return sum(self.num_images(name) for name in self.image_sets) * (pixels + 200)

    def estimated_label_bytes(self) -> int:
        """Bytes of all soft labels: C float16 logits and about 33 bytes of view parameters each."""
        row = 2 * self.facts.num_classes + 33
        return sum(self.num_images(name) for name in self.image_sets) * self.config.relabel.epochs * row


def _classes_per_batch(config: AnyImageSet) -> int:
    return config.images_per_batch // config.indices_per_round


def _joint_step(count: int) -> int:
    """Return how far apart joint batches of neighbouring numbers are, of `count`."""
    return _coprime_near(count * (5**0.5 - 1) / 2, count)


def _coprime_near(target: float, count: int) -> int:
    """Return the number from 1 to `count` without a common divisor with it that is nearest to `target`."""
    low = high = round(target)
    while True:
        for step in (low, high):
            if step >= 1 and gcd(step, count) == 1:
                return step
        low, high = low - 1, high + 1


def _ceil_div(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)
