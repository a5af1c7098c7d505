"""What can be known before a cluster starts: `plan` and `distill` check it in the same words."""

import os
import shutil
from pathlib import Path

from prism_ray.config import Config
from prism_ray.errors import DataError, UsageError
from prism_ray.parts.forecast import forecast_label_bytes
from prism_ray.run.match import Asked
from prism_ray.run.plan_file import refusal
from prism_ray.run.progress import RunProgress
from prism_ray.stages.squeeze import scope_of_teacher
from prism_ray.store.files import StoreFiles

_SURE_SHARE = 0.8  # of an estimate that is certainly needed: images of a few colours take less


def check_fits(asked: Asked, files: StoreFiles) -> None:
    """Raise FingerprintError if the requested run would change results of the run in the store."""
    if asked.held is not None and not asked.fits:
        raise refusal(files, asked.held, asked.run, asked.bound, asked.changes)


def check_ready(asked: Asked, files: StoreFiles, progress: RunProgress | None) -> int:
    """Return `missing_bytes`.

    Raises UsageError if the missing units cannot be done: other images, no place to write, no space.
    `progress` is None if nothing is done yet.
    """
    if asked.changes.problem is not None:
        raise DataError(
            f"data.path: {asked.changes.problem} since the run in {files.location} began; restore them, or "
            "use another --store for the new ones"
        )
    _check_folder(files)
    needed, free = missing_bytes(asked, progress), free_bytes(files)
    if free is not None and needed * _SURE_SHARE > free:
        raise UsageError(
            f"{files.location} has {_gigabytes(free)} free, and the run needs about {_gigabytes(needed)} "
            "more for images and soft labels; free some space, or use another --store"
        )
    return needed


def teachers_in_store(config: Config, progress: RunProgress | None) -> set[str]:
    """Return the teachers of the pool that are done: their files of weights are not needed any more."""
    pool = (teacher.name for teacher in config.teachers.pool)
    return {name for name in pool if progress and scope_of_teacher(name) in progress.done}


def missing_bytes(asked: Asked, progress: RunProgress | None) -> int:
    """Return about how many bytes the images and soft labels take that are not committed yet."""
    plan = asked.run_with(asked.num_threads or 1).plan
    stages = progress.stages if progress else ()
    done = {stage.stage: stage.num_done / max(1, stage.num_units) for stage in stages}
    images = plan.estimated_image_bytes() * (1.0 - done.get("recover", 0.0))
    return round(images + forecast_label_bytes(plan) * (1.0 - done.get("relabel", 0.0)))


def free_bytes(files: StoreFiles) -> int | None:
    """Return the free bytes at a local store, None for remote storage."""
    return shutil.disk_usage(_existing_folder(files)).free if files.is_local else None


def _existing_folder(files: StoreFiles) -> Path:
    """Return the folder of a local store, or the nearest one above it that exists."""
    place = Path(files.location)
    return next(folder for folder in (place, *place.parents) if folder.exists())


def _check_folder(files: StoreFiles) -> None:
    """Raise UsageError if a local store is no folder or cannot be written; write nothing."""
    if not files.is_local:
        return
    folder = _existing_folder(files)
    if not folder.is_dir():
        raise UsageError(f"store {files.location}: {folder} is a file, not a folder; use another --store")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(
            f"store {files.location}: {folder} cannot be written; permit writing, or use another --store"
        )


def _gigabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:,.1f} MB"
