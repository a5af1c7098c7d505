"""A preview of a run: its classes, batches, teachers and bytes, and the units that are done already.

It refuses what `distill` would refuse, as far as that can be known without a cluster.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from prism_ray.analyze.fair import missing_controls
from prism_ray.analyze.forecast_table import Forecast, print_forecast
from prism_ray.config import Config
from prism_ray.data import RealImages, Split
from prism_ray.data.assumed import Assumption
from prism_ray.errors import DataError
from prism_ray.parts.forecast import forecast_label_bytes
from prism_ray.plan import Plan
from prism_ray.run import Asked, RunProgress, match, read_progress
from prism_ray.run.assumed import match_assumed
from prism_ray.run.paths import with_absolute_paths
from prism_ray.run.preflight import check_fits, check_ready, free_bytes, teachers_in_store
from prism_ray.stages import Within, recover, stages
from prism_ray.stages.recover import RecoverUnit
from prism_ray.store import StoreFiles
from prism_ray.store.lease import read_holder
from prism_ray.teachers.trial import try_networks

_NUM_CLASSES = 10  # that are printed without --all


@dataclass(frozen=True)
class ClassPreview:
    """A class of the real images."""

    label: int  # its number, from 0
    name: str  # its name
    num_train: int  # training images
    num_validation: int  # validation images
    num_test: int  # test images


@dataclass(frozen=True)
class ImageSetPreview:
    """The work that an image set needs."""

    name: str  # name of the image set
    method: str  # name of the method
    num_images: int  # of all classes
    num_batches: int  # units of the stage recover
    iterations: tuple[int, int]  # fewest and most of a batch; 0 for a selection
    num_draws: dict[str, int]  # teacher -> draws of S that it is in


@dataclass(frozen=True)
class Preview:
    """The figures of `prism-ray plan`."""

    num_classes: int  # of the real images
    classes: tuple[ClassPreview, ...]  # all of them, by label
    real_images: tuple[str, ...]  # what was taken, what was left out and why
    image_sets: tuple[ImageSetPreview, ...]  # those of the config
    evaluations: dict[str, int]  # name -> students in all
    stages: dict[str, tuple[int, int]]  # stage -> (done, units)
    estimated_image_bytes: int  # of all image sets
    estimated_label_bytes: int  # of all soft labels that are stored
    missing_bytes: int  # of both, those that are not committed yet
    free_bytes: int | None  # at the store; None for remote storage
    batches: tuple[RecoverUnit, ...]  # the first ones
    store: str  # folder or URL
    store_state: str  # for people: what is in it, or who works on it
    missing_controls: str  # a sentence; "" if none
    forecast: Forecast  # time, cost, bytes and memory

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `--json`; a draw as the names of its teachers, of each batch the first."""
        values = asdict(self)
        for batch in values["batches"]:
            batch["draws"] = batch["draws"][:1]
        return values


def preview(
    config: Config,
    origin: str,
    max_batches: int | None,
    forecast_of: Callable[[Asked, StoreFiles, RunProgress | None], Forecast],
    assumption: Assumption | None = None,
) -> Preview:
    """Open the data, make the plan and compare it with the store; `forecast_of` forecasts what it takes.

    With an `assumption` the data is not opened. Raises UsageError for whatever `distill` would refuse, as far
    as that can be known without a cluster.
    """
    config = with_absolute_paths(config, origin)
    files = StoreFiles(config.store_url)
    asked = _ask(config, files, origin, assumption)
    config = asked.config
    check_fits(asked, files)
    progress = read_progress(files, asked.run, asked.committed) if asked.held else None
    still_needed = 0
    if progress is None or not progress.complete:
        still_needed = check_ready(asked, files, progress)
        _check_networks(asked, progress, assumption is not None)
    plan = Plan(config, asked.facts)
    done = {stage.stage: stage.num_done for stage in progress.stages} if progress else {}
    return Preview(
        num_classes=asked.facts.num_classes,
        classes=_preview_classes(asked.data),
        real_images=asked.about_images if assumption is None else (_assumed(asked),),
        image_sets=tuple(_preview_set(plan, name) for name in plan.image_sets),
        evaluations={key: len(config.sets_of(key)) * e.num_students for key, e in config.evaluations.items()},
        stages={stage.name: (done.get(stage.name, 0), stage.count(plan)) for stage in stages()},
        estimated_image_bytes=plan.estimated_image_bytes(),
        estimated_label_bytes=forecast_label_bytes(plan),
        missing_bytes=still_needed,
        free_bytes=free_bytes(files),
        batches=tuple(islice(recover.STAGE.units(plan), max_batches)),
        store=files.location,
        store_state=_state(files, progress),
        missing_controls=missing_controls(config),
        forecast=forecast_of(asked, files, progress),
    )


def _ask(config: Config, files: StoreFiles, origin: str, assumption: Assumption | None) -> Asked:
    if assumption is not None:
        return match_assumed(config, files, origin, assumption)
    try:
        return match(config, files, origin)
    except DataError as error:
        path = config.data.path
        if path is None or Path(path).exists():
            raise
        raise DataError(
            f"{error}; before they are there, --assume-classes and --assume-images-per-class give a forecast"
        ) from None


