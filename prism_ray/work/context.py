"""The things that the units of a run share in one process: real images, teachers, access to the store."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from prism_ray.data import RealImages, open_data
from prism_ray.errors import ConfigError
from prism_ray.parts.images import ImageForm, StoredImages, read_images
from prism_ray.run import Run, read_index
from prism_ray.stages import find_stage, stage_of
from prism_ray.stages.squeeze import scope_of_teacher
from prism_ray.store import Commit, PartFile, StoreFiles, layout, read_commit, write_part
from prism_ray.store.remedy import damaged, unfit
from prism_ray.teachers.cards import load_teacher, read_card
from prism_ray.teachers.layers import LayerReference
from prism_ray.teachers.teacher import Teacher
from prism_ray.work.cache import TeacherCache
from prism_ray.work.checkpoints import Control, StoreCheckpoints


@dataclass(frozen=True)
class Work:
    """The result of a unit: its files, and figures for reports."""

    files: tuple[PartFile, ...]
    stats: dict[str, Any]


# Every work function returns the rest of its unit, which needs no device (encode, write).
Finish = Callable[[], Work]


class WorkContext:
    """One run on one device."""

    def __init__(
        self, run: Run, files: StoreFiles, device: torch.device, teachers: TeacherCache | None = None
    ) -> None:
        self.run, self.config, self.plan = run, run.config, run.plan
        self.files = files
        self.device = device
        self.control = Control()  # of the unit that has the device
        self.teachers = teachers or TeacherCache(run.config.orchestrate.teacher_cache_gib * 2**30)
        self._squeezed: dict[str, Commit] = {}
        self.references: dict[str, dict[str, LayerReference]] = {}  # teacher -> layers, over all real images

    @cached_property
    def data(self) -> RealImages:
        index = read_index(self.files) if self.config.data.source == "image-folder" else None
        return open_data(self.config.data, index, self.run.num_threads)

    def commits_of(self, unit_ids: Iterable[str]) -> list[Commit]:
        """Read the commits of units that this one builds on; raises StoreError if one is missing."""
        commits = [read_commit(self.files, unit_id) for unit_id in unit_ids]
        for commit in commits:
            num_files = find_stage(stage_of(commit.unit)).num_files(commit.unit)
            if len(commit.files) < num_files:
                problem = f"its commit names {len(commit.files)} files, and such a unit has {num_files}"
                raise unfit(self.files, commit.unit, problem)
        return commits

    def images_of_set(self, image_set: str, batches: Sequence[Commit]) -> StoredImages:
        """Read the images of a set from its batches' commits; StoreError if they are not as planned."""
        stored = read_images(self.files, batches, ImageForm.of(self.plan, image_set))
        found, num_rows, expected = len(set(stored.slots)), len(stored.slots), self.plan.num_images(image_set)
        if found != expected or num_rows != expected:
            problem = f"{found} different images in {num_rows} rows instead of {expected}"
            raise damaged(self.files, f"{layout.COMMITS}/recover/{image_set}", problem)
        return stored

    def teacher(self, name: str) -> Teacher:
        """Return a teacher of the pool, from memory if it was used before."""
        commit = self.squeeze_commit(name)
        weights = f"{commit.fingerprint} {' '.join(part.sha256 for part in commit.files)}"
        return self.teachers.get(name, lambda: self._load_teacher(name), weights)

    def _load_teacher(self, name: str) -> Teacher:
        commit = self.squeeze_commit(name)
        try:
            card = read_card(self.files, commit)
            card.check_against(self.config.teacher(name), self.config.data.image_size)
        except ValueError as error:
            raise unfit(self.files, commit.unit, f"its card is not of this run: {error}") from None
        return load_teacher(self.files, commit, self.device)

    def weights_of(self, names: Iterable[str], built_on: Iterable[Commit] = ()) -> dict[str, str]:
        """Return the SHA-256 of all weights that a unit's result depends on, by teacher, for its commit.

        They are the weights of the teachers `names`, and those recorded in the commits that it builds on.
        """
        weights: dict[str, str] = {}
        for commit in built_on:
            weights |= commit.weights
        return weights | {name: self.squeeze_commit(name).files[0].sha256 for name in names}

    def priors_of(self, names: Iterable[str], given: Mapping[str, float], key: str) -> dict[str, float]:
        """Return the prior accuracies of teachers in percent: those `given`, else on validation images.

        Raises ConfigError that names `key`, the key of the given ones, if one is not known.
        """
        priors = {}
        for name in names:
            if name in given:
                priors[name] = given[name]
                continue
            measured: float | None = self.squeeze_commit(name).stats.get("validation_accuracy")
            if measured is None:
                raise ConfigError(
                    f"{key}: the accuracy of {name} on validation images is not known; give it in {key}, in "
                    "percent, or set data.validation_fraction above 0"
                )
            priors[name] = 100.0 * measured
        return priors

    def squeeze_commit(self, teacher: str) -> Commit:
        """Return the commit of a teacher, which is read once."""
        if teacher not in self._squeezed:
            (self._squeezed[teacher],) = self.commits_of([scope_of_teacher(teacher)])
        return self._squeezed[teacher]

    def checkpoints(self, unit_id: str, made_with: object = ()) -> StoreCheckpoints:
        """Return the place of a unit's checkpoint in the store; `made_with` becomes part of its identity."""
        identity = f"{self.run.fingerprint_of(unit_id)} {made_with}"
        interval_s = self.config.orchestrate.checkpoint_interval_s
        return StoreCheckpoints(self.files, unit_id, identity, interval_s, self.control)

    def finish(self, stats: dict[str, Any], *files: tuple[Callable[[int], str], bytes]) -> Finish:
        """Return the Finish of a unit whose files only have to be written."""
        return lambda: Work(tuple(write_part(self.files, name_of, data) for name_of, data in files), stats)
