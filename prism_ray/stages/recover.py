"""recover: one unit makes one batch of images, by optimisation or by selection.

Seeds of batches do not depend on the name of the image set, so that sets are compared in pairs: same noise,
same crops.
"""

from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import Any

from prism_ray.config import Config, RecoverConfig
from prism_ray.seeds import derive_random, derive_seed
from prism_ray.stages.base import ALL, Basis, Scope, SettingsView, Stage, Within, set_folder
from prism_ray.stages.collect import collections_of, scope_of_collection
from prism_ray.stages.draws import draw_teachers
from prism_ray.stages.formation import Slot, ceil_div
from prism_ray.stages.squeeze import RUN, scope_of_teacher

ORDER = "order of teachers.pool"  # a draw picks by index among the teachers, and logits are summed in order


@dataclass(frozen=True)
class RecoverUnit:
    """One batch of images, to be made."""

    image_set: str  # name of the image set
    key: str  # of the batch within its image set
    slots: tuple[Slot, ...]  # images of the batch
    iterations: tuple[int, ...]  # of each slot; all 0 for a selection
    draws: tuple[tuple[str, ...], ...]  # S, then S after each redraw; empty for a selection
    seed: int  # of its random numbers

    @property
    def id(self) -> str:
        return batch_id(self.image_set, self.key)

    @property
    def num_iterations(self) -> int:
        """Iterations of the loop; a slot with fewer iterations joins later."""
        return max(self.iterations)

    @property
    def teachers(self) -> tuple[str, ...]:
        """The teachers that are in any of the draws, in the order of their first draw."""
        return tuple(dict.fromkeys(name for draw in self.draws for name in draw))


class RecoverStage(Stage):
    """The images."""

    name = "recover"
    help = "make the images (after collect)"
    after = "collect"
    waits_for = "stage"
    work = "prism_ray.work.recover:recover"
    folders = ("images", "sets")
    overlaps = True
    many = True
    checkpoints = True
    content = "prism_ray.run.content:fault_of_images"
    rows = "prism_ray.parts.images:image_rows"

    def count(self, basis: Basis) -> int:
        return sum(basis.formation(name).num_batches for name in basis.image_sets)

    def units(self, basis: Basis, within: Within = ALL) -> Iterator[RecoverUnit]:
        return self.missing(basis, (), within)

    def missing(self, basis: Basis, done: Container[str], within: Within = ALL) -> Iterator[RecoverUnit]:
        """Yield the units whose ids are not in `done`; teachers are drawn for these alone."""
        return (batch(basis, *index) for index, unit_id in _ids(basis, within) if unit_id not in done)

    def ids(self, basis: Basis, within: Within = ALL) -> Iterator[str]:
        return (unit_id for _, unit_id in _ids(basis, within))

    def find(self, basis: Basis, unit_id: str) -> RecoverUnit | None:
        number = _number(basis, unit_id)
        return None if number is None else batch(basis, unit_id.split("/")[1], number)

    def has(self, basis: Basis, unit_id: str) -> bool:
        return _number(basis, unit_id) is not None

    def scopes(self, basis: Basis, view: SettingsView, weights: dict[str, str]) -> Iterator[Scope]:
        config = basis.config
        for name, image_set in config.image_sets.items():
            needs = [scope_of_collection(*pair) for pair in collections_of(config, image_set)]
            settings: dict[str, Any]
            if isinstance(image_set, RecoverConfig):
                candidates = config.candidates(image_set)
                supervisors = dict.fromkeys([image_set.primary, *candidates])
                needs += [scope_of_teacher(teacher) for teacher in supervisors]
                settings = {"recover": view("recover", image_set), ORDER: list(candidates)}
            else:
                settings = {"recover": view("select", image_set)}
            yield Scope(f"recover/{name}", settings, (RUN, *needs))

    def teachers(self, basis: Basis, unit: RecoverUnit) -> tuple[str, ...]:
        primary = basis.config.image_sets[unit.image_set].primary
        return (primary, *unit.teachers) if unit.draws else ()


STAGE = RecoverStage()


def batch(basis: Basis, image_set: str, number: int) -> RecoverUnit:
    """Return batch `number` of an image set."""
    config, formation = basis.config.image_sets[image_set], basis.formation(image_set)
    key, slots = formation.key(number), formation.slots(number)
    draws: tuple[tuple[str, ...], ...] = ()
    iterations = (0,) * len(slots)
    if isinstance(config, RecoverConfig):
        iterations = tuple(config.num_iterations(slot.ipc_index) for slot in slots)
        draws = _draw(basis.config, config, formation.round_of(number), number, key, max(iterations))
    seed = derive_seed(basis.config.seed, "recover", config.replicate, key)
    return RecoverUnit(image_set, key, slots, iterations, draws, seed)


def _draw(
    config: Config, image_set: RecoverConfig, round_index: int, number: int, key: str, num_iterations: int
) -> tuple[tuple[str, ...], ...]:
    redraw = image_set.selection.redraw
    parts: tuple[str | int, ...] = (config.seed, "teachers", image_set.replicate)
    num_draws, first = 1, round_index
    if redraw == "batch":
        parts, first = (*parts, "batch"), number
    elif redraw != "round":
        parts, num_draws, first = (*parts, key), ceil_div(num_iterations, redraw), 0
    candidates = config.candidates(image_set)
    return draw_teachers(image_set, candidates, num_draws, lambda draw: derive_random(*parts, draw), first)


def _ids(basis: Basis, within: Within) -> Iterator[tuple[tuple[str, int], str]]:
    """Yield image set and number of each batch, and its id."""
    for name in within.image_sets(basis):
        formation = basis.formation(name)
        every = range(formation.num_batches)
        for number in every if within.group is None else formation.group(within.group):
            yield (name, number), batch_id(name, formation.key(number))


def _number(basis: Basis, unit_id: str) -> int | None:
    """Return the number of the batch with an id, None if there is none, within microseconds."""
    _, _, rest = unit_id.partition("/")
    image_set, _, key = rest.partition("/")
    return basis.formation(image_set).number(key) if image_set in basis.config.image_sets else None


def batch_id(image_set: str, key: str) -> str:
    """Return the id of a RecoverUnit."""
    return f"recover/{image_set}/{key}"


def image_part(unit: RecoverUnit, attempt: int) -> str:
    return f"{set_folder(unit.image_set)}images/part-{unit.key}-{attempt}.parquet"


def image_file(unit: RecoverUnit, slot: Slot, attempt: int) -> str:
    return f"{set_folder(unit.image_set)}images/{slot.label:05d}/{slot.ipc_index:05d}-{attempt}.png"