def _assumed(asked: Asked) -> str:
    facts = asked.facts
    return (
        f"assumed: {facts.num_classes:,} classes of {facts.train_counts[0]:,} training images, "
        f"{facts.num_test_images:,} test images"
    )


def _preview_set(plan: Plan, name: str) -> ImageSetPreview:
    config = plan.config.image_sets[name]
    draws: Counter[str] = Counter()
    iterations: set[int] = set()
    for unit in recover.STAGE.units(plan, Within(name)):
        iterations.add(unit.num_iterations)
        draws.update(teacher for draw in unit.draws for teacher in draw)
    return ImageSetPreview(
        name=name,
        method=config.method,
        num_images=plan.num_images(name),
        num_batches=plan.formation(name).num_batches,
        iterations=(min(iterations), max(iterations)),
        num_draws=dict(draws),
    )


def _check_networks(asked: Asked, progress: RunProgress | None, is_assumed: bool) -> None:
    """Raise ConfigError for networks that cannot be built, unless the run began with the same ones."""
    config, held = asked.config, asked.held
    if is_assumed:  # the names of the classes are not known
        teachers = config.teachers.model_copy(update={"check_accuracy": False})
        config = config.model_copy(update={"teachers": teachers})
    if held is not None and held.config.teachers == config.teachers:
        same_students = held.config.evaluations == config.evaluations
        if same_students and held.config.data.image_size == config.data.image_size:
            return
    try_networks(config, asked.facts.class_names, teachers_in_store(config, progress))


def _preview_classes(data: RealImages) -> tuple[ClassPreview, ...]:
    def counts(split: Split) -> list[int]:
        labels = data.labels.get(split)
        if labels is None:
            return [0] * len(data.class_names)
        return [int(count) for count in np.bincount(labels, minlength=len(data.class_names))]

    columns = zip(data.class_names, counts("train"), counts("validation"), counts("test"), strict=True)
    return tuple(ClassPreview(label, *values) for label, values in enumerate(columns))


def _state(files: StoreFiles, progress: RunProgress | None) -> str:
    holder = read_holder(files)
    if holder is not None and not holder.is_gone:
        return f"{holder} works on it"
    if progress is None:
        return "nothing done yet"
    return "complete" if progress.complete else "begun: distill would resume it"


def print_preview(figures: Preview, console: Console, show_all: bool = False) -> None:
    """Print the preview for a person: all classes, or the first ones."""
    console.print(f"Store           {figures.store} ({figures.store_state})")
    for line in figures.real_images:
        console.print(f"Real images     {line}")
    console.print(
        f"Bytes           images about {figures.estimated_image_bytes:,}, soft labels about "
        f"{figures.estimated_label_bytes:,} (estimated, all image sets)"
    )
    if figures.free_bytes is not None:
        console.print(f"Free space      {figures.free_bytes:,}; still needed {figures.missing_bytes:,}")
    for stage, (done, units) in figures.stages.items():
        console.print(f"{stage:<16}{done:,} of {units:,} units done")
    for name, students in figures.evaluations.items():
        console.print(f"{'Students':<16}{students:,} of evaluation {name}")
    if figures.missing_controls:
        console.print(f"{'Controls':<16}{figures.missing_controls}")
    console.print(_class_table(figures, show_all))
    columns = ("image set", "method", "images", "batches", "iterations", "teachers (number of draws)")
    sets = Table(*columns, box=None, pad_edge=False)
    for image_set in figures.image_sets:
        low, high = image_set.iterations
        draws = ", ".join(f"{name} {count:,}" for name, count in image_set.num_draws.items())
        sets.add_row(
            image_set.name,
            image_set.method,
            f"{image_set.num_images:,}",
            f"{image_set.num_batches:,}",
            f"{high:,}" if low == high else f"{low:,} to {high:,}",
            draws or "-",
        )
    console.print(sets)
    table = Table("batch", "images", "iterations", "teachers", "seed", box=None, pad_edge=False)
    for unit in figures.batches:
        redrawn = f", redrawn {len(unit.draws) - 1:,} times" if len(unit.draws) > 1 else ""
        table.add_row(
            f"{unit.image_set}/{unit.key}",
            str(len(unit.slots)),
            str(unit.num_iterations),
            (", ".join(unit.draws[0]) + redrawn) if unit.draws else "-",
            str(unit.seed),
        )
    console.print(table)
    _print_more(figures, console, show_all)
    print_forecast(figures.forecast, console)


def _print_more(figures: Preview, console: Console, show_all: bool) -> None:
    num_more_classes = 0 if show_all else max(0, figures.num_classes - _NUM_CLASSES)
    if num_more_classes:
        console.print(f"... and {num_more_classes:,} more classes (--all)")
    num_more = sum(image_set.num_batches for image_set in figures.image_sets) - len(figures.batches)
    if num_more > 0:
        console.print(f"... and {num_more:,} more batches (--all)")


def _class_table(figures: Preview, show_all: bool) -> Table:
    table = Table("label", "class", "train", "validation", "test", box=None, pad_edge=False)
    for each in figures.classes[: None if show_all else _NUM_CLASSES]:
        counts = (each.num_train, each.num_validation, each.num_test)
        table.add_row(str(each.label), each.name, *(f"{count:,}" for count in counts))
    return table
