"""measure: one unit measures the images of one set: their diversity, and the accuracy of the verifiers."""

from collections.abc import Iterator
from dataclasses import dataclass

from prism_ray.seeds import derive_seed
from prism_ray.stages.base import ALL, Basis, Scope, SettingsView, Stage, Within
from prism_ray.stages.squeeze import scope_of_teacher


@dataclass(frozen=True)
class MeasureUnit:
    """One image set, to be measured: the diversity of its features, the accuracy of the verifiers."""

    image_set: str
    seed: int

    @property
    def id(self) -> str:
        return f"measure/{self.image_set}"


class MeasureStage(Stage):
    """The measures of the images."""

    name = "measure"
    help = "measure the diversity of the images and the verifiers' accuracy (after recover)"
    after = "recover"
    waits_for = "image set"
    work = "prism_ray.work.measure:measure"
    folders = ("measures",)
    overlaps = True
    labels = True

    def units(self, basis: Basis, within: Within = ALL) -> Iterator[MeasureUnit]:
        seed = derive_seed(basis.config.seed, "measure")
        return (MeasureUnit(name, seed) for name in within.image_sets(basis))

    def scopes(self, basis: Basis, view: SettingsView, weights: dict[str, str]) -> Iterator[Scope]:
        settings = {"analyze": view("analyze", basis.config.analyze)}
        judges = [scope_of_teacher(judge) for judge in dict.fromkeys(_judges(basis))]
        for name in basis.image_sets:
            yield Scope(f"measure/{name}", settings, (f"recover/{name}", *judges))

    def teachers(self, basis: Basis, unit: MeasureUnit) -> tuple[str, ...]:
        return _judges(basis)


STAGE = MeasureStage()


def _judges(basis: Basis) -> tuple[str, ...]:
    return (basis.config.feature_teacher, *basis.config.analyze.verifiers)


def measure_card(unit: MeasureUnit, attempt: int) -> str:
    return f"measures/{unit.image_set}-{attempt}.json"
