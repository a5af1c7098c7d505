"""Export of a run as a Hugging Face dataset folder: images, and views with their soft labels.

The folder has two configurations: `default`, the images, and `labels`. card.py writes its README.md.
"""

import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from prism_ray.parts.images import IMAGE_SCHEMA, ImageForm, describe_columns, read_batch
from prism_ray.parts.labels import LabelForm, label_options, with_views
from prism_ray.parts.rows import open_rows
from prism_ray.run.card import StudentInput, write_card
from prism_ray.run.export import create
from prism_ray.run.plan_file import Run
from prism_ray.stages.squeeze import scope_of_teacher
from prism_ray.store import layout
from prism_ray.store.commits import Commit, in_groups, read_commit, read_part
from prism_ray.store.files import StoreFiles
from prism_ray.store.records import MAX_RECORD_BYTES, decode_record
from prism_ray.store.remedy import damaged, unfit

LABELS = "labels"  # the configuration of the soft labels
_CLASSES = ("label", "partner_label")  # columns with a class


@dataclass(frozen=True)
class _Card:
    """The part of a teacher's card that is read here."""

    preprocessing: StudentInput


def export_dataset(
    files: StoreFiles,
    run: Run,
    image_set: str,
    commits: Sequence[Commit],
    target: StoreFiles,
    max_file_bytes: int = 500 * 10**6,
    labels: Sequence[Commit] | None = None,
) -> int:
    """Write `data/*.parquet`, with the commits of `labels` also `labels/*.parquet`, and README.md, the card.

    `datasets.load_dataset(FOLDER)` reads the images, `load_dataset(FOLDER, "labels")` the labels: the files
    contain the types of their columns. Returns the number of images.
    """
    form = ImageForm.of(run.plan, image_set)
    # All files have one schema; the draws of each batch stay in the run.
    images = IMAGE_SCHEMA.with_metadata(describe_columns(run.facts.class_names))

    def of_batch(commit: Commit) -> Iterator[pa.Table]:
        yield read_batch(files, commit, form, with_history=True)[0]

    features = [images]
    groups = list(in_groups(commits, max_file_bytes))
    num_images = _write(target, "data", images, groups, of_batch, {"compression": "zstd"})
    if labels is not None:
        label_form = LabelForm.of(run.plan, image_set)
        schema = _exported(label_form.full_schema, run.facts.class_names)

        def of_unit(commit: Commit) -> Iterator[pa.Table]:
            return _label_tables(files, commit, label_form)

        features.append(schema)
        groups = list(in_groups(labels, max_file_bytes))
        _write(target, LABELS, schema, groups, of_unit, label_options(schema))
    shown = None if labels is None else _student_input(files, run)
    card = write_card(run, image_set, num_images, features, shown)
    create(target, "README.md", card.encode(errors="backslashreplace"))
    target.remove_empty(layout.WIP)
    return num_images


def _write(
    target: StoreFiles,
    folder: str,
    schema: pa.Schema,
    groups: Sequence[Sequence[Commit]],
    tables_of: Callable[[Commit], Iterator[pa.Table]],
    options: dict[str, Any],
) -> int:
    """Write `FOLDER/train-00000-of-N.parquet`, a file per group of commits; return the number of rows."""
    num_rows = 0
    for number, group in enumerate(groups):
        sink = io.BytesIO()
        with pq.ParquetWriter(sink, schema, **options) as writer:
            for commit in group:
                for table in tables_of(commit):
                    whole = table.cast(pa.schema(list(schema))).replace_schema_metadata(schema.metadata)
                    writer.write_table(whole, row_group_size=max(1, len(whole)))
                    num_rows += len(whole)
        create(target, f"{folder}/train-{number:05d}-of-{len(groups):05d}.parquet", sink.getvalue())
    return num_rows


def _label_tables(files: StoreFiles, commit: Commit, form: LabelForm) -> Iterator[pa.Table]:
    """Yield the rows of a unit's labels with all parameters of their views, row group by row group."""
    for part in commit.files:
        try:
            reader, groups = open_rows(files, part, form.schema)
            for number in groups:
                yield with_views(reader.read([number], form.max_row_group_bytes), form, commit.unit)
        except ValueError as error:
            raise damaged(files, part.name, error) from error


def _exported(schema: pa.Schema, class_names: Sequence[str]) -> pa.Schema:
    """Return the schema of the exported labels, with the metadata that tell `datasets` the types."""
    columns = [pa.field(c.name, pa.int64()) if c.name in _CLASSES else c for c in schema]
    features: dict[str, Any] = {}
    for column in columns:
        features[column.name] = {"dtype": _dtype(column.type), "_type": "Value"}
        if column.name in _CLASSES:
            features[column.name] = {"names": list(class_names), "_type": "ClassLabel"}
        elif pa.types.is_fixed_size_list(column.type):
            value = {"dtype": _dtype(column.type.value_type), "_type": "Value"}
            features[column.name] = {"feature": value, "length": column.type.list_size, "_type": "List"}
    return pa.schema(columns, metadata={"huggingface": json.dumps({"info": {"features": features}})})


def _dtype(kind: pa.DataType) -> str:
    """Return the name that `datasets` has for a type."""
    return {pa.float16(): "float16", pa.float32(): "float32"}.get(kind, str(kind))


def _student_input(files: StoreFiles, run: Run) -> StudentInput:
    """Return what the primary's card says of the students' input; raises StoreError if it does not."""
    commit = read_commit(files, scope_of_teacher(run.config.primary))
    try:
        data = read_part(files, commit.files[1], MAX_RECORD_BYTES)
        return decode_record(_Card, data, "the card of a teacher").preprocessing
    except (ValueError, IndexError) as error:
        raise unfit(files, commit.unit, f"its card is damaged: {error}") from error


def how_to_read_dataset(target: StoreFiles) -> str:
    """Return the Python code that reads the images which `export_dataset` wrote."""
    if not target.is_local:
        return f"datasets.load_dataset('parquet', data_files={f'{target.location}/data/*.parquet'!r})"
    if any(sign in target.location for sign in ("::", *"*?[]$")):  # load_dataset takes these for patterns
        return f"datasets.Dataset(pyarrow.parquet.read_table({f'{target.location}/data'!r}))"
    return f"datasets.load_dataset({target.location!r})"
