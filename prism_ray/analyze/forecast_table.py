"""The forecast of a run: what it will take, stage by stage, and its table; prism_ray.forecast makes it."""

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from prism_ray.wording import duration, size


@dataclass(frozen=True)
class ForecastRow:
    """The units of a teacher, a collection, an image set or an evaluation."""

    stage: str  # its name, such as recover
    what: str  # teacher, collection, image set, or image set and evaluation
    num_units: int  # all
    num_left: int  # units that are not committed
    unit_seconds: float | None  # of an actor, for a unit that is left; None: not known, or none is left
    busy_seconds: float | None  # of actors, for all units; of those that are done, what they took
    busy_seconds_left: float | None  # for those that are left
    begins_after: float | None  # seconds from the start of `distill` now to its first unit; None: not known
    ends_after: float | None  # to the end of its last unit
    num_bytes: int  # of its images or labels; 0 for other stages
    bytes_left: int  # of those, not committed yet
    peak_bytes: int | None  # memory of an actor: of its GPU, without one resident; None: not measured
    known_from: str  # "units that are done", "calibration", or "" if its time is not known


@dataclass(frozen=True)
class Forecast:
    """What a run will take."""

    num_actors: int  # that work side by side
    num_threads: int  # of each
    gpus_per_actor: float  # 0: actors have the CPU alone
    rows: tuple[ForecastRow, ...]  # in the order of the run
    start_seconds: float | None  # to start a local Ray and the actors
    wall_seconds: float | None  # of the whole run, if nothing was done yet; None: not known
    wall_seconds_left: float | None  # of `distill` now
    actor_hours: float | None  # of all actors from start to end: of the whole run
    actor_hours_left: float | None  # of `distill` now
    gpu_hours: float | None  # GPUs times hours of the whole run; 0 without GPUs
    gpu_hours_left: float | None  # of `distill` now
    price_per_hour: float | None  # of a GPU, without GPUs of an actor; None: not given
    price: float | None  # of the whole run
    price_left: float | None  # of `distill` now
    num_bytes: int  # of all images and labels
    bytes_left: int  # of those, not committed yet
    peak_bytes: int | None  # memory of an actor, in the stage that needs most
    calibrated: str  # for people: where and when the calibration was made; "" if there is none that fits
    notes: tuple[str, ...]  # for people: what the forecast assumes, and what it lacks


def print_forecast(forecast: Forecast, console: Console) -> None:
    """Print the forecast for a person."""
    device = "GPU" if forecast.gpus_per_actor else "CPU"
    threads = f"{forecast.num_threads} thread{'s' * (forecast.num_threads != 1)}"
    actors = f"{forecast.num_actors} actor{'s' * (forecast.num_actors != 1)}"
    if forecast.gpus_per_actor:
        threads = f"{forecast.gpus_per_actor:g} GPU, {threads}"
    table = Table(title=f"Forecast for {actors} of {threads}", title_justify="left", box=None, pad_edge=False)
    table.add_column("work", no_wrap=True)
    for head in ("units", "left", "each", "actor time", "wall time", "bytes", f"{device} memory"):
        table.add_column(head, justify="right", no_wrap=True)
    for row in forecast.rows:
        table.add_row(
            f"{row.stage} {row.what}",
            f"{row.num_units:,}",
            f"{row.num_left:,}",
            _duration(row.unit_seconds) if row.num_left else "-",
            _duration(row.busy_seconds),
            _duration(_difference(row.ends_after, row.begins_after)) if row.num_left else "-",
            size(row.num_bytes) if row.num_bytes else "-",
            "?" if row.peak_bytes is None else size(row.peak_bytes),
        )
    console.print(table)
    is_begun = any(row.num_left < row.num_units for row in forecast.rows)
    if forecast.wall_seconds is not None:
        _print_line(console, "Whole run", forecast.wall_seconds, forecast, is_left=False)
    if is_begun and forecast.wall_seconds_left is not None:
        _print_line(console, "Left", forecast.wall_seconds_left, forecast, is_left=True)
    if forecast.calibrated:
        console.print(f"Calibration     {forecast.calibrated}", soft_wrap=True, highlight=False)
    for note in forecast.notes:
        console.print(f"Forecast        {note}", soft_wrap=True, highlight=False, markup=False)


def _print_line(console: Console, head: str, seconds: float, forecast: Forecast, is_left: bool) -> None:
    hours = forecast.actor_hours_left if is_left else forecast.actor_hours
    unit, per = "actor-hours", "actor-hour"
    if forecast.gpus_per_actor:
        hours, unit = forecast.gpu_hours_left if is_left else forecast.gpu_hours, "GPU-hours"
        per = "GPU-hour"
    num_bytes = forecast.bytes_left if is_left else forecast.num_bytes
    text = f"{head:<16}{duration(seconds)}, {hours:,.3g} {unit}, {size(num_bytes)} of images and labels"
    if forecast.peak_bytes is not None and not is_left:
        text += f", {size(forecast.peak_bytes)} of memory per actor"
    price = forecast.price_left if is_left else forecast.price
    if price is not None:
        text += f"; {price:,.2f} at {forecast.price_per_hour:g} per {per}"
    console.print(text, soft_wrap=True, highlight=False)


def _duration(seconds: float | None) -> str:
    return "?" if seconds is None else duration(seconds)


def _difference(end: float | None, begin: float | None) -> float | None:
    return None if end is None or begin is None else end - begin
