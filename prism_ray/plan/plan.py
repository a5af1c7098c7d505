"""The plan of a run: its units of work with their keys, slots, teacher draws and seeds.

Pure: everything derives from the config and the facts of the data by arithmetic and hashing. Units are made
lazily, so a plan of a million batches takes no memory. The scheduler decides which actor does a unit, in
which order and how often it is tried; that changes nothing here. No torch, no Ray.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from prism_ray.errors import ConfigError
from prism_ray.stages import Basis, Unit, Within, find_stage, stage_names, stage_of, stages

_IMAGE_BYTES, _FILE_BYTES = 200, 6000  # of headers and metadata, of an image and of a batch's file
_MAX_UNITS = 10**8  # of a stage; going through the ids of more takes hours


@dataclass(frozen=True)
class Plan(Basis):
    """The units of a run, stage by stage.

    >>> plan = Plan(config, facts)
    >>> plan.num_units("recover"), next(plan.units("recover", "distilled")).id
    (10, 'recover/distilled/i00000-c00000')
    """

    def num_units(self, stage: str) -> int:
        """Return how many units `units(stage)` yields, without making them."""
        return find_stage(stage).count(self)

    def units(self, stage: str, image_set: str | None = None) -> Iterator[Unit]:
        """Yield the units of a stage in order: all, or those of one image set."""
        return find_stage(stage).units(self, Within(image_set))

    def unit_ids(self, stage: str, image_set: str | None = None) -> Iterator[str]:
        """Yield the ids of `units(stage, image_set)`, which is faster."""
        return find_stage(stage).ids(self, Within(image_set))

    def find(self, unit_id: str) -> Unit | None:
        """Return the unit with an id, None if there is none; microseconds in stages of many units."""
        name = stage_of(unit_id)
        return find_stage(name).find(self, unit_id) if name in stage_names() else None

    def has(self, unit_id: str) -> bool:
        """Return whether the plan has a unit with an id."""
        name = stage_of(unit_id)
        return name in stage_names() and find_stage(name).has(self, unit_id)

    def teachers_of(self, unit: Unit) -> tuple[str, ...]:
        """Return the names of the teachers that a unit needs loaded."""
        return find_stage(stage_of(unit.id)).teachers(self, unit)

    def check_size(self, origin: str) -> None:
        """Raise ConfigError if a stage has more than 10^8 units; `origin` names the config."""
        for stage in stages():
            num_units = stage.count(self)
            if num_units > _MAX_UNITS:
                raise ConfigError(
                    f"{origin}: its settings make {num_units:,} units of {stage.name}, and a run can have "
                    f"{_MAX_UNITS:,}; lower ipc, num_students or epochs, or put more into a unit "
                    "(images_per_batch, relabel.epochs_per_unit, collect.classes_per_unit)"
                )

    def estimated_image_bytes(self, image_set: str | None = None) -> int:
        """Return about how many bytes an image set takes, by default all: PNG of noise is about as large as
        its pixels.
        """
        pixels = self.facts.channels * self.config.data.image_size**2
        names = self.image_sets if image_set is None else (image_set,)
        num_images = sum(self.num_images(name) for name in names)
        num_batches = sum(self.formation(name).num_batches for name in names)
        return num_images * (pixels + _IMAGE_BYTES) + num_batches * _FILE_BYTES
