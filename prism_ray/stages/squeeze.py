"""squeeze: one unit trains one teacher of the pool, or loads its pretrained weights."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from prism_ray.config import Config
from prism_ray.seeds import derive_seed
from prism_ray.stages.base import ALL, Basis, Scope, SettingsView, Stage, Within

RUN = "run"  # the scope that every other one depends on: data, seed, threads


_NUM_SAMPLED = 1024  # training images with which a ready teacher is checked, but
_PER_CLASS = 4  # as many of each class at least,
_MAX_CLASSES = 1024  # and of so many classes at most


def checked_sample(num_classes: int) -> tuple[int, int]:
    """Return of how many classes, and how many of each, a ready teacher is checked on training images."""
    return min(num_classes, _MAX_CLASSES), max(_PER_CLASS, _NUM_SAMPLED // num_classes)


@dataclass(frozen=True)
class SqueezeUnit:
    """One teacher, to be trained or loaded with its pretrained weights."""

    teacher: str
    seed: int

    @property
    def id(self) -> str:
        return scope_of_teacher(self.teacher)


class SqueezeStage(Stage):
    """The teachers."""

    name = "squeeze"
    help = "train the teachers, or load their pretrained weights"
    after = None
    waits_for = "stage"
    work = "prism_ray.work.squeeze:squeeze"
    folders = ("teachers",)
    checkpoints = True

    def units(self, basis: Basis, within: Within = ALL) -> Iterator[SqueezeUnit]:
        # Those with weights first: what is wrong with them is known before hours of training.
        for teacher in sorted(basis.config.teachers.pool, key=lambda teacher: teacher.weights is None):
            yield SqueezeUnit(teacher.name, derive_seed(basis.config.seed, "squeeze", teacher.name))

    def scopes(self, basis: Basis, view: SettingsView, weights: dict[str, str]) -> Iterator[Scope]:
        config = basis.config.teachers
        for teacher in config.pool:
            network = view("teacher", teacher, free={"name"})
            if teacher.weights_path is not None:  # the file counts by its bytes; its path is free
                network["arch"] = f"{teacher.library}:{teacher.architecture}"
                network["weights_sha256"] = weights[teacher.name]
            settings: dict[str, Any] = {"pool": {teacher.name: network}}
            if teacher.weights is None:
                settings["squeeze"] = view("squeeze", config.squeeze)
            yield Scope(scope_of_teacher(teacher.name), {"teachers": settings}, (RUN,))

    def teachers(self, basis: Basis, unit: SqueezeUnit) -> tuple[str, ...]:
        return ()

    def num_files(self, unit_id: str) -> int:
        return 2  # weights, card

    def smaller(self, config: Config, unit: SqueezeUnit) -> str:
        return f"lower teachers.squeeze.batch_size (now {config.teachers.squeeze.batch_size})"


STAGE = SqueezeStage()


def scope_of_teacher(teacher: str) -> str:
    """Return the scope of a teacher, which is also the id of its one unit."""
    return f"squeeze/{teacher}"


def weights_part(teacher: str, attempt: int) -> str:
    return f"teachers/{teacher}/weights-{attempt}.safetensors"


def card_part(teacher: str, attempt: int) -> str:
    return f"teachers/{teacher}/teacher-{attempt}.json"
