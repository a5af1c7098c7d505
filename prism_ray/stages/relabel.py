"""relabel: one unit makes the soft labels of one group of images in a range of epochs."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from prism_ray.config import Config
from prism_ray.seeds import derive_seed
from prism_ray.stages.base import ALL, Basis, Scope, SettingsView, Stage, Within, key_of, set_folder
from prism_ray.stages.formation import ceil_div
from prism_ray.stages.recover import ORDER, batch_id
from prism_ray.stages.squeeze import scope_of_teacher

_KEY = re.compile(r"g(\d{5,})-e(\d{5,})")


@dataclass(frozen=True)
class RelabelUnit:
    """A group of batches, to be labelled in a range of epochs."""

    image_set: str
    group: int
    batch_ids: tuple[str, ...]  # ids of the RecoverUnits whose images form the group
    first_epoch: int
    num_epochs: int
    seed: int  # of the group: views depend on it and on the epoch, not on the unit's range

    @property
    def id(self) -> str:
        return f"relabel/{self.image_set}/{label_key(self.group, self.first_epoch)}"


class RelabelStage(Stage):
    """The soft labels."""

    name = "relabel"
    help = "make the soft labels (after recover)"
    after = "recover"
    waits_for = "group"
    work = "prism_ray.work.relabel:relabel"
    folders = ("labels", "sets")
    overlaps = True
    many = True
    labels = True
    content = "prism_ray.run.content:fault_of_labels"
    rows = "prism_ray.parts.labels:label_rows"

    def count(self, basis: Basis) -> int:
        relabel = basis.config.relabel
        if relabel.mode == "online":
            return 0
        ranges = ceil_div(relabel.num_label_epochs, relabel.epochs_per_unit)
        return ranges * sum(basis.formation(name).num_groups for name in basis.image_sets)

    def units(self, basis: Basis, within: Within = ALL) -> Iterator[RelabelUnit]:
        if basis.config.relabel.mode == "online":
            return
        for name in within.image_sets(basis):
            every = range(basis.formation(name).num_groups)
            for group in every if within.group is None else (within.group,):
                yield from _group(basis, name, group)

    def find(self, basis: Basis, unit_id: str) -> RelabelUnit | None:
        found = _find(basis, unit_id)
        return next(unit for unit in _group(basis, *found) if unit.id == unit_id) if found else None

    def has(self, basis: Basis, unit_id: str) -> bool:
        return _find(basis, unit_id) is not None

    def scopes(self, basis: Basis, view: SettingsView, weights: dict[str, str]) -> Iterator[Scope]:
        config = basis.config
        settings: dict[str, Any] = {"relabel": view("relabel", config.relabel)}
        if config.relabel.teachers == "pool":
            settings[ORDER] = list(config.label_teachers)
        labellers = [scope_of_teacher(teacher) for teacher in config.label_teachers]
        for name in config.image_sets:
            yield Scope(f"relabel/{name}", settings, (f"recover/{name}", *labellers))

    def teachers(self, basis: Basis, unit: RelabelUnit) -> tuple[str, ...]:
        return basis.config.label_teachers

    def smaller(self, config: Config, unit: RelabelUnit) -> str:
        return (
            f"lower relabel.teacher_batch_size (now {config.relabel.teacher_batch_size}) or "
            f"relabel.images_per_group (now {config.relabel.images_per_group})"
        )


STAGE = RelabelStage()


def _group(basis: Basis, image_set: str, group: int) -> Iterator[RelabelUnit]:
    """Yield the units of one label group, in the order of their epochs."""
    relabel, formation = basis.config.relabel, basis.formation(image_set)
    batch_ids = tuple(batch_id(image_set, formation.key(number)) for number in formation.group(group))
    seed = group_seed(basis, group)
    for first_epoch in range(0, relabel.num_label_epochs, relabel.epochs_per_unit):
        num_epochs = min(relabel.epochs_per_unit, relabel.num_label_epochs - first_epoch)
        yield RelabelUnit(image_set, group, batch_ids, first_epoch, num_epochs, seed)


def group_seed(basis: Basis, group: int) -> int:
    """Return the seed of a group's views, whatever its image set."""
    return derive_seed(basis.config.seed, "relabel", group)


def _find(basis: Basis, unit_id: str) -> tuple[str, int] | None:
    """Return image set and group of the unit with an id, None if there is none."""
    _, _, rest = unit_id.partition("/")
    image_set, _, key = rest.partition("/")
    found = _KEY.fullmatch(key)
    relabel = basis.config.relabel
    if not found or image_set not in basis.config.image_sets or relabel.mode == "online":
        return None
    group, first_epoch = int(found[1]), int(found[2])
    first_epochs = range(0, relabel.num_label_epochs, relabel.epochs_per_unit)
    known = group < basis.formation(image_set).num_groups and first_epoch in first_epochs
    return (image_set, group) if known and label_key(group, first_epoch) == key else None


def label_key(group: int, first_epoch: int) -> str:
    """Return the last part of the id of a RelabelUnit."""
    return f"g{group:05d}-e{first_epoch:05d}"


def label_part(unit: RelabelUnit, attempt: int) -> str:
    return f"{set_folder(unit.image_set)}labels/part-{key_of(unit.id)}-{attempt}.parquet"
