"""A preview of a run: its batches, teachers and bytes, and the units that are done already."""

from collections import Counter
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from rich.console import Console
from rich.table import Table

from prism_ray.config import Config
from prism_ray.plan import Plan
from prism_ray.run import Asked, match, read_progress
from prism_ray.stages import Within, recover, stages
from prism_ray.stages.recover import RecoverUnit
from prism_ray.store import StoreFiles


@dataclass(frozen=True)
class ImageSetPreview:
    """The work that an image set needs."""

    name: str
    method: str
    num_images: int
    num_batches: int
    iterations: tuple[int, int]  # fewest and most of a batch; 0 for a selection
    num_draws: dict[str, int]  # teacher -> draws of S that it is in


@dataclass(frozen=True)
class Preview:
    """The figures of `prism-ray plan`."""

    num_classes: int
    image_sets: tuple[ImageSetPreview, ...]
    evaluations: dict[str, int]  # name -> students in all
    stages: dict[str, tuple[int, int]]  # stage -> (done, units)
    estimated_image_bytes: int
    estimated_label_bytes: int
    batches: tuple[RecoverUnit, ...]  # the first ones
    store: str
    store_state: str

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `--json`; a draw as the names of its teachers, of each batch the first."""
        values = asdict(self)
        for batch in values["batches"]:
            batch["draws"] = batch["draws"][:1]
        return values


def preview(config: Config, origin: str, max_batches: int | None) -> Preview:
    """Open the data, make the plan and compare it with the store; raises UsageError for wrong input."""
    files = StoreFiles(config.store_url)
    asked = match(config, files, origin)
    plan = Plan(config, asked.facts)
    state, done = _compare_with_store(files, asked)
    return Preview(
        num_classes=asked.facts.num_classes,
        image_sets=tuple(_preview_set(plan, name) for name in plan.image_sets),
        evaluations={key: len(config.sets_of(key)) * e.num_students for key, e in config.evaluations.items()},
        stages={stage.name: (done.get(stage.name, 0), stage.count(plan)) for stage in stages()},
        estimated_image_bytes=plan.estimated_image_bytes(),
        estimated_label_bytes=plan.estimated_label_bytes(),
        batches=tuple(islice(recover.STAGE.units(plan), max_batches)),
        store=files.location,
        store_state=state,
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


def _compare_with_store(files: StoreFiles, asked: Asked) -> tuple[str, dict[str, int]]:
    """Return the state of the store, and how many units of each stage are done."""
    if asked.held is None:
        return "nothing done yet", {}
    if not asked.fits:
        return "another run: distill would refuse it", {}
    progress = read_progress(files, asked.run, asked.committed)
    return (
        "complete" if progress.complete else "begun: distill would resume it",
        {stage.stage: stage.num_done for stage in progress.stages},
    )


def print_preview(figures: Preview, console: Console) -> None:
    """Print the preview for a person."""
    console.print(f"Store           {figures.store} ({figures.store_state})")
    console.print(f"Classes         {figures.num_classes}")
    console.print(
        f"Bytes           images about {figures.estimated_image_bytes:,}, soft labels about "
        f"{figures.estimated_label_bytes:,} (estimated, all image sets)"
    )
    for stage, (done, units) in figures.stages.items():
        console.print(f"{stage:<16}{done:,} of {units:,} units done")
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
    num_more = sum(image_set.num_batches for image_set in figures.image_sets) - len(figures.batches)
    if num_more > 0:
        console.print(f"... and {num_more:,} more batches (--all)")
