"""The commit protocol: the parts of a unit are written first, then one small commit that names them.

A unit is done if and only if its commit exists and the files that it names have the right size and hash. Work
may be done twice (by a retry or a second driver), but only the first commit counts. Units are deterministic,
so an attempt that finds its own bytes already written uses that file.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, FiniteFloat
from pydantic_core import from_json

from prism_ray.errors import StoreError
from prism_ray.store import layout
from prism_ray.store.elsewhere import is_elsewhere
from prism_ray.store.files import StoreFiles
from prism_ray.store.records import FORMAT, MAX_RECORD_BYTES, Count, Figures, read_record
from prism_ray.store.remedy import damaged

_MAX_PART_BYTES = 2**33  # of a part that is read into memory at once: weights of two billion parameters


@dataclass(frozen=True)
class Piece:
    """The rows of one unit in a file that several units share."""

    first_row: Count
    num_bytes: Count  # that the rows take in the file


@dataclass(frozen=True)
class PartFile:
    """A file that a commit names."""

    name: str
    num_bytes: Annotated[Count, Field(le=2**38)]  # a larger file, perhaps sparse, would be hashed for hours
    sha256: str
    num_rows: Count | None = None  # of a Parquet file; of a shared one, the unit's rows
    piece: Piece | None = None  # if other units share the file (compact.py)


@dataclass(frozen=True)
class Commit:
    """A finished unit."""

    unit: str
    fingerprint: str
    files: tuple[PartFile, ...]
    stats: Figures  # accuracies, losses: small, for reports
    seconds: FiniteFloat  # that the actor was busy with the unit
    host: str
    finished_at: str  # UTC, ISO 8601
    format: int = FORMAT

    @property
    def weights(self) -> dict[str, str]:
        """SHA-256 of the weights that the unit was made with, by teacher."""
        found = self.stats.get("weights")
        return found if isinstance(found, dict) else {}

    @property
    def is_shared(self) -> bool:
        """Whether it refers to files of another point of a sweep, which made the unit."""
        return any(is_elsewhere(part.name) for part in self.files)

    @property
    def num_bytes(self) -> int:
        """Bytes of the unit's files; of a shared file, only of its rows."""
        return sum(file.piece.num_bytes if file.piece else file.num_bytes for file in self.files)


def write_part(
    files: StoreFiles, name_of: Callable[[int], str], data: bytes, num_rows: int | None = None
) -> PartFile:
    """Write `data` under the first name `name_of(attempt)` that is free or already has these bytes."""
    digest = hashlib.sha256(data).hexdigest()
    attempt = 0
    while True:
        part = PartFile(name_of(attempt), len(data), digest, num_rows)
        if files.create(part.name, data) or is_intact(files, part):
            return part
        attempt += 1


def is_intact(files: StoreFiles, part: PartFile) -> bool:
    """Return whether the file of a part has the bytes that were committed."""
    return files.size(part.name) == part.num_bytes and sha256_of_file(files, part.name) == part.sha256


def sha256_of_file(files: StoreFiles, name: str) -> str:
    """Return the SHA-256 (hex) of a file of any size; it is read block by block."""
    with files.open(name) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_part(files: StoreFiles, part: PartFile, max_bytes: int = _MAX_PART_BYTES) -> bytes:
    """Return the bytes of a part; raises StoreError if they are not as committed, or exceed `max_bytes`."""
    if part.num_bytes > max_bytes:
        problem = f"its commit says {part.num_bytes:,} bytes, and such a file has {max_bytes:,} at most"
        raise damaged(files, part.name, problem)
    data = files.read_up_to(part.name, part.num_bytes + 1)
    if len(data) != part.num_bytes:
        raise damaged(files, part.name, f"it does not have the {part.num_bytes:,} bytes of its commit")
    if hashlib.sha256(data).hexdigest() != part.sha256:
        raise damaged(files, part.name, "its SHA-256 is not that of its commit")
    return data


