"""A run in a store as Arrow tables: images, labels, units, students, teachers. Without torch and Ray."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from prism_ray.errors import StoreError, UsageError
from prism_ray.parts.labels import LabelForm, LabelReader
from prism_ray.run import Run, RunProgress, load_run, read_progress
from prism_ray.run.load import load_images
from prism_ray.run.sets import commits_of_set
from prism_ray.stages import stage_names
from prism_ray.stages.evaluate import students
from prism_ray.stages.squeeze import scope_of_teacher
from prism_ray.store import Commit, StoreFiles, read_commit, units_set_aside

_COMMITS_AT_ONCE = 16  # files that are read at a time

_UNITS = pa.schema(
    [
        ("unit", pa.string()),
        ("stage", pa.string()),
        ("state", pa.string()),
        ("in_config", pa.bool_()),
        ("seconds", pa.float64()),
        ("num_rows", pa.int64()),
        ("num_bytes", pa.int64()),
        ("host", pa.string()),
        ("finished_at", pa.string()),
        ("files", pa.list_(pa.string())),
    ]
)
_STUDENTS = pa.schema(
    [
        ("image_set", pa.string()),
        ("evaluation", pa.string()),
        ("student", pa.int32()),
        ("labels", pa.string()),
        ("split", pa.string()),
        ("accuracy", pa.float64()),
        ("top5_accuracy", pa.float64()),
        ("best_accuracy", pa.float64()),
        ("best_num_epochs", pa.int32()),
        ("train_loss", pa.float64()),
        ("seed", pa.int64()),
        ("unit", pa.string()),
    ]
)
_TEACHERS = pa.schema(
    [
        ("name", pa.string()),
        ("arch", pa.string()),
        ("num_parameters", pa.int64()),
        ("num_bn_layers", pa.int32()),
        ("test_accuracy", pa.float64()),
        ("validation_accuracy", pa.float64()),
        ("weights_sha256", pa.string()),
        ("unit", pa.string()),
    ]
)
_STAGES = pa.schema(
    [
        ("stage", pa.string()),
        ("state", pa.string()),
        ("num_done", pa.int64()),
        ("num_units", pa.int64()),
        ("actor_seconds", pa.float64()),
        ("num_bytes", pa.int64()),
    ]
)


class OpenRun:
    """A run in a store, for reading; see `prism_ray.open_run`.

    Every method reads the store when it is called, so it can follow a run that is at work. Tables are
    `pyarrow.Table`; `to_pandas()` makes a DataFrame of one, if pandas is installed.
    """

    def __init__(self, store: str | os.PathLike[str]) -> None:
        """Raises UsageError if there is no run, and StoreError if its plan is damaged."""
        self._files = StoreFiles(os.fspath(store))
        self._run = load_run(self._files)

    def __repr__(self) -> str:
        return f"<prism_ray run in {self.location}: {', '.join(self.image_sets)}>"

    @property
    def location(self) -> str:
        """Folder (an absolute path) or URL of the store."""
        return self._files.location

    @property
    def config(self) -> dict[str, Any]:
        """Every setting of the run, defaults included, as plain data."""
        values: dict[str, Any] = self._run.config.model_dump(mode="json")
        return values

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, by label."""
        return self._run.facts.class_names

    @property
    def image_sets(self) -> tuple[str, ...]:
        """Names of the image sets, those that only an earlier config names last."""
        return tuple(self._run.image_sets)

    @property
    def complete(self) -> bool:
        """Whether all units of the present config are done, as `prism-ray status` says."""
        return self._progress().complete

    def images(self, image_set: str | None = None) -> pa.Table:
        """Return the images of a finished set, by default of the first, a row each.

        Columns: image (PNG, in the layout of Hugging Face: `datasets.Dataset(table)` takes it), label,
        ipc_index, batch, teachers, num_iterations, seed, loss_ce, loss_bn. It does not matter in which files
        the images are: before or after `compact` and `gc`, in Parquet or PNG.

        Raises UsageError if there is no such set or it is not finished, and StoreError if a file is damaged.
        """
        return load_images(self._files, self._run, image_set or self.image_sets[0])

    def labels(self, epoch: int, image_set: str | None = None) -> pa.Table:
        """Return the views of a finished set in one epoch with their soft labels, a row for each image.

        Columns: epoch, the view as in docs/labels.md, and logits (list of float16, one for each class), with
        kept (list of bool) if the encoding leaves logits out: those are their mean. Whatever the encoding is,
        the logits are decoded.

        Raises UsageError if there is no such set or epoch, if the labels are not finished or not stored, and
        StoreError if a file is damaged.
        """
        name = image_set or self.image_sets[0]
        return read_labels(self._files, self._run, name, epoch)

    def units(self) -> pa.Table:
        """Return a row for each unit of the run, in the order of the stages.

        Columns: unit (its id), stage, state (done, pending, damaged, set aside), in_config (false: only an
        earlier config names it), and of units that are done seconds, num_rows, num_bytes, host, finished_at
        (UTC, ISO 8601) and files. One small file is read for each unit that is done.
        """
        progress, aside = self._progress(), set(units_set_aside(self._files))
        planned = {unit_id: None for name in stage_names() for unit_id in self._run.plan.unit_ids(name)}
        others = (progress.done | progress.damaged.keys()) - planned.keys()

        def row(unit_id: str) -> dict[str, Any]:
            commit = self._commit(unit_id) if unit_id in progress.done else None
            state = "done" if commit else "damaged" if unit_id in progress.damaged else "pending"
            values = {
                "unit": unit_id,
                "stage": unit_id.partition("/")[0],
                "state": "set aside" if state == "pending" and unit_id in aside else state,
                "in_config": unit_id in planned,
            }
            return values if commit is None else values | _of_commit(commit)

        with ThreadPoolExecutor(_COMMITS_AT_ONCE) as pool:
            return pa.Table.from_pylist(list(pool.map(row, [*planned, *sorted(others)])), _UNITS)

    def students(self) -> pa.Table:
        """Return a row for each student that is done, those of earlier configs included.

        Columns: image_set, evaluation, student (number), labels (soft, hard), split (tested on), accuracy,
        top5_accuracy, best_accuracy (shares in [0, 1]; of the last epoch, and of the best test),
        best_num_epochs, train_loss, seed, unit.
        """
        progress = self._progress()
        rows = {
            row["unit"]: row for run in (*self._run.others[::-1], self._run) for row in _rows(run, progress)
        }
        order = {name: number for number, name in enumerate(self.image_sets)}
        ordered = sorted(rows.values(), key=lambda row: order.get(row["image_set"], len(order)))
        return pa.Table.from_pylist(ordered, _STUDENTS)

    def teachers(self) -> pa.Table:
        """Return a row for each teacher that is done, in the order of the pool.

        Columns: name, arch, num_parameters, num_bn_layers, test_accuracy and validation_accuracy (shares in
        [0, 1], null without such images), weights_sha256, unit.
        """
        commits = self._progress().commits
        rows = []
        for teacher in self._run.config.teachers.pool:
            commit = commits.get(scope_of_teacher(teacher.name))
            if commit is not None:
                sha256 = commit.files[0].sha256 if commit.files else None
                known = {"name": teacher.name, "unit": commit.unit, "weights_sha256": sha256}
                rows.append(_known(_TEACHERS, commit.stats) | known)
        return pa.Table.from_pylist(rows, _TEACHERS)

    def status(self) -> pa.Table:
        """Return a row for each stage, in order.

        Columns: stage, state (done, running, pending, not needed, waits for ...), num_done and num_units,
        actor_seconds, num_bytes.
        """
        from prism_ray.analyze.summary import summarise  # late: its tables are for the terminal

        summary = summarise(self._files, self._run, self._progress())
        return pa.Table.from_pylist([asdict(stage) for stage in summary.stages], _STAGES)

    def verdict(self) -> str:
        """Return the sentence that `prism-ray status` ends with: what the image sets are worth."""
        from prism_ray.analyze.summary import summarise

        return summarise(self._files, self._run, self._progress()).verdict.text

    def _progress(self) -> RunProgress:
        return read_progress(self._files, self._run)

    def _commit(self, unit_id: str) -> Commit | None:
        with suppress(StoreError):  # it was revoked meanwhile
            return read_commit(self._files, unit_id)
        return None


