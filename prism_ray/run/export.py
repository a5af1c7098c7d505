"""Export of a run's images: as PNG files in class folders, or as a Hugging Face dataset folder.

No file of the target is ever overwritten. File names contain only numbers from the run.
"""

import io
import json
from bisect import bisect_right
from collections.abc import Sequence

import pyarrow.parquet as pq

from prism_ray.errors import StoreError, UsageError
from prism_ray.parts.images import IMAGE_SCHEMA, ImageForm, describe_columns, read_batch
from prism_ray.run.plan_file import NOT_IN_CONFIG, Run
from prism_ray.shell import command
from prism_ray.store import layout
from prism_ray.store.commits import Commit, in_groups, list_commits, read_commit
from prism_ray.store.files import StoreFiles
from prism_ray.store.remedy import resume_command

_SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M")  # of a dataset, in the words of Hugging Face


def commits_of_set(files: StoreFiles, run: Run, image_set: str) -> list[Commit]:
    """Return the commits of an image set's batches, in the plan's order.

    Raises UsageError if there is no such set or some batches are not done yet, and StoreError if a commit is
    damaged.
    """
    its_run = run.of_image_set(image_set, files.location)
    unit_ids = list(its_run.plan.unit_ids("recover", image_set))
    commits = []
    for unit_id in unit_ids:
        try:
            commits.append(read_commit(files, unit_id))
        except StoreError:
            if files.exists(layout.commit(unit_id)):
                raise
            committed = list_commits(files)
            num_done = sum(each in committed for each in unit_ids)
            remedy = f"finish it with `{resume_command(files)}`"
            if its_run is not run:
                resume = command("distill", "CONFIG", "--store", files.location)
                remedy = f"it is {NOT_IN_CONFIG}; finish it with `{resume}` and a config that names it"
            raise UsageError(
                f"{files.location}: the image set {image_set!r} is not finished, {num_done} of "
                f"{len(unit_ids)} batches are done; {remedy}"
            ) from None
    return commits


def export_folder(
    files: StoreFiles, run: Run, image_set: str, commits: Sequence[Commit], target: StoreFiles
) -> int:
    """Write `train/<label>/<IPC index>.png` and classes.json; return the number of images.

    torchvision's ImageFolder gives the classes the same numbers.
    """
    _create(target, "classes.json", json.dumps(list(run.facts.class_names), indent=1).encode())
    num_images = 0
    form = ImageForm.of(run.plan, image_set)
    for commit in commits:
        table, stored = read_batch(files, commit, form)
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
    max_file_bytes: int = 500 * 10**6,
) -> int:
    """Write `data/train-00000-of-N.parquet` and README.md, the dataset card; return the number of images.

    `datasets.load_dataset(FOLDER)` reads it: the files contain the types of their columns.
    """
    form = ImageForm.of(run.plan, image_set)
    groups = list(in_groups(commits, max_file_bytes))
    # All files have one schema; the draws of each batch stay in the run.
    schema = IMAGE_SCHEMA.with_metadata(describe_columns(run.facts.class_names))
    num_images = 0
    for number, group in enumerate(groups):
        sink = io.BytesIO()
        with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
            for commit in group:
                table, _ = read_batch(files, commit, form, with_history=True)
                writer.write_table(table)
                num_images += table.num_rows
        _create(target, f"data/train-{number:05d}-of-{len(groups):05d}.parquet", sink.getvalue())
    _create(target, "README.md", _card(run, image_set, num_images).encode())
    target.remove_empty(layout.WIP)
    return num_images


def how_to_read_folder(target: StoreFiles) -> str:
    """Return the Python code that reads what `export_folder` wrote."""
    if target.is_local:
        return f"torchvision.datasets.ImageFolder({f'{target.location}/train'!r})"
    scheme = target.location.partition(":")[0]
    return (
        f"fsspec.filesystem({scheme!r}).get({f'{target.location}/train'!r}, 'train', recursive=True); "
        "torchvision.datasets.ImageFolder('train')"
    )


def how_to_read_dataset(target: StoreFiles) -> str:
    """Return the Python code that reads what `export_dataset` wrote."""
    if not target.is_local:
        return f"datasets.load_dataset('parquet', data_files={f'{target.location}/data/*.parquet'!r})"
    if any(sign in target.location for sign in ("::", *"*?[]$")):  # load_dataset takes these for patterns
        return f"datasets.Dataset(pyarrow.parquet.read_table({f'{target.location}/data'!r}))"
    return f"datasets.load_dataset({target.location!r})"


def _create(target: StoreFiles, name: str, data: bytes) -> None:
    if not target.create(name, data):
        raise UsageError(f"{target.location}/{name} exists already; give --to a new folder")


def _card(run: Run, image_set: str, num_images: int) -> str:
    config, data = run.config.image_sets[image_set], run.config.data
    size = _SIZES[bisect_right((10**3, 10**4, 10**5), num_images)]
    return f"""---
task_categories:
- image-classification
tags:
- dataset-distillation
- {config.method}
size_categories:
- {size}
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*.parquet
---

# {num_images} images distilled from {data.source}

Made by prism-ray: method `{config.method}`, {config.ipc} images per class of {run.facts.num_classes} classes,
{data.image_size} x {data.image_size} pixels, seed {run.config.seed}. The images are meant for training with
soft labels, which are in the run's store; `label` is the class that each image was made for.

| column | contents |
|---|---|
| `image` | PNG |
| `label` | class |
| `ipc_index` | index of the image in its class |
| `batch`, `seed` | the batch that the image was made in, and the seed of the batch |
| `teachers` | the teachers that supervised the batch |
| `num_iterations` | iterations of the image |
| `loss_ce`, `loss_bn` | losses of the batch at its last iteration |
"""
