"""The config of a run with all its sections, and the checks that need more than one of them."""

from collections.abc import Iterable
from typing import Self

from pydantic import Field, field_validator, model_validator

from prism_ray.config.base import NonNegativeInt, Section
from prism_ray.config.collect import CollectConfig
from prism_ray.config.data import DataConfig
from prism_ray.config.labels import AnalyzeConfig, EvaluateConfig, RelabelConfig
from prism_ray.config.networks import Name, TeacherConfig, TeachersConfig
from prism_ray.config.orchestrate import OrchestrateConfig
from prism_ray.config.recover import AnyImageSet, RecoverConfig
from prism_ray.config.resolve import FULL_DATA
from prism_ray.config.store import MAX_PNG_FILES, AnyStore, ImageFiles
from prism_ray.suggest import did_you_mean
from prism_ray.trackers import tracker_names


class Config(Section):
    """All settings of a run, resolved: image sets and evaluations have names (see resolve.py)."""

    store: AnyStore
    """Folder or URL of the run's store, for example ./runs/digits. Or {url, image_format}."""
    seed: NonNegativeInt = 0
    """Seed of the run. Every random choice is derived from it."""
    data: DataConfig
    """The real images."""
    teachers: TeachersConfig
    """The teacher pool."""
    collect: CollectConfig = CollectConfig()
    """The pass over the real images, which some methods need."""
    image_sets: dict[Name, AnyImageSet] = Field(min_length=1)
    """The image sets by name. Their values override those of `recover`, which all sets share."""
    relabel: RelabelConfig = RelabelConfig()
    """The soft labels."""
    evaluations: dict[Name, EvaluateConfig] = Field(min_length=1)
    """The evaluations by name. Their values override those of `evaluate`, which all share."""
    analyze: AnalyzeConfig = AnalyzeConfig()
    """Measures of the images."""
    orchestrate: OrchestrateConfig = OrchestrateConfig()
    """The distribution of the work over the cluster."""
    trackers: tuple[str, ...] = ()
    """Where figures, loss curves and some images are sent while the run goes on: tensorboard, wandb, mlflow,
    trackio. They are read from the commits, and can be named at any time."""

    @field_validator("trackers")
    @classmethod
    def _check_trackers(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in tracker_names():
                known = tracker_names()
                hint = did_you_mean(name, known) or f"; the trackers are {', '.join(known)}"
                raise ValueError(f"{name!r} is not a tracker{hint}")
            if names.count(name) > 1:
                raise ValueError(f"{name!r} is named twice; remove one")
        return names

    @model_validator(mode="after")
    def _check_teacher_names(self) -> Self:
        self._check_names("relabel.teachers", self.relabel.teachers)
        self._check_names("relabel.priors", self.relabel.priors)
        self._check_names("analyze.verifiers", self.analyze.verifiers)
        if self.analyze.feature_teacher is not None:
            self._check_names("analyze.feature_teacher", (self.analyze.feature_teacher,))
        for key, image_set in self.image_sets.items():
            where = f"image_sets.{key}"
            self._check_names(f"{where}.primary", (image_set.primary,))
            if isinstance(image_set, RecoverConfig):
                selection = image_set.selection
                self._check_names(f"{where}.selection.bn_teachers", selection.bn_teachers or ())
                self._check_names(f"{where}.selection.weights", selection.weights)
                self._check_names(f"{where}.selection.priors", selection.priors)
                self._check_names(f"{where}.statistics.teacher_weights", image_set.statistics.teacher_weights)
                self._check_slots(where, image_set)
        return self

    @model_validator(mode="after")
    def _check_image_files(self) -> Self:
        for key, image_set in self.image_sets.items():
            if self.image_files == "png" and image_set.images_per_batch > MAX_PNG_FILES:
                raise ValueError(
                    f"image_sets.{key}.images_per_batch = {image_set.images_per_batch}: with "
                    f"store.image_format = 'png' a batch has at most {MAX_PNG_FILES:,} images, because its "
                    "commit names each; lower it, or set store.image_format to parquet"
                )
        return self

    @model_validator(mode="after")
    def _check_verifiers(self) -> Self:
        for verifier in self.analyze.verifiers:
            used = {"relabel.teachers": self.label_teachers}
            for key, image_set in self.image_sets.items():
                used[f"image_sets.{key}.primary"] = (image_set.primary,)
                if isinstance(image_set, RecoverConfig):
                    used[f"image_sets.{key}.selection.bn_teachers"] = image_set.selection.bn_teachers or ()
            for where, names in used.items():
                if verifier in names:
                    raise ValueError(
                        f"{where} names {verifier!r}, but analyze.verifiers names it too, and a verifier "
                        "makes no images or labels; remove it from one of the two"
                    )
        return self

    def _check_slots(self, where: str, image_set: RecoverConfig) -> None:
        """Raise ValueError if fewer teachers can be drawn than the draw must take."""
        selection, candidates = image_set.selection, self.candidates(image_set)
        sure = selection.slots if selection.inclusion_probability == 1.0 else 1
        if not selection.include_primary and len(candidates) < sure:
            raise ValueError(
                f"{where}.selection.slots = {selection.slots}: the pool has {len(candidates)} to draw from "
                f"({', '.join(candidates) or 'none'}); add teachers to it, or lower slots"
            )

    @model_validator(mode="after")
    def _check_patches(self) -> Self:
        if self.collect.rded_patches_per_side > self.data.image_size:
            raise ValueError(
                f"collect.rded_patches_per_side = {self.collect.rded_patches_per_side} is more than "
                f"data.image_size = {self.data.image_size}, so a patch would have no pixel; lower it"
            )
        return self

    @model_validator(mode="after")
    def _check_evaluations(self) -> Self:
        for key, evaluation in self.evaluations.items():
            named = evaluation.image_sets or ()
            for name in named:
                if name not in self.image_sets:
                    raise ValueError(
                        f"evaluations.{key}.image_sets names {name!r}; the sets are "
                        f"{', '.join(self.image_sets)}"
                    )
                if named.count(name) > 1:
                    raise ValueError(f"evaluations.{key}.image_sets names {name!r} twice; remove one")
            if evaluation.train_on == FULL_DATA and FULL_DATA in self.image_sets:
                raise ValueError(
                    f"evaluations.{key}.train_on = 'full-data', but an image set is called {FULL_DATA} too; "
                    "give the image set another name"
                )
            if evaluation.split == "validation" and self.data.validation_fraction == 0.0:
                raise ValueError(
                    f"evaluations.{key}.split = 'validation' needs validation images; set "
                    "data.validation_fraction above 0, for example 0.1"
                )
        return self

    def _check_names(self, key: str, values: Iterable[str] | str) -> None:
        if isinstance(values, str):  # "pool", "primary"
            return
        pool = [teacher.name for teacher in self.teachers.pool]
        given = list(values)
        for value in given:
            if value not in pool:
                raise ValueError(f"{key} names {value!r}, which is not in teachers.pool ({', '.join(pool)})")
            if given.count(value) > 1:
                raise ValueError(f"{key} names {value!r} twice; remove one")

    @property
    def store_url(self) -> str:
        """Folder or URL of the store."""
        return self.store if isinstance(self.store, str) else self.store.url

    @property
    def image_files(self) -> ImageFiles:
        """Format of the images of new batches."""
        return "parquet" if isinstance(self.store, str) else self.store.image_format

    def with_store(self, url: str) -> Self:
        """Return the same config with another location of the store."""
        store = url if isinstance(self.store, str) else self.store.model_copy(update={"url": url})
        return self.model_copy(update={"store": store})

    def teacher(self, name: str) -> TeacherConfig:
        """Return the pool member called `name`."""
        return next(teacher for teacher in self.teachers.pool if teacher.name == name)

    def candidates(self, image_set: RecoverConfig) -> tuple[str, ...]:
        """Names of the teachers that can fill the slots of a draw, in the order of the pool.

        The verifiers are excluded, and the primary if it is in every draw. Empty if there are no slots.
        """
        selection = image_set.selection
        if selection.slots == 0:
            return ()
        names = [teacher.name for teacher in self.teachers.pool if teacher.name not in self.analyze.verifiers]
        return tuple(
            name
            for name in names
            if (selection.bn_teachers is None or name in selection.bn_teachers)
            and not (selection.include_primary and name == image_set.primary)
        )

    @property
    def bn_teachers(self) -> tuple[str, ...]:
        """Names of all teachers whose statistics an image set can match, in the order of the pool."""
        names: set[str] = set()
        for image_set in self.image_sets.values():
            if isinstance(image_set, RecoverConfig):
                names.update(self.candidates(image_set))
                if image_set.selection.include_primary:
                    names.add(image_set.primary)
        return tuple(teacher.name for teacher in self.teachers.pool if teacher.name in names)

    @property
    def primary(self) -> str:
        """Name of the first image set's primary, whose preprocessing students use."""
        return next(iter(self.image_sets.values())).primary

    @property
    def label_teachers(self) -> tuple[str, ...]:
        """Names of the teachers whose ensemble makes the soft labels."""
        if self.relabel.teachers == "primary":
            return (self.primary,)
        if self.relabel.teachers == "pool":
            verifiers = self.analyze.verifiers
            return tuple(teacher.name for teacher in self.teachers.pool if teacher.name not in verifiers)
        return tuple(self.relabel.teachers)

    @property
    def feature_teacher(self) -> str:
        """Name of the teacher whose features measure the diversity."""
        return self.analyze.feature_teacher or next(iter(self.analyze.verifiers), self.primary)

    def sets_of(self, evaluation: str) -> tuple[str, ...]:
        """Names of the image sets of an evaluation; FULL_DATA alone if it trains on all real images."""
        if self.evaluations[evaluation].train_on == FULL_DATA:
            return (FULL_DATA,)
        return self.evaluations[evaluation].image_sets or tuple(self.image_sets)
