"""How far a run is, from its commits alone: for `status`, for resuming, and for the final table."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field

from prism_ray.errors import StoreError
from prism_ray.run.content import find_fault
from prism_ray.run.ledger import LISTED_STAGES, Entry, read_ledger
from prism_ray.run.plan_file import Run
from prism_ray.store.commits import (
    Commit,
    PartFile,
    commit_sizes,
    find_damage,
    read_commit,
    sha256_of_file,
)
from prism_ray.store.files import StoreFiles
from prism_ray.units import STAGES, Stage, Unit, scope_of, stage_of

_DONE = -1  # in place of a commit's size, once it counts


@dataclass(frozen=True)
class StageProgress:
    """One stage: how many of its units are committed."""

    stage: Stage
    num_done: int
    num_units: int

    @property
    def complete(self) -> bool:
        return self.num_done == self.num_units


@dataclass
class ScopeFigures:
    """What the commits of a scope come to."""

    seconds: float = 0.0  # actors were busy with its units
    num_bytes: int = 0  # of their files
    num_rows: int = 0

    def add(self, entry: Entry) -> None:
        self.seconds += entry.seconds
        self.num_bytes += entry.num_bytes
        self.num_rows += entry.num_rows


@dataclass(frozen=True)
class RunProgress:
    """Which units of a run are done, and what is wrong with the commits that do not count."""

    done: Set[str]  # unit ids
    commits: dict[str, Commit]  # of those done, but for batches and labels, of which there may be millions
    figures: Mapping[str, ScopeFigures]  # scope -> of the units done
    damaged: dict[str, str]  # unit id -> what is wrong
    stages: tuple[StageProgress, ...]
    num_others: int = 0  # whole commits that the config no longer asks for, if they were looked for

    @property
    def complete(self) -> bool:
        return all(stage.complete for stage in self.stages)


def read_progress(
    files: StoreFiles, run: Run, *, deep: bool = False, take_down: Callable[[Commit], None] | None = None
) -> RunProgress:
    """Read the commits of a run's units. A commit of another run, or whose files are missing or of another
    size (with `deep`: another hash), or that was made with other weights than the teacher now has, counts as
    damaged and its unit as not done.

    With `deep` what the files of images and labels hold is looked into, and those commits are read too that
    the store has beside the plan: of image sets that a later config left out. Without, commits that the
    ledger has are not read. `take_down` is given those that count, and that it lacks.
    """
    scan = _Scan(files, run, deep, dict(commit_sizes(files)))
    for unit_id in [unit_id for unit_id in scan.sizes if stage_of(unit_id) == "squeeze"]:
        scan.read(unit_id)
    if not deep:
        for entry in read_ledger(files):
            scan.take_entry(entry)
    for unit_id in [unit_id for unit_id, size in scan.sizes.items() if size != _DONE]:
        commit = scan.read(unit_id)
        if commit is not None and take_down is not None:
            take_down(commit)
    return scan.progress()


@dataclass
class _Scan:
    """The state of one look at all commits."""

    files: StoreFiles
    run: Run
    deep: bool
    sizes: dict[str, int]  # unit id -> size of its commit, or _DONE
    commits: dict[str, Commit] = field(default_factory=dict)
    figures: defaultdict[str, ScopeFigures] = field(default_factory=lambda: defaultdict(ScopeFigures))
    damaged: dict[str, str] = field(default_factory=dict)
    num_done: Counter[Stage] = field(default_factory=Counter)
    num_others: int = 0

    def __post_init__(self) -> None:
        self._plan = self.run.plan
        few = (unit for stage in STAGES if stage not in LISTED_STAGES for unit in self._plan.units(stage))
        self._few: dict[str, Unit] = {unit.id: unit for unit in few}
        self._weights_seen: dict[str, str | None] = {}  # what a commit was made with -> what is wrong with it
        self._parts = _Parts(self.files)

    def take_entry(self, entry: Entry) -> None:
        """Count a unit by its entry in the ledger, if its commit is there and nothing is wrong."""
        unit_id = entry.unit
        if self.sizes.get(unit_id) != entry.commit_bytes or not self._is_planned(unit_id):
            return
        try:
            whole = (
                self.run.fingerprint_of(unit_id) == entry.fingerprint
                and self._other_weights(entry.weights) is None
                and all(
                    self._parts.size(name, size) == size
                    for name, size in zip(entry.names, entry.sizes, strict=True)
                )
            )
        except (StoreError, ValueError, AttributeError):  # it is no better than the commit it was taken from
            return
        if whole:
            self._count(unit_id, entry)

    def read(self, unit_id: str) -> Commit | None:
        """Read a unit's commit and count it; return it if nothing is wrong with it."""
        is_planned = self._is_planned(unit_id)
        if not is_planned and not self.deep:
            del self.sizes[unit_id]
            return None
        try:
            commit = read_commit(self.files, unit_id)
            entry = Entry.of(commit)
            problem = find_damage(commit, self._parts.size, self._parts.sha256 if self.deep else None)
            if commit.fingerprint != self.run.fingerprint_of(unit_id):
                problem = "it was committed by a run with other settings"
            problem = problem or self._other_weights(entry.weights)
            unit = self._plan.find(unit_id) if self.deep else None
            if problem is None and unit is not None:
                problem = find_fault(self.files, self.run, unit, commit)
        except StoreError as error:
            problem = str(error)
        if problem is not None:
            self.damaged[unit_id] = problem
            del self.sizes[unit_id]
            return None
        if stage_of(unit_id) not in LISTED_STAGES:
            self.commits[unit_id] = commit
        if is_planned:
            self._count(unit_id, entry)
        else:
            self.num_others += 1
            del self.sizes[unit_id]
        return commit

    def progress(self) -> RunProgress:
        """Return what was found, when every commit has been looked at."""
        stages = tuple(
            StageProgress(stage, self.num_done[stage], self._plan.num_units(stage)) for stage in STAGES
        )
        return RunProgress(
            self.sizes.keys(), self.commits, self.figures, self.damaged, stages, self.num_others
        )

    def _count(self, unit_id: str, entry: Entry) -> None:
        self.sizes[unit_id] = _DONE
        self.num_done[stage_of(unit_id)] += 1
        self.figures[scope_of(unit_id)].add(entry)

    def _is_planned(self, unit_id: str) -> bool:
        return unit_id in self._few or self._plan.has(unit_id)

    def _other_weights(self, used: str) -> str | None:
        """Say which teacher has been made anew, with other bytes, since a unit was done with it."""
        if used not in self._weights_seen:
            self._weights_seen[used] = None
            for teacher, sha256 in json.loads(used).items():
                squeezed = self.commits.get(f"squeeze/{teacher}")
                if squeezed is not None and squeezed.files and squeezed.files[0].sha256 != sha256:
                    self._weights_seen[used] = (
                        f"it was made with other weights of teacher {teacher} than the store has now"
                    )
        return self._weights_seen[used]


class _Parts:
    """Sizes and hashes of parts, neither asked for more often than need be.

    Behind a network sizes are listed folder by folder; a file that units share is hashed once.
    """

    def __init__(self, files: StoreFiles) -> None:
        self._files = files
        self._listed: dict[str, dict[str, int]] = {}
        self._hashed: dict[str, str] = {}

    def sha256(self, part: PartFile) -> str:
        """Return the SHA-256 (hex) of a part's file."""
        if part.piece is None:
            return sha256_of_file(self._files, part.name)
        if part.name not in self._hashed:
            self._hashed[part.name] = sha256_of_file(self._files, part.name)
        return self._hashed[part.name]

    def size(self, name: str, expected: int) -> int | None:
        """Return the size of a file in bytes, None if it is missing; of one as `expected` the listing's."""
        if not self._files.is_local:
            folder = name.rpartition("/")[0]
            if folder not in self._listed:
                self._listed[folder] = dict(self._files.list(folder))
            if self._listed[folder].get(name) == expected:
                return expected
        return self._files.size(name)  # perhaps it came after the listing
