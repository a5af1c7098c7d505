"""What the points of a sweep have in common: taken by reference from the point that has it. No torch, no Ray.

A fingerprint covers everything that a unit depends on, so two points whose fingerprints of a scope agree have
the same units there. One of them makes such a unit. The others get a commit that names the files of the first
one, as elsewhere/<point>/<part>. Nothing is copied.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from prism_ray.errors import StoreError
from prism_ray.run import Run, RunProgress
from prism_ray.stages import scope_of, stages
from prism_ray.store import Commit, StoreFiles, read_commit, write_commit
from prism_ray.store.commits import find_damage, sha256_of_file
from prism_ray.store.elsewhere import is_elsewhere, name_elsewhere, own_name


@dataclass(eq=False)
class Member:
    """A point of a sweep that has a store with a run in it."""

    folder: str  # of its store, in the sweep's folder
    files: StoreFiles
    run: Run
    progress: RunProgress

    def fingerprint_of(self, unit_id: str) -> str:
        """Return the fingerprint of a unit's scope."""
        return self.run.fingerprints[scope_of(unit_id)]


class Lenders:
    """All points of a sweep, and the units that one can take from another."""

    def __init__(self, members: Iterable[Member]) -> None:
        self._by_fingerprint: defaultdict[str, list[Member]] = defaultdict(list)
        for member in members:
            for fingerprint in member.run.fingerprints.values():
                self._by_fingerprint[fingerprint].append(member)
        self._checked: dict[tuple[str, str], str] = {}  # location and name of a part -> its SHA-256
        self.made_now: set[tuple[str, str]] = set()  # location of a store and unit: committed in this call

    def can_lend(self, member: Member, unit_id: str) -> Iterable[Member]:
        """Yield the other points that have committed the same unit."""
        for other in self._by_fingerprint[member.fingerprint_of(unit_id)]:
            if other is not member and unit_id in other.progress.done:
                yield other

    def take(self, member: Member, unit_id: str) -> Commit | None:
        """Commit a unit of a point by reference to the files of another; None if no other has it whole.

        The files are read once and compared with their hashes, unless they were written in this call. Raises
        StoreError if the commit cannot be written.
        """
        for lender in self.can_lend(member, unit_id):
            try:
                found = read_commit(lender.files, unit_id)
                is_whole = self._is_whole(lender, found)
            except StoreError:  # `verify` reports it at its own point
                continue
            if not is_whole or not _has_same_weights(found, member.progress):
                continue
            names = (name_elsewhere(lender.folder, part.name) for part in found.files)
            mine = name_elsewhere(member.folder, "")
            parts = tuple(
                replace(part, name=own_name(name) if name.startswith(mine) else name)
                for part, name in zip(found.files, names, strict=True)
            )
            commit = replace(found, files=parts)
            return commit if write_commit(member.files, commit) else read_commit(member.files, unit_id)
        return None

    def _is_whole(self, lender: Member, commit: Commit) -> bool:
        if commit.fingerprint != lender.fingerprint_of(commit.unit):
            return False
        if (lender.files.location, commit.unit) in self.made_now:
            return True
        for part in commit.files:
            key = lender.files.location, part.name
            if is_elsewhere(part.name):  # the same file, whichever point refers to it
                key = name_elsewhere(lender.folder, part.name), ""
            if key not in self._checked:
                if find_damage(replace(commit, files=(part,)), lambda name, _: lender.files.size(name)):
                    return False
                self._checked[key] = sha256_of_file(lender.files, part.name)
            if self._checked[key] != part.sha256:
                return False
        return True


def _has_same_weights(commit: Commit, progress: RunProgress) -> bool:
    """Return whether the unit was made with the weights that the point has; kinds of machines may differ."""
    for teacher, sha256 in commit.weights.items():
        squeezed = progress.commits.get(f"squeeze/{teacher}")
        if squeezed is not None and squeezed.files and squeezed.files[0].sha256 != sha256:
            return False
    return True


def num_to_take(members: Iterable[Member], lenders: Iterable[Member]) -> Counter[str]:
    """Return how many missing units of the points `members` others have or make before, by stage."""
    seen = {
        (lender.fingerprint_of(unit_id), unit_id)
        for lender in lenders
        for unit_id in lender.progress.done
        if lender.run.plan.has(unit_id)
    }
    counts: Counter[str] = Counter()
    for member in members:
        for stage in stages():
            for unit_id in stage.ids(member.run.plan):
                key = member.fingerprint_of(unit_id), unit_id
                if unit_id not in member.progress.done and key in seen:
                    counts[stage.name] += 1
                seen.add(key)
    return counts


def shares(members: Iterable[Member]) -> dict[str, dict[str, int]]:
    """Return how many units of each stage each point need not make itself, by folder; for a forecast.

    A unit that several points have in common is counted at all of them but the first.
    """
    seen: set[tuple[str, str]] = set()
    found: dict[str, dict[str, int]] = {}
    for member in members:
        counts = {}
        for stage in stages():
            keys = {(member.fingerprint_of(unit_id), unit_id) for unit_id in stage.ids(member.run.plan)}
            counts[stage.name] = len(keys & seen)
            seen |= keys
        found[member.folder] = counts
    return found
