"""Merging small parts into few large ones, each still one unit's rows after another's.

A merged file is written first, then commit by commit is laid over the old one and names its rows there. Until
the last is done both files are in the store, and `gc` deletes the small ones later: a reader finds a whole
unit at any moment, whichever commit it has read. Needs the lease: nobody may commit or revoke meanwhile.
"""

import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from prism_ray.errors import StoreError
from prism_ray.parts.images import DRAWS, IMAGE_OPTIONS, IMAGE_SCHEMA, ImageForm, describe_columns
from prism_ray.parts.labels import LABEL_OPTIONS, LabelForm, label_schema
from prism_ray.parts.rows import open_rows
from prism_ray.run.ledger import LISTED_STAGES, Ledger
from prism_ray.run.plan_file import Run
from prism_ray.store import layout
from prism_ray.store.commits import Commit, PartFile, Piece, commit_sizes, encode_commit, read_commit
from prism_ray.store.files import StoreFiles
from prism_ray.units import Stage, stage_of

_LEDGER_ROWS = 100_000


@dataclass(frozen=True)
class _Codec:
    """How the files of a stage are written, and how large a row group may be when it is unpacked."""

    schema: pa.Schema
    metadata: dict[str, str]
    options: dict[str, Any]
    max_bytes: int

    @classmethod
    def of(cls, run: Run, stage: Stage, image_set: str) -> Self:
        if stage == "recover":
            metadata, form = describe_columns(run.facts.class_names), ImageForm.of(run.plan, image_set)
            return cls(IMAGE_SCHEMA, metadata, IMAGE_OPTIONS, form.max_part_bytes)
        labels = LabelForm.of(run.plan, image_set)
        return cls(label_schema(labels.num_classes), {}, LABEL_OPTIONS, labels.max_row_group_bytes)


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
    present = {unit_id for unit_id, _ in commit_sizes(files)}
    for stage in LISTED_STAGES:
        for image_set in run.plan.image_sets:
            units = (
                run.plan.recover_ids(image_set)
                if stage == "recover"
                else (unit.id for unit in run.plan.relabel_units(image_set))
            )
            commits = (read_commit(files, unit_id) for unit_id in units if unit_id in present)
            for group in _groups(commits, max_bytes):
                yield _merge(files, group, _Codec.of(run, stage, image_set))
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


def _merge(files: StoreFiles, commits: list[Commit], codec: _Codec) -> Merged:
    sink = io.BytesIO()
    pieces: list[tuple[int, int]] = []  # rows and bytes of each unit
    draws: dict[str, Any] = {}
    metadata = codec.metadata
    with pq.ParquetWriter(
        sink, codec.schema.with_metadata(metadata), write_page_checksum=True, **codec.options
    ) as writer:
        for commit in commits:
            (part,) = commit.files
            before, num_rows = sink.tell(), 0
            try:
                reader, groups = open_rows(files, part, codec.schema, at_once=True)
                for number in groups:
                    table = reader.read([number], codec.max_bytes)
                    packed = (table.schema.metadata or {}).get(DRAWS.encode())
                    if packed is not None:
                        draws[commit.unit.rpartition("/")[2]] = json.loads(packed)
                    writer.write_table(table.replace_schema_metadata(metadata), row_group_size=len(table))
                    num_rows += len(table)
            except ValueError as error:
                raise StoreError(
                    f"{files.location}/{part.name} is damaged: {error}; run `prism-ray verify --repair "
                    f"{files.location}` first"
                ) from error
            pieces.append((num_rows, sink.tell() - before))
        if draws:
            writer.add_key_value_metadata({DRAWS: json.dumps(draws)})
    data = sink.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    name = f"{commits[0].files[0].name.rpartition('/')[0]}/{layout.merged_part(digest)}"
    files.create(name, data)
    first_row = 0
    for commit, (num_rows, num_bytes) in zip(commits, pieces, strict=True):
        part = PartFile(name, len(data), digest, num_rows, Piece(first_row, num_bytes))
        files.replace(layout.commit(commit.unit), encode_commit(replace(commit, files=(part,))))
        first_row += num_rows
    return Merged(name, len(commits), len(data))


def _renew_ledger(files: StoreFiles, unit_ids: Iterable[str]) -> None:
    """Write the ledger anew, in as few files as can be, and delete the old ones."""
    old = {name for name, _ in files.list(layout.LEDGER)}
    ledger = Ledger(files, _LEDGER_ROWS)
    for unit_id in sorted(unit_ids):
        if stage_of(unit_id) in LISTED_STAGES:
            with suppress(StoreError):  # a damaged one is for `verify`
                ledger.add(read_commit(files, unit_id))
    ledger.close()
    for name in sorted(old - ledger.names):
        files.delete(name)
