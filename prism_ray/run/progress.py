"""The progress of a run, from its commits alone: for `status`, for resuming, and for the final table."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Set
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, partial

from prism_ray.errors import StoreError
from prism_ray.plan import Plan
from prism_ray.run.content import find_fault
from prism_ray.run.ledger import Entry, is_listed, read_ledger
from prism_ray.run.plan_file import Run
from prism_ray.stages import scope_of, stage_of, stages
from prism_ray.store.commits import Commit, PartFile, find_damage, list_commits, read_commit, sha256_of_file
from prism_ray.store.elsewhere import is_elsewhere
from prism_ray.store.files import StoreFiles

_DONE = -1  # replaces the size of a commit that counts


@dataclass(frozen=True)
class StageProgress:
    """The number of units of a stage, and how many of them are done."""

    stage: str
    num_done: int
    num_units: int

    @property
    def complete(self) -> bool:
        return self.num_done == self.num_units


@dataclass
class Sums:
    """The sums over the commits of a scope or a stage."""

    seconds: float = 0.0  # that actors were busy with its units
    num_bytes: int = 0  # of the units' files
    num_rows: int = 0
    shared_bytes: int = 0  # of those files that are in other stores of a sweep

    def add(self, entry: Entry) -> None:
        self.seconds += entry.seconds
        self.num_bytes += entry.num_bytes
        self.num_rows += entry.num_rows
        self.shared_bytes += entry.num_bytes if any(map(is_elsewhere, entry.names)) else 0


@dataclass
class RunProgress:
    """The units of a run that are done, and what is wrong with the commits that do not count."""

    plan: Plan  # of the present config
    sizes: dict[str, int]  # unit id -> size of its commit, or _DONE
    commits: dict[str, Commit] = field(
        default_factory=dict
    )  # of done units in stages that the ledger does not list
    figures: defaultdict[str, Sums] = field(default_factory=lambda: defaultdict(Sums))  # by scope
    damaged: dict[str, str] = field(default_factory=dict)  # unit id -> what is wrong
    num_done: Counter[str] = field(default_factory=Counter)  # by stage, of the present config
    sums: defaultdict[str, Sums] = field(default_factory=lambda: defaultdict(Sums))  # the same
    # Scope -> units that are done and that the present config does not name. Those whose config is not known
    # either (`Run.forgotten`) are counted without being read, unless all are.
    num_others: Counter[str] = field(default_factory=Counter)

    @property
    def done(self) -> Set[str]:
        """Ids of the units that are done, under any config, after all commits have been read."""
        return self.sizes.keys()

    @property
    def stages(self) -> tuple[StageProgress, ...]:
        return tuple(
            StageProgress(stage.name, self.num_done[stage.name], stage.count(self.plan)) for stage in stages()
        )

    @property
    def complete(self) -> bool:
        return all(stage.complete for stage in self.stages)

    def add(self, commit: Commit, is_planned: bool = True) -> None:
        """Count a committed unit; `is_planned` tells whether the present config names it."""
        if self.sizes.get(commit.unit) != _DONE:
            self.count(Entry.of(commit), is_planned)
            if not is_listed(commit.unit):
                self.commits[commit.unit] = commit

    def count(self, entry: Entry, is_planned: bool) -> None:
        """Count a unit by its entry in the ledger; see `add`."""
        self.sizes[entry.unit] = _DONE
        if is_planned:
            self.num_done[stage_of(entry.unit)] += 1
            self.sums[stage_of(entry.unit)].add(entry)
        else:
            self.num_others[scope_of(entry.unit)] += 1
        self.figures[scope_of(entry.unit)].add(entry)


def read_progress(
    files: StoreFiles,
    run: Run,
    committed: dict[str, int] | None = None,
    *,
    deep: bool = False,
    take_down: Callable[[Commit], None] | None = None,
) -> RunProgress:
    """Read the commits of a run's units.

    `committed` is the result of `list_commits`, and is changed; without it the commits are listed here. A
    commit counts as damaged, and its unit as not done, if it belongs to another run, if its files are missing
    or have another size (with `deep`: another hash), or if a teacher now has other weights than the unit was
    made with. Units that only an earlier config names are read in the same way and counted apart.

    Commits that are in the ledger are not read, unless `deep` is set. With `deep`, the contents of images and
    labels are checked too, and commits whose config is not known are read. `take_down` is called with each
    commit that counts and was read.
    """
    committed = list_commits(files) if committed is None else committed
    scan = _Scan(files, run, deep, RunProgress(run.plan, committed))
    for unit_id in [unit_id for unit_id in committed if stage_of(unit_id) == "squeeze"]:
        scan.read(unit_id)
    if committed and not deep:
        for entry in read_ledger(files):
            scan.count_entry(entry)
    for unit_id in [unit_id for unit_id, size in committed.items() if size != _DONE]:
        commit = scan.read(unit_id)
        if commit is not None and take_down is not None:
            take_down(commit)
    return scan.progress


class _Scan:
    """One pass over all commits of a run, which looks up sizes and hashes of parts as rarely as possible."""

    def __init__(self, files: StoreFiles, run: Run, deep: bool, progress: RunProgress) -> None:
        self._files = files
        self._run = run
        self._deep = deep
        self.progress = progress
        self._plans = [(each, each.plan) for each in (run, *run.others)]
        self._few = {
            unit_id: each
            for each, plan in reversed(self._plans)
            for stage in stages()
            if not stage.many
            for unit_id in stage.ids(plan)
        }
        self._weights_seen: dict[str, str | None] = {}  # Entry.weights -> what is wrong with them
        self._listing = cache(lambda folder: dict(files.list(folder)))
        self._sha256_of_shared = cache(partial(sha256_of_file, files))

    def count_entry(self, entry: Entry) -> None:
        """Count a unit by its entry in the ledger, if its commit exists and nothing is wrong."""
        unit_id = entry.unit
        if self.progress.sizes.get(unit_id) != entry.commit_bytes:
            return
        run = self._run_of(unit_id)
        if run is None:
            return
        sizes = zip(entry.names, entry.sizes, strict=True)
        with suppress(StoreError, ValueError, AttributeError):  # then its commit is read
            if (
                self._run.fingerprint_of(unit_id) == entry.fingerprint
                and self._other_weights(entry.weights) is None
                and all(self._size(name, size) == size for name, size in sizes)
            ):
                self.progress.count(entry, run is self._run)

    def read(self, unit_id: str) -> Commit | None:
        """Read a unit's commit and count it; return it if nothing is wrong with it."""
        del self.progress.sizes[unit_id]
        run = self._run_of(unit_id)
        if run is None and not self._deep:
            self.progress.num_others[scope_of(unit_id)] += 1
            return None
        try:
            commit = read_commit(self._files, unit_id)
            problem = self._problem(commit, run)
        except StoreError as error:
            problem = error.problem
        if problem is not None:
            self.progress.damaged[unit_id] = problem
            return None
        if run is None:
            self.progress.num_others[scope_of(unit_id)] += 1
        else:
            self.progress.add(commit, is_planned=run is self._run)
        return commit

    def _problem(self, commit: Commit, run: Run | None) -> str | None:
        """Return what is wrong with a commit, None if nothing; raises StoreError too."""
        if commit.fingerprint != self._run.fingerprint_of(commit.unit):
            return "it was committed by a run with other settings"
        problem = find_damage(commit, self._size, self._sha256 if self._deep else None)
        problem = problem or self._other_weights(Entry.of(commit).weights)
        unit = run.plan.find(commit.unit) if self._deep and run is not None else None
        if problem is None and run is not None and unit is not None:
            problem = find_fault(self._files, run, unit, commit)
        return problem

    def _run_of(self, unit_id: str) -> Run | None:
        """Return the run under the config that names a unit, first the present one; None if none does."""
        if unit_id in self._few:
            return self._few[unit_id]
        if not is_listed(unit_id):
            return None
        return next((run for run, plan in self._plans if plan.has(unit_id)), None)

    def _other_weights(self, used: str) -> str | None:
        """Return which teacher now has other weights than a unit was made with, None if none has."""
        if used not in self._weights_seen:
            self._weights_seen[used] = None
            for teacher, sha256 in json.loads(used).items():
                squeezed = self.progress.commits.get(f"squeeze/{teacher}")
                if squeezed is not None and squeezed.files and squeezed.files[0].sha256 != sha256:
                    self._weights_seen[used] = (
                        f"it was made with other weights of teacher {teacher} than the store has now"
                    )
        return self._weights_seen[used]

    def _sha256(self, part: PartFile) -> str:
        """Return the SHA-256 (hex) of a part's file; a file that units share is read once."""
        return self._sha256_of_shared(part.name) if part.piece else sha256_of_file(self._files, part.name)

    def _size(self, name: str, expected: int) -> int | None:
        """Return the size of a file in bytes, None if it is missing; remote folders are listed once."""
        listed = None if self._files.is_local else self._listing(name.rpartition("/")[0]).get(name)
        return expected if listed == expected else self._files.size(name)  # it may be newer than the listing
