"""The whole config of a run, and the checks that need more than one section."""

from typing import Self

from pydantic import Field, model_validator

from prism_ray.config.base import NonNegativeInt, Section
from prism_ray.config.data import DataConfig
from prism_ray.config.labels import EvaluateConfig, RelabelConfig
from prism_ray.config.networks import TeacherConfig, TeachersConfig
from prism_ray.config.orchestrate import OrchestrateConfig
from prism_ray.config.recover import RecoverConfig


class Config(Section):
    """Every setting a user has."""

    store: str = Field(description="Folder or URL of the run's store.")
    seed: NonNegativeInt = Field(
        default=0, description="Seed of the run; every random choice derives from it."
    )
    data: DataConfig = Field(description="The real images.")
    teachers: TeachersConfig = Field(description="The teacher pool.")
    recover: RecoverConfig = Field(description="How the images are recovered.")
    relabel: RelabelConfig = Field(default=RelabelConfig(), description="How they are labelled.")
    evaluate: EvaluateConfig = Field(description="How students are trained and compared.")
    orchestrate: OrchestrateConfig = Field(
        default=OrchestrateConfig(), description="How the work is spread over the cluster."
    )

    @model_validator(mode="after")
    def _check_teacher_names(self) -> Self:
        names = [teacher.name for teacher in self.teachers.pool]
        used = {
            "recover.primary": (self.recover.primary,),
            "recover.bn_teachers": self.recover.bn_teachers or (),
            "relabel.teachers": self.relabel.teachers or (),
        }
        for key, values in used.items():
            for value in values:
                if value not in names:
                    raise ValueError(
                        f"{key} names {value!r}, which is not in teachers.pool ({', '.join(names)})"
                    )
                if values.count(value) > 1:
                    raise ValueError(f"{key} names {value!r} twice")
        return self

    def teacher(self, name: str) -> TeacherConfig:
        """Return the pool member called `name`."""
        return next(teacher for teacher in self.teachers.pool if teacher.name == name)

    @property
    def extra_bn_teachers(self) -> tuple[str, ...]:
        """Names of the teachers that may be drawn beside the primary, in the order of the pool."""
        allowed = self.recover.bn_teachers
        return tuple(
            teacher.name
            for teacher in self.teachers.pool
            if teacher.name != self.recover.primary and (allowed is None or teacher.name in allowed)
        )

    @property
    def label_teachers(self) -> tuple[str, ...]:
        """Names of the teachers whose ensemble makes the soft labels."""
        return self.relabel.teachers or tuple(teacher.name for teacher in self.teachers.pool)
