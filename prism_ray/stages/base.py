"""The interface of a stage, and the facts that every stage derives its units from. Pure; no torch, no Ray.

Each stage is one object of a subclass of `Stage`, in a module of its own. Plan, fingerprint, flow, actors,
worker, ledger and command line read what they need from that object and know no stage by name.
"""

from abc import ABC, abstractmethod
from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from prism_ray.config import DISTILLED, Config
from prism_ray.config.base import Section
from prism_ray.data import DataFacts
from prism_ray.stages.formation import Formation


class Unit(Protocol):
    """The smallest piece of work: done by one actor, finished by one commit."""

    @property
    def id(self) -> str:
        """`<stage>/<name>` or `<stage>/<...>/<key>`; unique in a run, and the name of its commit."""

    @property
    def seed(self) -> int:
        """Seed of everything random in the unit."""


@dataclass(frozen=True)
class Basis:
    """The config of a run and the facts of its data: all units derive from them."""

    config: Config
    facts: DataFacts

    @property
    def image_sets(self) -> tuple[str, ...]:
        """Names of the image sets, in the order of the config."""
        return tuple(self.config.image_sets)

    def formation(self, image_set: str) -> Formation:
        """Return how the images of a set are cut into batches and groups."""
        images_per_group = self.config.relabel.images_per_group
        return Formation(self.config.image_sets[image_set], self.facts.num_classes, images_per_group)

    def num_images(self, image_set: str) -> int:
        """Return the number of images of a set."""
        return self.facts.num_classes * self.config.image_sets[image_set].ipc


@dataclass(frozen=True)
class Within:
    """The piece of a run whose units are wanted: all of it, an image set, or a label group of an image set.

    >>> next(find_stage("relabel").units(plan, Within("distilled", group=2))).id
    'relabel/distilled/g00002-e00000'
    """

    image_set: str | None = None
    group: int | None = None

    def image_sets(self, basis: Basis) -> tuple[str, ...]:
        """Return the names of the image sets in this piece."""
        return basis.image_sets if self.image_set is None else (self.image_set,)


ALL = Within()


class SettingsView(Protocol):
    """A function that writes settings into a scope: see `prism_ray.plan.versions`."""

    def __call__(
        self, section: str, values: Section, *, only: Container[str] | None = None, free: Container[str] = ()
    ) -> dict[str, Any]:
        """Return the settings of a section that count, as plain data; `free` ones never do."""


@dataclass(frozen=True)
class Scope:
    """A part of a run whose results depend on the same settings, and on the same other scopes."""

    name: str
    settings: dict[str, Any]  # plain data
    needs: tuple[str, ...]  # names of the scopes that it builds on


class Stage(ABC):
    """One kind of work of a run. A subclass sets the attributes and defines the units."""

    name: str  # also the first part of the ids of its units, and its command
    help: str  # what the command does, for --help
    after: str | None  # the stage whose units it builds on
    waits_for: Literal["stage", "group", "image set"]  # whose units there must be done before one can begin
    work: str  # module:function that does a unit on a device, see prism_ray.work
    folders: tuple[str, ...]  # of the store, in which its parts are
    overlaps: bool = False  # it runs beside other stages that overlap; otherwise each ends before the next
    many: bool = False  # it may have a million units: one waits at each actor, the ledger lists them
    shares: bool = False  # several of its units can have the place of an actor (students_per_actor)
    checkpoints: bool = False  # its units keep a checkpoint in wip/ while they run
    labels: bool = False  # actors kept for labels (orchestrate.label_actors) take its units first
    content: str | None = None  # module:function that checks the contents of a unit's files for `verify`
    rows: str | None = None  # module:function that tells `compact` how to merge its Parquet files

    def count(self, basis: Basis) -> int:
        """Return how many units there are; a stage of many counts them without making them."""
        return sum(1 for _ in self.units(basis))

    @abstractmethod
    def units(self, basis: Basis, within: Within = ALL) -> Iterator[Unit]:
        """Yield the units in order."""

    def missing(self, basis: Basis, done: Container[str], within: Within = ALL) -> Iterator[Unit]:
        """Yield the units whose ids are not in `done`."""
        return (unit for unit in self.units(basis, within) if unit.id not in done)

    def ids(self, basis: Basis, within: Within = ALL) -> Iterator[str]:
        """Yield the ids of `units`."""
        return (unit.id for unit in self.units(basis, within))

    def find(self, basis: Basis, unit_id: str) -> Unit | None:
        """Return the unit with an id, None if there is none."""
        return next((unit for unit in self.units(basis) if unit.id == unit_id), None)

    def has(self, basis: Basis, unit_id: str) -> bool:
        """Return whether there is a unit with an id."""
        return self.find(basis, unit_id) is not None

    @abstractmethod
    def scopes(self, basis: Basis, view: SettingsView, weights: dict[str, str]) -> Iterator[Scope]:
        """Yield the scopes of the units, those that others need first.

        `weights` has the SHA-256 of each file of weights that the config names, by teacher.
        """

    @abstractmethod
    def teachers(self, basis: Basis, unit: Any) -> tuple[str, ...]:
        """Return the names of the teachers that a unit needs loaded."""

    def num_files(self, unit_id: str) -> int:
        """Return the smallest number of files that a commit of the unit names."""
        return 1

    def smaller(self, config: Config, unit: Any) -> str | None:
        """Return how a unit can need less memory, for example `lower a.b (now 3)`; None if nothing helps."""
        return None


def set_folder(image_set: str) -> str:
    """Return the folder of an image set with a slash at its end; the set `distilled` has none of its own."""
    return "" if image_set == DISTILLED else f"sets/{image_set}/"


def key_of(unit_id: str) -> str:
    """Return the last part of an id, which is unique in the unit's scope."""
    return unit_id.rpartition("/")[2]


def stage_of(unit_id: str) -> str:
    """Return the name of the stage that a unit belongs to, from its id."""
    return unit_id.partition("/")[0]


def scope_of(unit_id: str) -> str:
    """Return the name of a unit's scope, from its id: an id of two parts itself, else all but its last part.

    >>> scope_of("squeeze/resnet"), scope_of("recover/distilled/i00000-c00000")
    ('squeeze/resnet', 'recover/distilled')
    """
    first, _, last = unit_id.rpartition("/")
    return first if "/" in first else f"{first}/{last}"
