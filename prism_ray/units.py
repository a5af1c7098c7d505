"""The units of work of a run: what each is, how it is called, and which settings it answers to. Pure.

A unit's `scope` names the part of the settings that can change its result; fingerprint.py hashes it.
"""

from dataclasses import dataclass
from typing import Literal, cast

Stage = Literal["squeeze", "collect", "recover", "relabel", "evaluate"]
STAGES: tuple[Stage, ...] = ("squeeze", "collect", "recover", "relabel", "evaluate")

CollectKind = Literal["statistics", "median", "rded"]


@dataclass(frozen=True, order=True)
class Slot:
    """One image of a set: its class and its IPC index."""

    label: int
    ipc_index: int


@dataclass(frozen=True)
class SqueezeUnit:
    """Train one teacher of the pool, or bring in its pretrained weights."""

    teacher: str
    seed: int

    @property
    def id(self) -> str:
        return f"squeeze/{self.teacher}"


@dataclass(frozen=True)
class CollectUnit:
    """Pass the real images of a range of classes through a teacher.

    statistics: of its layers, over all and per class. median, rded: real images or patches by score.
    """

    kind: CollectKind
    teacher: str
    first_class: int
    num_classes: int
    seed: int

    @property
    def id(self) -> str:
        return f"collect/{self.kind}/{self.teacher}/c{self.first_class:05d}"


@dataclass(frozen=True)
class RecoverUnit:
    """Make one batch of images: by optimisation, or by selection."""

    image_set: str
    key: str
    slots: tuple[Slot, ...]
    iterations: tuple[int, ...]  # of each slot; all 0 for a selection
    draws: tuple[tuple[str, ...], ...]  # S, then S after each redraw; empty for a selection
    seed: int

    @property
    def id(self) -> str:
        return recover_id(self.image_set, self.key)

    @property
    def num_iterations(self) -> int:
        """Iterations of the loop; a slot of fewer joins later."""
        return max(self.iterations)

    @property
    def teachers(self) -> tuple[str, ...]:
        """Every teacher that is in any of the draws, in the order in which they first appear."""
        return tuple(dict.fromkeys(name for draw in self.draws for name in draw))


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
        return f"relabel/{self.image_set}/{label_key(self.group, self.first_epoch)}"


@dataclass(frozen=True)
class EvaluateUnit:
    """Train and test one student on one image set."""

    image_set: str
    evaluation: str
    student: int
    seed: int  # of the student: the same for every image set, so that sets are compared in pairs

    @property
    def id(self) -> str:
        return f"evaluate/{self.image_set}/{self.evaluation}/s{self.student:03d}"


@dataclass(frozen=True)
class MeasureUnit:
    """Measure the images of a set: diversity of their features, and what the verifiers say."""

    image_set: str
    seed: int

    @property
    def id(self) -> str:
        return f"measure/{self.image_set}"


def recover_id(image_set: str, key: str) -> str:
    """Return the id of a RecoverUnit."""
    return f"recover/{image_set}/{key}"


def label_key(group: int, first_epoch: int) -> str:
    """Return the last part of the id of a RelabelUnit."""
    return f"g{group:05d}-e{first_epoch:05d}"


Unit = SqueezeUnit | CollectUnit | RecoverUnit | RelabelUnit | EvaluateUnit | MeasureUnit


def stage_of(unit_id: str) -> Stage:
    """Return the stage that the unit with an id belongs to."""
    first = unit_id.partition("/")[0]
    return "evaluate" if first == "measure" else cast(Stage, first)


def scope_of(unit_id: str) -> str:
    """Return the scope of a unit from its id: all but the last part, or all of an id of two parts."""
    parts = unit_id.split("/")
    return unit_id if parts[0] in ("squeeze", "measure") else "/".join(parts[:-1])
