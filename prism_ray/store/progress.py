"""How far a run is, from its commits alone: for `status`, for resuming, and for the final table."""

from dataclasses import dataclass

from prism_ray.errors import StoreError
from prism_ray.store.commits import Commit, committed_units, find_damage, read_commit
from prism_ray.store.content import find_fault
from prism_ray.store.files import StoreFiles
from prism_ray.store.run import Run
from prism_ray.units import STAGES, Stage, Unit


@dataclass(frozen=True)
class StageProgress:
    """One stage: how many of its units are committed."""

    stage: Stage
    num_done: int
    num_units: int

    @property
    def complete(self) -> bool:
        return self.num_done == self.num_units


@dataclass(frozen=True)
class RunProgress:
    """All commits of a run that count, and what is wrong with the others."""

    commits: dict[str, Commit]  # unit id -> commit
    damaged: dict[str, str]  # unit id -> what is wrong
    stages: tuple[StageProgress, ...]
    num_others: int = 0  # whole commits that the config no longer asks for, if they were looked for

    @property
    def complete(self) -> bool:
        return all(stage.complete for stage in self.stages)


def read_progress(files: StoreFiles, run: Run, *, deep: bool = False) -> RunProgress:
    """Read the commits of a run's units. A commit of another run, or whose files are missing or of another
    size (with `deep`: another hash), or that was made with other weights than the teacher now has, counts as
    damaged and its unit as not done.

    With `deep` what the files of images and labels hold is looked into, and those commits are read too that
    the store has beside the plan: of image sets that a later config left out.
    """
    unseen = set(committed_units(files))
    commits: dict[str, Commit] = {}
    damaged: dict[str, str] = {}

    def take(unit_id: str, unit: Unit | None = None) -> bool:
        try:
            commit = read_commit(files, unit_id)
            problem = find_damage(files, commit, deep=deep)
            if commit.fingerprint != run.fingerprint_of(unit_id):
                problem = "it was committed by a run with other settings"
            problem = problem or _other_weights(commit, commits)
            if problem is None and unit is not None:
                problem = find_fault(files, run, unit, commit)
        except StoreError as error:
            problem = str(error)
        if problem is None:
            commits[unit_id] = commit
        else:
            damaged[unit_id] = problem
        return problem is None

    stages = []
    for stage in STAGES:
        present: dict[str, Unit | None]
        if deep:
            present = {unit.id: unit for unit in run.plan.units(stage) if unit.id in unseen}
        else:
            present = dict.fromkeys(unit_id for unit_id in run.plan.unit_ids(stage) if unit_id in unseen)
        unseen.difference_update(present)
        num_done = sum(take(unit_id, unit) for unit_id, unit in present.items())
        stages.append(StageProgress(stage, num_done, run.plan.num_units(stage)))
    others = sorted(unseen, key=lambda unit_id: (not unit_id.startswith("squeeze/"), unit_id)) if deep else []
    num_others = sum(map(take, others))
    return RunProgress(commits, damaged, tuple(stages), num_others)


def _other_weights(commit: Commit, commits: dict[str, Commit]) -> str | None:
    """Say which teacher has been made anew, with other bytes, since the unit was done with it."""
    used = commit.stats.get("weights", {})
    for teacher, sha256 in used.items():
        squeezed = commits.get(f"squeeze/{teacher}")
        if squeezed is not None and squeezed.files[0].sha256 != sha256:
            return f"it was made with other weights of teacher {teacher} than the store has now"
    return None
