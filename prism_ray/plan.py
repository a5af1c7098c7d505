"""Config -> Plan: which units of work a run has, with their keys, slots, teacher draws and seeds.

Pure: everything derives from the config and the facts of the data by arithmetic and hashing, lazily, so a
plan of a million batches takes no memory. Which actor does a unit, in which order and how often it was
tried is the scheduler's business and cannot change anything here. No torch, no Ray.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from prism_ray.config import Config
from prism_ray.data import DataFacts
from prism_ray.seeds import derive_random, derive_seed

# Raise this when a change of the code changes the bytes that a config leads to.
PLAN_VERSION = 1

Stage = Literal["squeeze", "recover", "relabel", "evaluate"]
STAGES: tuple[Stage, ...] = ("squeeze", "recover", "relabel", "evaluate")

DISTILLED = "distilled"
RANDOM_REAL = "random-real"
# The recovered images, then the controls that are labelled and evaluated exactly like them.
IMAGE_SETS = (DISTILLED, RANDOM_REAL)

# Settings that cannot change a pixel, a label or a student: where things are, how the work is spread, and
# how many students there are, each of which has a seed of its own.
_FREE_KEYS = {
    "": {"store", "orchestrate"},
    "evaluate": {"seeds"},
    "data": {"path", "test_path", "download", "num_classes"},
}


@dataclass(frozen=True, order=True)
class Slot:
    """One image of the set: its class and its IPC index."""

    label: int
    ipc_index: int


@dataclass(frozen=True)
class SqueezeUnit:
    """Train one teacher of the pool."""

    teacher: str
    seed: int

    @property
    def id(self) -> str:
        return f"squeeze/{self.teacher}"


@dataclass(frozen=True)
class RecoverUnit:
    """Make one cross-class batch of images: by optimisation, or for a control by selection."""

    image_set: str
    key: str
    slots: tuple[Slot, ...]
    bn_teachers: tuple[str, ...]  # S of the objective, the primary first; empty for a control
    num_iterations: int  # 0 for a control
    seed: int

    @property
    def id(self) -> str:
        return f"recover/{self.image_set}/{self.key}"


@dataclass(frozen=True)
class RelabelUnit:
    """Label a group of batches in a range of epochs."""

    image_set: str
    group: int
    batch_ids: tuple[str, ...]  # ids of the RecoverUnits whose images form the group
    first_epoch: int
    num_epochs: int
    seed: int  # of the group: views depend on it and on the epoch, not on the unit's range

    @property
    def id(self) -> str:
        return f"relabel/{self.image_set}/g{self.group:05d}-e{self.first_epoch:05d}"


@dataclass(frozen=True)
class EvaluateUnit:
    """Train and test one student on one image set."""

    image_set: str
    student: int
    seed: int  # of the student: the same for every image set, so that sets are compared in pairs

    @property
    def id(self) -> str:
        return f"evaluate/{self.image_set}/s{self.student:03d}"


Unit = SqueezeUnit | RecoverUnit | RelabelUnit | EvaluateUnit


@dataclass(frozen=True)
class Plan:
    """The units of a run, stage by stage; made of the config and the data's facts alone."""

    config: Config
    facts: DataFacts

    @property
    def num_rounds(self) -> int:
        """Rounds of IPC indices; a round draws its BN teachers once."""
        return _ceil_div(self.config.recover.ipc, self.config.recover.ipc_indices_per_batch)

    @property
    def num_chunks(self) -> int:
        """Class chunks, that is, batches per round."""
        return _ceil_div(self.facts.num_classes, self.config.recover.classes_per_batch)

    @property
    def num_batches(self) -> int:
        """Batches of one image set."""
        return self.num_rounds * self.num_chunks

    @property
    def num_images(self) -> int:
        """Images of one image set."""
        return self.facts.num_classes * self.config.recover.ipc

    @property
    def batches_per_group(self) -> int:
        recover = self.config.recover
        classes = min(recover.classes_per_batch, self.facts.num_classes)
        images_per_batch = classes * min(recover.ipc_indices_per_batch, recover.ipc)
        return max(1, self.config.relabel.images_per_group // images_per_batch)

    @property
    def num_groups(self) -> int:
        """Label groups of one image set."""
        return _ceil_div(self.num_batches, self.batches_per_group)

    def num_units(self, stage: Stage) -> int:
        """Return how many units `units(stage)` yields, without making them."""
        relabel = self.config.relabel
        ranges = _ceil_div(relabel.epochs, relabel.epochs_per_unit)
        return {
            "squeeze": len(self.config.teachers.pool),
            "recover": len(IMAGE_SETS) * self.num_batches,
            "relabel": len(IMAGE_SETS) * self.num_groups * ranges,
            "evaluate": len(IMAGE_SETS) * self.config.evaluate.seeds,
        }[stage]

    def units(self, stage: Stage) -> Iterator[Unit]:
        """Yield the units of a stage in order."""
        if stage == "squeeze":
            yield from self.squeeze_units()
        elif stage == "recover":
            for image_set in IMAGE_SETS:
                yield from self.recover_units(image_set)
        elif stage == "relabel":
            for image_set in IMAGE_SETS:
                yield from self.relabel_units(image_set)
        else:
            for image_set in IMAGE_SETS:
                yield from self.evaluate_units(image_set)

    def squeeze_units(self) -> Iterator[SqueezeUnit]:
        for teacher in self.config.teachers.pool:
            yield SqueezeUnit(teacher.name, derive_seed(self.config.seed, "squeeze", teacher.name))

    def recover_units(self, image_set: str) -> Iterator[RecoverUnit]:
        for number in range(self.num_batches):
            yield self.batch(image_set, number)

    def batch(self, image_set: str, number: int) -> RecoverUnit:
        """Return batch `number` of an image set: a round of IPC indices x a chunk of classes."""
        recover = self.config.recover
        round_index, chunk = divmod(number, self.num_chunks)
        first_index = round_index * recover.ipc_indices_per_batch
        last_index = min(first_index + recover.ipc_indices_per_batch, recover.ipc)
        first_class = chunk * recover.classes_per_batch
        last_class = min(first_class + recover.classes_per_batch, self.facts.num_classes)
        key = f"i{first_index:05d}-c{first_class:05d}"
        optimised = image_set == DISTILLED
        return RecoverUnit(
            image_set=image_set,
            key=key,
            slots=tuple(
                Slot(label, ipc_index)
                for ipc_index in range(first_index, last_index)
                for label in range(first_class, last_class)
            ),
            bn_teachers=self.draw_bn_teachers(round_index) if optimised else (),
            num_iterations=recover.num_iterations(round_index) if optimised else 0,
            seed=derive_seed(self.config.seed, "recover", image_set, key),
        )

    def draw_bn_teachers(self, round_index: int) -> tuple[str, ...]:
        """Draw S for a round: the primary, then each extra slot filled with the inclusion probability.

        A filled slot takes one of the teachers that are left, each with equal probability.
        """
        recover = self.config.recover
        rng = derive_random(self.config.seed, "teachers", round_index)
        left = list(self.config.extra_bn_teachers)
        drawn = [recover.primary]
        for _ in range(min(recover.extra_slots, len(left))):
            fill, which = rng.random(), rng.random()
            if fill < recover.inclusion_probability:
                drawn.append(left.pop(int(which * len(left))))
        return tuple(drawn)

    def relabel_units(self, image_set: str) -> Iterator[RelabelUnit]:
        relabel = self.config.relabel
        for group in range(self.num_groups):
            first = group * self.batches_per_group
            last = min(first + self.batches_per_group, self.num_batches)
            batch_ids = tuple(self.batch(image_set, number).id for number in range(first, last))
            seed = derive_seed(self.config.seed, "relabel", group)  # paired: the same views for every set
            for first_epoch in range(0, relabel.epochs, relabel.epochs_per_unit):
                num_epochs = min(relabel.epochs_per_unit, relabel.epochs - first_epoch)
                yield RelabelUnit(image_set, group, batch_ids, first_epoch, num_epochs, seed)

    def evaluate_units(self, image_set: str) -> Iterator[EvaluateUnit]:
        for student in range(self.config.evaluate.seeds):
            seed = derive_seed(self.config.seed, "evaluate", student)
            yield EvaluateUnit(image_set, student, seed)

    def estimated_image_bytes(self) -> int:
        """Bytes of all image sets: PNG of noisy images is about as large as the raw pixels."""
        pixels = self.facts.channels * self.config.data.image_size**2
        return len(IMAGE_SETS) * self.num_images * (pixels + 200)

    def estimated_label_bytes(self) -> int:
        """Bytes of all soft labels: C float16 logits and about 33 bytes of view parameters each."""
        row = 2 * self.facts.num_classes + 33
        return len(IMAGE_SETS) * self.num_images * self.config.relabel.epochs * row


def fingerprint_inputs(config: Config, facts: DataFacts, num_threads: int) -> dict[str, Any]:
    """Return everything that can change a pixel or a label, as plain data."""
    settings = config.model_dump(mode="json")
    for section, keys in _FREE_KEYS.items():
        for key in keys:
            del (settings[section] if section else settings)[key]
    return {
        **settings,
        "orchestrate": {"threads_per_actor": num_threads},
        "data_facts": asdict(facts),
        "plan_version": PLAN_VERSION,
    }


def fingerprint(inputs: dict[str, Any]) -> str:
    """Return the SHA-256 (hex) of `fingerprint_inputs`, independent of the order of keys."""
    text = json.dumps(inputs, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def differences(old: Any, new: Any, key: str = "") -> list[str]:
    """Say in one line each where two fingerprint inputs differ, for a person to read."""
    if isinstance(old, dict) and isinstance(new, dict):
        lines = []
        for name in sorted(old.keys() | new.keys()):
            inner = f"{key}.{name}" if key else name
            if name in old and name in new:
                lines += differences(old[name], new[name], inner)
            elif name in old:
                lines.append(f"{inner}: the store has {old[name]!r}, now nothing")
            else:
                lines.append(f"{inner}: the store has nothing, now {new[name]!r}")
        return lines
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return [line for i, (a, b) in pairs for line in differences(a, b, f"{key}.{i}")]
    return [] if json.dumps(old) == json.dumps(new) else [f"{key}: the store has {old!r}, now {new!r}"]


def _ceil_div(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)
