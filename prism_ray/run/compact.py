"""Merging small parts into a few large files, in which the rows of the units follow each other.

A merged file is written first. Then each commit is replaced by one that names the unit's rows in the merged
file. `gc` deletes the small files later, so a reader always finds a whole unit, whichever of the two commits
it has read. This needs the lease: nobody else may commit or revoke meanwhile.
"""

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pkgutil import resolve_name
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from prism_ray.errors import StoreError
from prism_ray.parts.images import OF_A_BATCH
from prism_ray.parts.rows import RowLayout, open_rows
from prism_ray.run.ledger import Ledger, is_listed
from prism_ray.run.plan_file import Run
from prism_ray.stages import stages
from prism_ray.store import layout
from prism_ray.store.commits import (
    Commit,
    PartFile,
    Piece,
    in_groups,
    list_commits,
    read_commit,
    recode_commit,
)
from prism_ray.store.elsewhere import is_elsewhere
from prism_ray.store.files import StoreFiles
from prism_ray.store.remedy import damaged

_LEDGER_ROWS = 100_000
_MAX_PARTS = 500  # in a file: its footer grows with each, and a footer above 64 MiB is not read


class Merged(NamedTuple):
    """A file that was merged from several parts."""

    name: str
    num_parts: int
    num_bytes: int


def compact(files: StoreFiles, run: Run, max_bytes: int) -> Iterator[Merged]:
    """Merge the parts of images and labels that have at most half of `max_bytes`, in the plan's order.

    Those of image sets that the present config does not name are merged too. Yields each merged file when its
    commits name it. Raises StoreError if a part or a commit is damaged.
    """
    present = list_commits(files)
    for stage in stages():
        if stage.rows is None:
            continue
        for image_set, its_run in run.image_sets.items():
            units = its_run.plan.unit_ids(stage.name, image_set)
            commits = (read_commit(files, unit_id) for unit_id in units if unit_id in present)
            small = (commit for commit in commits if _is_small(commit, max_bytes // 2))
            rows: RowLayout = resolve_name(stage.rows)(its_run.plan, image_set)
            for group in in_groups(small, max_bytes, _MAX_PARTS):
                if len(group) > 1:
                    yield _merge(files, group, rows, present)
    _rewrite_ledger(files, present)


def _is_small(commit: Commit, max_bytes: int) -> bool:
    """Return whether a unit's file is to be merged; one in another store of the sweep stays there."""
    if len(commit.files) != 1 or is_elsewhere(commit.files[0].name):
        return False
    return commit.num_bytes <= max_bytes and commit.files[0].piece is None


def _merge(files: StoreFiles, commits: list[Commit], rows: RowLayout, commit_bytes: dict[str, int]) -> Merged:
    """Merge the files of some commits; set the sizes of the new commits in `commit_bytes`."""
    sink = io.BytesIO()
    pieces: list[tuple[int, int]] = []  # rows and bytes of each unit
    metadata: dict[str, dict[str, Any]] = {key: {} for key in OF_A_BATCH}
    schema = rows.schema.with_metadata(rows.metadata)
    with pq.ParquetWriter(sink, schema, write_page_checksum=True, **rows.options) as writer:
        for commit in commits:
            (part,) = commit.files
            before, num_rows = sink.tell(), 0
            try:
                reader, groups = open_rows(files, part, rows.schema, at_once=True)
                for number in groups:
                    table = reader.read([number], rows.max_bytes)
                    for key, by_batch in metadata.items():
                        packed = (table.schema.metadata or {}).get(key.encode())
                        if packed is not None:
                            by_batch[commit.unit.rpartition("/")[2]] = json.loads(packed)
                    writer.write_table(
                        table.replace_schema_metadata(rows.metadata), row_group_size=len(table)
                    )
                    num_rows += len(table)
            except ValueError as error:
                raise damaged(files, part.name, error) from error
            pieces.append((num_rows, sink.tell() - before))
        kept = {key: json.dumps(by_batch) for key, by_batch in metadata.items() if by_batch}
        writer.add_key_value_metadata(kept)
    data = sink.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    name = f"{commits[0].files[0].name.rpartition('/')[0]}/{layout.merged_part(digest)}"
    files.create(name, data)
    first_row = 0
    for commit, (num_rows, num_bytes) in zip(commits, pieces, strict=True):
        part = PartFile(name, len(data), digest, num_rows, Piece(first_row, num_bytes))
        text = recode_commit(files, replace(commit, files=(part,)))
        files.replace(layout.commit(commit.unit), text)
        commit_bytes[commit.unit] = len(text)
        first_row += num_rows
    return Merged(name, len(commits), len(data))


def _rewrite_ledger(files: StoreFiles, commit_bytes: Mapping[str, int]) -> None:
    """Write the ledger again, in as few files as possible, and delete the old ones."""
    old = {name for name, _ in files.list(layout.LEDGER)}
    ledger = Ledger(files, _LEDGER_ROWS)
    for unit_id in sorted(commit_bytes):
        if is_listed(unit_id):
            with suppress(StoreError):  # `verify` reports damaged ones
                ledger.add(read_commit(files, unit_id), commit_bytes[unit_id])
    ledger.close()
    for name in sorted(old - ledger.names):
        files.delete(name)
