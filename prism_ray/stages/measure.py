"""measure: one unit measures the images of one set: how diverse they are, and what the verifiers say."""

from collections.abc import Container, Iterator
from dataclasses import dataclass

from prism_ray.seeds import derive_seed
from prism_ray.stages.base import Basis, Scope, SettingsView, Stage
from prism_ray.stages.squeeze import scope_of_teacher


@dataclass(frozen=True)
class MeasureUnit:
    """Measure the images of a set: diversity of their features, accuracy of the verifiers."""

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

    def count(self, basis: Basis) -> int:
        return len(basis.image_sets)

    def units(
        self,
        basis: Basis,
        image_set: str | None = None,
        group: int | None = None,
        without: Container[str] = frozenset(),
    ) -> Iterator[MeasureUnit]:
        for name in basis.image_sets if image_set is None else (image_set,):
            unit = MeasureUnit(name, derive_seed(basis.config.seed, "measure"))
            if unit.id not in without:
                yield unit

    def scopes(self, basis: Basis, view: SettingsView, weights: dict[str, str]) -> Iterator[Scope]:
        settings = {"analyze": view("analyze", basis.config.analyze)}
        judges = dict.fromkeys(self._judges(basis))
        for name in basis.image_sets:
            needs = (f"recover/{name}", *(scope_of_teacher(judge) for judge in judges))
            yield Scope(f"measure/{name}", settings, needs)

    def teachers(self, basis: Basis, unit: MeasureUnit) -> tuple[str, ...]:
        return self._judges(basis)

    @staticmethod
    def _judges(basis: Basis) -> tuple[str, ...]:
        return (basis.config.feature_teacher, *basis.config.analyze.verifiers)


STAGE = MeasureStage()


def measure_card(unit: MeasureUnit, attempt: int) -> str:
    return f"measures/{unit.image_set}-{attempt}.json"