def write_commit(files: StoreFiles, commit: Commit) -> bool:
    """Commit a unit; returns False if another attempt has committed it before."""
    data = encode_commit(commit)
    if len(data) > MAX_RECORD_BYTES:
        raise StoreError(
            f"{files.location}: the commit of {commit.unit} would have {len(data):,} bytes, and a commit has "
            f"{MAX_RECORD_BYTES:,} at most; lower images_per_batch"
        )
    return files.create(layout.commit(commit.unit), data)


def encode_commit(commit: Commit) -> bytes:
    """Return the bytes of a commit in the store."""
    return json.dumps(vars(commit), default=vars, indent=1, allow_nan=False).encode()


def recode_commit(files: StoreFiles, commit: Commit) -> bytes:
    """Return the bytes of a commit that replaces the stored one; keys of later versions are kept."""
    stored = from_json(files.read_up_to(layout.commit(commit.unit), MAX_RECORD_BYTES))
    values = stored | json.loads(encode_commit(commit))
    return json.dumps(values, indent=1, allow_nan=False).encode()


def read_commit(files: StoreFiles, unit_id: str) -> Commit:
    """Read a unit's commit; raises StoreError if it is missing or damaged."""
    name = layout.commit(unit_id)
    commit = read_record(files, name, Commit)
    if commit.unit != unit_id:
        raise damaged(files, name, f"it is the commit of {commit.unit!r}")
    try:
        for part in commit.files:
            files.path(part.name)
    except StoreError as error:
        raise damaged(files, name, error) from None
    return commit


def list_commits(files: StoreFiles) -> dict[str, int]:
    """Return the size of each commit in bytes by the id of its unit, in sorted order, without reading any.

    Call it once in a command and hand the result on: on remote storage, each listing costs money and minutes.
    """
    return {
        name[len(layout.COMMITS) + 1 : -len(".json")]: num_bytes
        for name, num_bytes in files.list(layout.COMMITS)
        if name.endswith(".json")
    }


def in_groups(
    commits: Iterable[Commit], max_bytes: int, max_count: int | None = None
) -> Iterator[list[Commit]]:
    """Split commits, in order, into groups of at most `max_count` with about `max_bytes` of parts at most."""
    group: list[Commit] = []
    num_bytes = 0
    for commit in commits:
        if group and (num_bytes + commit.num_bytes > max_bytes or len(group) == max_count):
            yield group
            group, num_bytes = [], 0
        group.append(commit)
        num_bytes += commit.num_bytes
    if group:
        yield group


def find_damage(
    commit: Commit,
    size_of: Callable[[str, int], int | None],
    sha256_of: Callable[[PartFile], str] | None = None,
) -> str | None:
    """Return what is wrong with a commit's files, None if nothing.

    Checks that they exist and their sizes, with `sha256_of` also their hashes. `size_of` returns the size in
    bytes of a file, None if it is missing; it takes the name and the expected size.
    """
    for part in commit.files:
        size = size_of(part.name, part.num_bytes)
        if size is None:
            return f"{part.name} is missing"
        if size != part.num_bytes:
            return f"{part.name} has {size} bytes, its commit says {part.num_bytes}"
        if sha256_of is not None and sha256_of(part) != part.sha256:
            return f"{part.name} has another SHA-256 than its commit says"
    return None


def revoke(files: StoreFiles, unit_id: str) -> None:
    """Set a unit back to pending: delete its commit and those of its files that are damaged.

    Intact files stay: the unit's next attempt finds its own bytes there and uses them.
    """
    try:
        parts = read_commit(files, unit_id).files
    except StoreError:  # a damaged commit names no files
        parts = ()
    files.delete(layout.commit(unit_id))
    for part in parts:
        if layout.is_part(part.name) and files.exists(part.name) and not is_intact(files, part):
            files.delete(part.name)
