"""collect: one unit passes the real images of a range of classes through one teacher.

There are three kinds: `statistics` of the teacher's layers, over all images and per class; `median` and
`rded`, real images or patches with the teacher's score.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast

from prism_ray.config import AnyImageSet, Config, RecoverConfig
from prism_ray.seeds import derive_seed
from prism_ray.stages.base import ALL, Basis, Scope, SettingsView, Stage, Within, key_of
from prism_ray.stages.squeeze import scope_of_teacher

CollectKind = Literal["statistics", "median", "rded"]

_SHARDS = ("classes_per_unit", "batch_size")
_RDED = ("images_per_class", "crops_per_image", "crop_scale", "patches_per_side")
_KEYS: dict[CollectKind, tuple[str, ...]] = {  # of `collect`, that a collection of a kind depends on
    "statistics": (*_SHARDS, "images_per_class", "crop_from", "crop_scale", "flip", "patch_size"),
    "median": (*_SHARDS, "images_per_class"),
    "rded": (*_SHARDS, "crop_from", *(f"rded_{key}" for key in _RDED)),
}


@dataclass(frozen=True)
class CollectUnit:
    """The real images of a range of classes, to be passed through a teacher."""

    kind: CollectKind
    teacher: str
    first_class: int
    num_classes: int
    seed: int

    @property
    def id(self) -> str:
        return f"{scope_of_collection(self.kind, self.teacher)}/c{self.first_class:05d}"

    @property
    def classes(self) -> range:
        return range(self.first_class, self.first_class + self.num_classes)


class CollectStage(Stage):
    """One pass over the real images, for the methods that need one."""

    name = "collect"
    help = "pass the real images through the teachers, for methods that need it (after squeeze)"
    after = "squeeze"
    waits_for = "stage"
    work = "prism_ray.work.collect:collect"
    folders = ("collected",)

    def units(self, basis: Basis, within: Within = ALL) -> Iterator[CollectUnit]:
        for kind, teacher in collections(basis, within.image_set):
            yield from collection(basis, kind, teacher)

    def scopes(self, basis: Basis, view: SettingsView, weights: dict[str, str]) -> Iterator[Scope]:
        for kind, teacher in collections(basis):
            settings = {"collect": view("collect", basis.config.collect, only=_KEYS[kind])}
            yield Scope(scope_of_collection(kind, teacher), settings, (scope_of_teacher(teacher),))

    def teachers(self, basis: Basis, unit: CollectUnit) -> tuple[str, ...]:
        return (unit.teacher,)

    def num_files(self, unit_id: str) -> int:
        return 2 if unit_id.startswith("collect/statistics/") else 1

    def smaller(self, config: Config, unit: CollectUnit) -> str:
        return f"lower collect.batch_size (now {config.collect.batch_size})"


STAGE = CollectStage()


def scope_of_collection(kind: CollectKind, teacher: str) -> str:
    """Return the scope of one collection."""
    return f"collect/{kind}/{teacher}"


def collections(basis: Basis, image_set: str | None = None) -> list[tuple[CollectKind, str]]:
    """Return what is collected for all image sets together, or for one: pairs of kind and teacher."""
    config = basis.config
    if image_set is not None:
        return collections_of(config, config.image_sets[image_set])
    return sorted({pair for one in config.image_sets.values() for pair in collections_of(config, one)})


def collections_of(config: Config, image_set: AnyImageSet) -> list[tuple[CollectKind, str]]:
    """Return what one image set needs collected: pairs of kind and teacher."""
    wanted: list[tuple[CollectKind, str]] = []
    if image_set.init in ("median", "rded"):
        wanted.append((cast(CollectKind, image_set.init), image_set.primary))
    if isinstance(image_set, RecoverConfig):
        statistics = image_set.statistics
        if statistics.layers == "bn+conv" or statistics.class_share > 0.0:
            always = (image_set.primary,) if image_set.selection.include_primary else ()
            wanted += [("statistics", name) for name in (*always, *config.candidates(image_set))]
    return wanted


def collection(basis: Basis, kind: CollectKind, teacher: str) -> Iterator[CollectUnit]:
    """Yield the units of one collection, in the order of the classes."""
    size, num_classes = basis.config.collect.classes_per_unit, basis.facts.num_classes
    for first in range(0, num_classes, size):
        seed = derive_seed(basis.config.seed, "collect", kind, teacher, first)
        yield CollectUnit(kind, teacher, first, min(size, num_classes - first), seed)


def collected_part(unit: CollectUnit, what: str, attempt: int) -> str:
    return f"collected/{unit.kind}/{unit.teacher}/{what}-{key_of(unit.id)}-{attempt}.safetensors"