def read_labels(files: StoreFiles, run: Run, image_set: str, epoch: int) -> pa.Table:
    """Return the views and logits of one epoch; see `OpenRun.labels`."""
    commits = commits_of_set(files, run, image_set, "relabel")
    its_run = run.of_image_set(image_set, files.location)
    num_epochs = its_run.config.relabel.num_label_epochs
    if not 0 <= epoch < num_epochs:
        raise UsageError(f"epoch = {epoch}: {files.location} has labels of the epochs 0 to {num_epochs - 1}")
    form = LabelForm.of(its_run.plan, image_set)
    found = LabelReader(files, commits, form).sound_epoch(epoch, image_set)
    columns: dict[str, Any] = {"epoch": pa.array([epoch] * len(found.views), pa.int32())}
    columns |= {name: pa.array(values) for name, values in vars(found.views).items()}
    columns["logits"] = pa.FixedSizeListArray.from_arrays(
        pa.array(found.logits.reshape(-1)), form.num_classes
    )
    if found.kept is not None:
        columns["kept"] = pa.FixedSizeListArray.from_arrays(
            pa.array(found.kept.reshape(-1)), form.num_classes
        )
    return pa.table(columns).sort_by([("label", "ascending"), ("ipc_index", "ascending")])


def _of_commit(commit: Commit) -> dict[str, Any]:
    counts = [file.num_rows for file in commit.files if file.num_rows is not None]
    return {
        "seconds": commit.seconds,
        "num_rows": sum(counts) if counts else None,
        "num_bytes": commit.num_bytes,
        "host": commit.host,
        "finished_at": commit.finished_at,
        "files": [file.name for file in commit.files],
    }


def _rows(run: Run, progress: RunProgress) -> Iterator[dict[str, Any]]:
    """Yield the rows of the students of a config that are done."""
    for key, evaluation in run.config.evaluations.items():
        for name in run.config.sets_of(key):
            for unit in students(run.plan, name, key):
                commit = progress.commits.get(unit.id)
                if commit is not None:
                    yield _known(_STUDENTS, commit.stats) | {
                        "image_set": name,
                        "evaluation": key,
                        "student": unit.student,
                        "labels": evaluation.labels,
                        "split": evaluation.split,
                        "seed": unit.seed,
                        "unit": unit.id,
                    }


def _known(schema: pa.Schema, stats: Any) -> dict[str, Any]:
    """Return the figures of a commit that a table has columns for; one of another type is left out."""
    found = {}
    for column in schema:
        value = stats.get(column.name)
        with suppress(pa.ArrowException, TypeError):
            found[column.name] = pa.scalar(value, column.type).as_py()
    return found
