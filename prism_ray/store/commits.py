"""The commit protocol: parts are written first, each under its own name; then one small commit names them.

A unit is done if and only if its commit exists and the files it names have the right size and hash. Work may
be done twice (a retry, a second driver), but it becomes visible once: the first commit wins. Units are
deterministic, so an attempt that finds its very bytes already written takes the file over.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field
from pydantic_core import from_json

from prism_ray.errors import StoreError
from prism_ray.store import layout
from prism_ray.store.files import StoreFiles
from prism_ray.store.records import (
    FINITE,
    FORMAT,
    MAX_RECORD_BYTES,
    Count,
    Figures,
    decode_record,
    record_bytes,
)
from prism_ray.store.remedy import damaged

_PIECE_BYTES = 2**22
MAX_PART_BYTES = 2**33  # of one that is read into memory at once: weights of two billion parameters


@dataclass(frozen=True)
class Piece:
    """Which rows of a file that several units share are one's."""

    __pydantic_config__: ClassVar[ConfigDict] = FINITE

    first_row: Count
    num_bytes: Count  # that they take in the file


@dataclass(frozen=True)
class PartFile:
    """A file that a commit names."""

    __pydantic_config__: ClassVar[ConfigDict] = FINITE

    name: str
    num_bytes: Annotated[Count, Field(le=2**38)]  # more, of holes perhaps, would be hashed for hours
    sha256: str
    num_rows: Count | None = None  # of a Parquet file; of a shared one the unit's
    piece: Piece | None = None  # of a file that it shares with others (compact.py)


@dataclass(frozen=True)
class Commit:
    """A finished unit."""

    __pydantic_config__: ClassVar[ConfigDict] = FINITE

    unit: str
    fingerprint: str
    files: tuple[PartFile, ...]
    stats: Figures  # accuracies, losses: small, for reports
    seconds: float  # the actor was busy with the unit
    host: str
    finished_at: str  # UTC, ISO 8601
    format: int = FORMAT

    @property
    def weights(self) -> dict[str, str]:
        """SHA-256 of the weights that the unit owes its result to, by teacher."""
        found = self.stats.get("weights")
        return found if isinstance(found, dict) else {}

    @property
    def num_bytes(self) -> int:
        """Bytes of its files, of a shared one its own."""
        return sum(file.piece.num_bytes if file.piece else file.num_bytes for file in self.files)


def write_part(
    files: StoreFiles, name_of: Callable[[int], str], data: bytes, num_rows: int | None = None
) -> PartFile:
    """Write `data` under the first name `name_of(attempt)` that is free or already holds it."""
    digest = hashlib.sha256(data).hexdigest()
    attempt = 0
    while True:
        name = name_of(attempt)
        if files.create(name, data) or _holds(files, name, len(data), digest):
            return PartFile(name, len(data), digest, num_rows)
        attempt += 1


def _holds(files: StoreFiles, name: str, num_bytes: int, digest: str) -> bool:
    return files.size(name) == num_bytes and sha256_of_file(files, name) == digest


def sha256_of_file(files: StoreFiles, name: str) -> str:
    """Hash a file piece by piece, so that its size does not matter."""
    digest = hashlib.sha256()
    with files.open(name) as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def read_part(files: StoreFiles, part: PartFile, max_bytes: int = MAX_PART_BYTES) -> bytes:
    """Return the bytes of a file that a commit names.

    Raises StoreError if they are not those committed, or more than `max_bytes`.
    """
    if part.num_bytes > max_bytes:
        problem = f"its commit says {part.num_bytes:,} bytes, and such a file has {max_bytes:,} at most"
        raise damaged(files, part.name, problem)
    data = files.read_up_to(part.name, part.num_bytes + 1)
    if len(data) != part.num_bytes:
        raise damaged(files, part.name, f"it does not have the {part.num_bytes:,} bytes that its commit says")
    if hashlib.sha256(data).hexdigest() != part.sha256:
        raise damaged(files, part.name, "its SHA-256 is not that of its commit")
    return data


def check_part(files: StoreFiles, part: PartFile) -> None:
    """Read a large file piece by piece; raises StoreError if its bytes are not those committed."""
    if not _holds(files, part.name, part.num_bytes, part.sha256):
        raise damaged(files, part.name, "its SHA-256 is not that of its commit")


def write_commit(files: StoreFiles, commit: Commit) -> bool:
    """Make a unit's work visible; False if another attempt's commit was there first."""
    data = encode_commit(commit)
    if len(data) > MAX_RECORD_BYTES:
        raise StoreError(
            f"{files.location}: the commit of {commit.unit} would have {len(data):,} bytes of at most "
            f"{MAX_RECORD_BYTES:,}; lower images_per_batch"
        )
    return files.create(layout.commit(commit.unit), data)


def encode_commit(commit: Commit) -> bytes:
    """Return a commit as it stands in the store."""
    return json.dumps(vars(commit), default=vars, indent=1, allow_nan=False).encode()


def recode_commit(files: StoreFiles, commit: Commit) -> bytes:
    """Return a commit that replaces the one in the store, whose keys of later versions are kept."""
    held = from_json(record_bytes(files, layout.commit(commit.unit)))
    values = json.loads(encode_commit(commit))
    return json.dumps({**held, **values}, indent=1, allow_nan=False).encode()


def read_commit(files: StoreFiles, unit_id: str) -> Commit:
    """Read a unit's commit; raises StoreError if it is missing or damaged."""
    name = layout.commit(unit_id)
    data = record_bytes(files, name)
    try:
        commit = decode_record(Commit, data, f"{files.location}/{name}")
        for part in commit.files:
            files.path(part.name)
        if commit.unit != unit_id:
            raise ValueError(f"it is the commit of {commit.unit!r}")
    except (ValueError, StoreError) as error:
        raise damaged(files, name, error) from None
    return commit


def list_commits(files: StoreFiles) -> dict[str, int]:
    """Return the size of each commit in bytes by the id of its unit, in sorted order, without reading any.

    A command lists once and hands the result on: behind a network each listing costs money and minutes.
    """
    return {
        name[len(layout.COMMITS) + 1 : -len(".json")]: num_bytes
        for name, num_bytes in files.list(layout.COMMITS)
        if name.endswith(".json")
    }


def find_damage(
    commit: Commit,
    size_of: Callable[[str, int], int | None],
    sha256_of: Callable[[PartFile], str] | None = None,
) -> str | None:
    """Say what is wrong with a commit's files, None if nothing: existence, size, with `sha256_of` the hash.

    `size_of` returns the size in bytes of a file by its name and the size it should have, None if missing.
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
    """Set a unit back to pending: delete its commit, and those of its files that are not what it says.

    Good files stay: the unit's next attempt finds its very bytes there and takes them over.
    """
    try:
        parts = read_commit(files, unit_id).files
    except StoreError:  # not a commit: it names nothing
        parts = ()
    files.delete(layout.commit(unit_id))
    for part in parts:
        whole = _holds(files, part.name, part.num_bytes, part.sha256)
        if layout.is_part(part.name) and not whole and files.exists(part.name):
            files.delete(part.name)
