"""What a config would do, before anything runs: batches, teachers, bytes, and what is done already."""

from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from rich.console import Console
from rich.table import Table

from prism_ray.config import Config
from prism_ray.plan import DISTILLED, STAGES, Plan, RecoverUnit
from prism_ray.store import Asked, StoreFiles, match, read_progress


@dataclass(frozen=True)
class Preview:
    """The figures of `prism-ray plan`."""

    num_classes: int
    num_images: int  # of one image set
    num_batches: int  # of one image set
    stages: dict[str, tuple[int, int]]  # stage -> (done, units)
    teachers: tuple[str, ...]
    num_draws: dict[str, int]  # teacher -> rounds in which it aligns statistics
    iterations: tuple[int, int]  # fewest and most of a batch
    estimated_image_bytes: int
    estimated_label_bytes: int
    batches: tuple[RecoverUnit, ...]  # the first ones
    store: str
    store_state: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def preview(config: Config, origin: str, max_batches: int | None) -> Preview:
    """Open the data, make the plan and hold it against the store; raises UsageError for wrong input."""
    files = StoreFiles(config.store)
    asked = match(config, files, origin)
    plan = Plan(config, asked.facts)
    draws = [plan.draw_bn_teachers(number) for number in range(plan.num_rounds)]
    names = [teacher.name for teacher in config.teachers.pool]
    iterations = [config.recover.num_iterations(number) for number in range(plan.num_rounds)]
    state, done = _hold_against(files, asked)
    return Preview(
        num_classes=asked.facts.num_classes,
        num_images=plan.num_images,
        num_batches=plan.num_batches,
        stages={stage: (done.get(stage, 0), plan.num_units(stage)) for stage in STAGES},
        teachers=tuple(names),
        num_draws={name: sum(name in draw for draw in draws) for name in names},
        iterations=(min(iterations), max(iterations)),
        estimated_image_bytes=plan.estimated_image_bytes(),
        estimated_label_bytes=plan.estimated_label_bytes(),
        batches=tuple(islice(plan.recover_units(DISTILLED), max_batches)),
        store=files.location,
        store_state=state,
    )


def _hold_against(files: StoreFiles, asked: Asked) -> tuple[str, dict[str, int]]:
    """Say what the store holds, and how many units of each stage are done."""
    if asked.held is None:
        return "nothing done yet", {}
    if not asked.fits:
        return "another run: distill would refuse it", {}
    progress = read_progress(files, asked.run)
    return (
        "complete" if progress.complete else "begun: distill would go on with it",
        {stage.stage: stage.num_done for stage in progress.stages},
    )


def print_preview(figures: Preview) -> None:
    """Print the preview for a person."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"Store           {figures.store} ({figures.store_state})")
    console.print(f"Classes         {figures.num_classes}")
    console.print(f"Images          {figures.num_images:,}, and as many random real ones as control")
    low, high = figures.iterations
    spread = f"{high:,}" if low == high else f"{low:,} to {high:,}"
    console.print(f"Batches         {figures.num_batches:,}, of {spread} iterations")
    console.print(
        f"Bytes           images about {figures.estimated_image_bytes:,}, soft labels about "
        f"{figures.estimated_label_bytes:,} (estimated, control included)"
    )
    draws = ", ".join(f"{name} {count}" for name, count in figures.num_draws.items())
    console.print(f"BN teachers     {draws} (rounds in which each is drawn)")
    for stage, (done, units) in figures.stages.items():
        console.print(f"{stage:<16}{done:,} of {units:,} units done")
    table = Table(box=None, pad_edge=False)
    for column in ("batch", "images", "iterations", "BN teachers", "seed"):
        table.add_column(column)
    for unit in figures.batches:
        table.add_row(
            unit.key,
            str(len(unit.slots)),
            str(unit.num_iterations),
            ", ".join(unit.bn_teachers),
            str(unit.seed),
        )
    console.print(table)
    if len(figures.batches) < figures.num_batches:
        console.print(f"... and {figures.num_batches - len(figures.batches):,} more batches (--all)")
