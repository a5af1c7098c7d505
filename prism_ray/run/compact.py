"""Merging small parts into few large ones, each still one unit's rows after another's.

A merged file is written first, then commit by commit is laid over the old one and names its rows there. Until
the last is done both files are in the store, and `gc` deletes the small ones later: a reader finds a whole
unit at any moment, whichever commit it has read. Needs the lease: nobody may commit or revoke meanwhile.
"""

import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pkgutil import resolve_name
from typing import Any

import pyarrow.parquet as pq

from prism_ray.errors import StoreError
from prism_ray.parts.images import DRAWS
from prism_ray.parts.rows import RowLayout, open_rows
from prism_ray.run.ledger import Ledger, is_listed
from prism_ray.run.plan_file import Run
from prism_ray.stages import stages
from prism_ray.store import layout
from prism_ray.store.commits import Commit, PartFile, Piece, list_commits, read_commit, recode_commit
from prism_ray.store.files import StoreFiles
from prism_ray.store.remedy import damaged

_LEDGER_ROWS = 100_000


@dataclass(frozen=True)
class Merged:
    """A file that was made of several."""

    name: str
    num_parts: int
    num_bytes: int


def compact(files: StoreFiles, run: Run, max_bytes: int) -> Iterator[Merged]:
    """Merge the parts of images and labels that are smaller than half of `max_bytes`, in the plan's order.

    Yields each merged file once its commits name it. Raises StoreError if a part or a commit is damaged.
    """
    present = list_commits(files)
    for stage in stages():
        if stage.rows is None:
            continue
        for image_set in run.plan.image_sets:
            units = run.plan.unit_ids(stage.name, image_set)
            commits = (read_commit(files, unit_id) for unit_id in units if unit_id in present)
            layout_of_rows: RowLayout = resolve_name(stage.rows)(run.plan, image_set)
            for group in _groups(commits, max_bytes):
                yield _merge(files, group, layout_of_rows, present)
    _renew_ledger(files, present)


def _groups(commits: Iterable[Commit], max_bytes: int) -> Iterator[list[Commit]]:
    """Cut the commits of small parts, in order, into groups of at least 2 and together about `max_bytes`."""
    group: list[Commit] = []
    num_bytes = 0
    for commit in commits:
        if len(commit.files) != 1 or commit.num_bytes > max_bytes // 2 or commit.files[0].piece is not None:
            continue
        if num_bytes + commit.num_bytes > max_bytes:
            if len(group) > 1:
                yield group
            group, num_bytes = [], 0
        group.append(commit)
        num_bytes += commit.num_bytes
    if len(group) > 1:
        yield group


def _merge(files: StoreFiles, commits: list[Commit], rows: RowLayout, commit_bytes: dict[str, int]) -> Merged:
    """Merge the files of some commits; note the sizes of the new commits in `commit_bytes`."""
    sink = io.BytesIO()
    pieces: list[tuple[int, int]] = []  # rows and bytes of each unit
    draws: dict[str, Any] = {}
    metadata = rows.metadata
    with pq.ParquetWriter(
        sink, rows.schema.with_metadata(metadata), write_page_checksum=True, **rows.options
    ) as writer:
        for commit in commits:
            (part,) = commit.files
            before, num_rows = sink.tell(), 0
            try:
                reader, groups = open_rows(files, part, rows.schema, at_once=True)
                for number in groups:
                    table = reader.read([number], rows.max_bytes)
                    packed = (table.schema.metadata or {}).get(DRAWS.encode())
                    if packed is not None:
                        draws[commit.unit.rpartition("/")[2]] = json.loads(packed)
                    writer.write_table(table.replace_schema_metadata(metadata), row_group_size=len(table))
                    num_rows += len(table)
            except ValueError as error:
                raise damaged(files, part.name, error) from error
            pieces.append((num_rows, sink.tell() - before))
        if draws:
            writer.add_key_value_metadata({DRAWS: json.dumps(draws)})
    data = sink.getvalue()
    num_bytes_of_file = len(data)
    digest = hashlib.sha256(data).hexdigest()
    name = f"{commits[0].files[0].name.rpartition('/')[0]}/{layout.merged_part(digest)}"
    files.create(name, data)
    first_row = 0
    for commit, (num_rows, num_bytes) in zip(commits, pieces, strict=True):
        part = PartFile(name, num_bytes_of_file, digest, num_rows, Piece(first_row, num_bytes))
        data = recode_commit(files, replace(commit, files=(part,)))
        files.replace(layout.commit(commit.unit), data)
        commit_bytes[commit.unit] = len(data)
        first_row += num_rows
    return Merged(name, len(commits), num_bytes_of_file)


def _renew_ledger(files: StoreFiles, commit_bytes: Mapping[str, int]) -> None:
    """Write the ledger anew, in as few files as can be, and delete the old ones."""
    old = {name for name, _ in files.list(layout.LEDGER)}
    ledger = Ledger(files, _LEDGER_ROWS)
    for unit_id in sorted(commit_bytes):
        if is_listed(unit_id):
            with suppress(StoreError):  # a damaged one is for `verify`
                ledger.add(read_commit(files, unit_id), commit_bytes[unit_id])
    ledger.close()
    for name in sorted(old - ledger.names):
        files.delete(name)
