"""evaluate: one unit trains and tests one student on one image set, or on all real training images.

Seeds of students do not depend on the image set, so that sets are compared in pairs: same first weights.
Students on all real images come with those of the first image set.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from prism_ray.config import Config, EvaluateConfig
from prism_ray.config.resolve import FULL_DATA
from prism_ray.seeds import derive_seed
from prism_ray.stages.base import ALL, Basis, Scope, SettingsView, Stage, Within, key_of
from prism_ray.stages.squeeze import scope_of_teacher

_FREE = {"num_students", "image_sets", "controls"}  # every student and every image set has a seed of its own
_OF_VIEWS = {
    *("crop_scale", "flip", "cutmix_alpha", "mixup_alpha", "patch_shuffle", "rand_augment"),
    "epochs",
}


@dataclass(frozen=True)
class EvaluateUnit:
    """One student, to be trained and tested on one image set."""

    image_set: str  # FULL_DATA: all real training images
    evaluation: str
    student: int
    seed: int  # of the student: the same for every image set

    @property
    def id(self) -> str:
        return f"evaluate/{self.image_set}/{self.evaluation}/s{self.student:03d}"


class EvaluateStage(Stage):
    """The students."""

    name = "evaluate"
    help = "train and test students (after relabel)"
    after = "relabel"
    waits_for = "image set"
    work = "prism_ray.work.evaluate:evaluate"
    folders = ("students",)
    overlaps = True
    labels = True
    shares = True
    checkpoints = True

    def count(self, basis: Basis) -> int:
        config = basis.config
        return sum(len(config.sets_of(key)) * one.num_students for key, one in config.evaluations.items())

    def units(self, basis: Basis, within: Within = ALL) -> Iterator[EvaluateUnit]:
        wanted = set(within.image_sets(basis))
        if basis.image_sets[0] in wanted:
            wanted.add(FULL_DATA)
        for key in basis.config.evaluations:
            for name in (name for name in basis.config.sets_of(key) if name in wanted):
                yield from students(basis, name, key)

    def scopes(self, basis: Basis, view: SettingsView, weights: dict[str, str]) -> Iterator[Scope]:
        for key, evaluation in basis.config.evaluations.items():
            primary = scope_of_teacher(basis.config.primary)
            if evaluation.train_on == FULL_DATA:
                settings = {
                    "evaluate": view("evaluate", evaluation, free=_FREE),
                    "relabel": view("relabel", basis.config.relabel, only=_OF_VIEWS),
                }
                yield Scope(f"evaluate/{FULL_DATA}/{key}", settings, (primary,))
                continue
            settings = {"evaluate": view("evaluate", evaluation, free={*_FREE, "full_data_epochs"})}
            for name in basis.config.sets_of(key):
                yield Scope(f"evaluate/{name}/{key}", settings, (f"relabel/{name}", primary))

    def teachers(self, basis: Basis, unit: EvaluateUnit) -> tuple[str, ...]:
        config = basis.config
        if asks_teachers(config, config.evaluations[unit.evaluation]):
            return tuple(dict.fromkeys((config.primary, *config.label_teachers)))
        return (config.primary,)

    def smaller(self, config: Config, unit: EvaluateUnit) -> str:
        size, number = config.evaluations[unit.evaluation].batch_size, config.orchestrate.students_per_actor
        fewer = f"lower orchestrate.students_per_actor (now {number}) or " if number > 1 else "lower "
        return f"{fewer}evaluate.batch_size (now {size} for {unit.evaluation})"


STAGE = EvaluateStage()


def asks_teachers(config: Config, evaluation: EvaluateConfig) -> bool:
    """Return whether the students of an evaluation have the label teachers beside them."""
    is_online = config.relabel.mode == "online" or not evaluation.augment
    return is_online and evaluation.labels == "soft"


def students(basis: Basis, image_set: str, evaluation: str) -> Iterator[EvaluateUnit]:
    """Yield the students of one evaluation of one image set."""
    for student in range(basis.config.evaluations[evaluation].num_students):
        seed = derive_seed(basis.config.seed, "evaluate", student)
        yield EvaluateUnit(image_set, evaluation, student, seed)


def student_card(unit: EvaluateUnit, attempt: int) -> str:
    return f"students/{unit.image_set}/{unit.evaluation}/{key_of(unit.id)}-{attempt}.json"
