"""How far a run is, from its commits alone: for `status`, for resuming, and for the final table."""

from dataclasses import dataclass

from prism_ray.errors import StoreError
from prism_ray.plan import STAGES, Stage
from prism_ray.store.commits import Commit, committed_units, find_damage, read_commit
from prism_ray.store.files import StoreFiles
from prism_ray.store.run import Run


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

    @property
    def complete(self) -> bool:
        return all(stage.complete for stage in self.stages)


def read_progress(files: StoreFiles, run: Run, *, deep: bool = False) -> RunProgress:
    """Read the commits of a run's units. A commit of another run, or whose files are missing or of another
    size (with `deep`: another hash), counts as damaged and its unit as not done.
    """
    present = set(committed_units(files))
    commits: dict[str, Commit] = {}
    damaged: dict[str, str] = {}
    stages = []
    for stage in STAGES:
        num_done = 0
        for unit in run.plan.units(stage):
            if unit.id not in present:
                continue
            try:
                commit = read_commit(files, unit.id)
                problem = find_damage(files, commit, deep=deep)
                if commit.fingerprint != run.fingerprint:
                    problem = "it was committed by a run with other settings"
            except StoreError as error:
                problem = str(error)
            if problem is None:
                commits[unit.id] = commit
                num_done += 1
            else:
                damaged[unit.id] = problem
        stages.append(StageProgress(stage, num_done, run.plan.num_units(stage)))
    return RunProgress(commits, damaged, tuple(stages))
