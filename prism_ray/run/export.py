"""A run's images for others: as PNG files in class folders, or as a Hugging Face dataset folder.

The target is created file by file and never written over; names come from numbers alone.
"""

import io
import json
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from prism_ray.errors import UsageError
from prism_ray.parts.images import ImageForm, StoredImages, describe_columns, read_batch
from prism_ray.run.plan_file import Run
from prism_ray.store import layout
from prism_ray.store.commits import Commit, read_commit
from prism_ray.store.files import StoreFiles

_MAX_FILE_BYTES = 500 * 10**6


def commits_of_set(files: StoreFiles, run: Run, image_set: str) -> list[Commit]:
    """Return the commits of an image set's batches, in the plan's order.

    Raises UsageError if there is no such set, StoreError if it is not complete.
    """
    if image_set not in run.plan.image_sets:
        raise UsageError(
            f"{files.location} has no image set {image_set!r}; it has {', '.join(run.plan.image_sets)}"
        )
    return [read_commit(files, unit_id) for unit_id in run.plan.unit_ids("recover", image_set)]


def export_folder(
    files: StoreFiles, run: Run, image_set: str, commits: Sequence[Commit], target: StoreFiles
) -> int:
    """Write `train/<label>/<IPC index>.png` and classes.json; return the number of images.

    torchvision's ImageFolder numbers such folders as the labels are numbered.
    """
    _create(target, "classes.json", json.dumps(list(run.facts.class_names), indent=1).encode())
    num_images = 0
    for table, stored in _batches(files, run, image_set, commits):
        for slot, image in zip(stored.slots, table["image"].to_pylist(), strict=True):
            _create(target, f"train/{slot.label:05d}/{slot.ipc_index:05d}.png", image["bytes"])
            num_images += 1
    target.remove_empty(layout.WIP)
    return num_images


def export_dataset(
    files: StoreFiles,
    run: Run,
    image_set: str,
    commits: Sequence[Commit],
    target: StoreFiles,
    max_file_bytes: int = _MAX_FILE_BYTES,
) -> int:
    """Write `data/train-00000-of-N.parquet` and README.md, the dataset card; return the number of images.

    `datasets.load_dataset(FOLDER)` reads it: the features stand in the files.
    """
    bins = _bins(commits, max_file_bytes)
    num_images = 0
    for number, members in enumerate(bins):
        sink = io.BytesIO()
        writer: pq.ParquetWriter | None = None
        for table, _ in _batches(files, run, image_set, members):
            # One schema for all files; the draws of each batch stay with the run.
            table = table.replace_schema_metadata(describe_columns(run.facts.class_names))
            writer = writer or pq.ParquetWriter(sink, table.schema, compression="zstd")
            writer.write_table(table)
            num_images += table.num_rows
        if writer is not None:
            writer.close()
        _create(target, f"data/train-{number:05d}-of-{len(bins):05d}.parquet", sink.getvalue())
    _create(target, "README.md", _card(run, image_set, num_images).encode())
    target.remove_empty(layout.WIP)
    return num_images


def _bins(commits: Sequence[Commit], max_bytes: int) -> list[list[Commit]]:
    """Cut the commits, in order, into runs whose parts are together about `max_bytes` at most."""
    bins: list[list[Commit]] = [[]]
    size = 0
    for commit in commits:
        if bins[-1] and size + commit.num_bytes > max_bytes:
            bins.append([])
            size = 0
        bins[-1].append(commit)
        size += commit.num_bytes
    return bins


def _batches(
    files: StoreFiles, run: Run, image_set: str, commits: Sequence[Commit]
) -> Iterator[tuple[pa.Table, StoredImages]]:
    form = ImageForm.of(run.plan, image_set)
    for commit in commits:
        yield read_batch(files, commit, form, with_history=True)


def _create(target: StoreFiles, name: str, data: bytes) -> None:
    if not target.create(name, data):
        raise UsageError(f"{target.location}/{name} is there already; give --to a folder that is new")


def _card(run: Run, image_set: str, num_images: int) -> str:
    config, data = run.config.image_sets[image_set], run.config.data
    bucket = next(
        text
        for limit, text in ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))
        if num_images < limit or limit == 10**6
    )
    return f"""---
task_categories:
- image-classification
tags:
- dataset-distillation
- {config.method}
size_categories:
- {bucket}
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*.parquet
---

# {num_images} images distilled from {data.source}

Made by prism-ray: method `{config.method}`, {config.ipc} images per class of {run.facts.num_classes} classes,
{data.image_size} x {data.image_size} pixels, seed {run.config.seed}. The images are meant to be learned from
with soft labels, which the run's store holds; `label` is the class that each was made for.

| column | what it is |
|---|---|
| `image` | PNG |
| `label` | class |
| `ipc_index` | number of the image within its class |
| `batch`, `seed` | the batch that it was optimised in, and its seed |
| `teachers` | the networks that supervised the batch |
| `num_iterations` | of the image |
| `loss_ce`, `loss_bn` | of the batch, at its last iteration |
"""
