"""A run while it is at work, from its store alone: what `status` adds, and the screen of `status --watch`."""

import time
from collections.abc import Callable, Iterator

from rich.console import Console, Group, RenderableType
from rich.live import Live as Screen
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from prism_ray.run import RunProgress
from prism_ray.run.live import Live, read_live
from prism_ray.stages import stages
from prism_ray.store import StoreFiles, read_driver, read_failures
from prism_ray.wording import duration, printable

_REFRESH_S = 2.0
_MAX_ACTORS = 24  # that the screen has lines for
_NUM_FAILURES = 3


def live_lines(live: Live) -> Iterator[str]:
    """Yield lines on the time left, then one for each actor: what it is doing, and how far that is."""
    for stage in live.stages:
        if stage.seconds_left:
            yield f"{stage.stage}: {stage.share:.0%}, about {duration(stage.seconds_left)} left"
    if live.seconds_left:
        yield f"whole run: about {duration(live.seconds_left)} left"
    for actor in live.actors:
        unit = actor.units[0] if actor.units else None
        if unit is None:
            yield f"{actor.name} on {actor.host} ({actor.device}): idle"
            continue
        how_far = f" {unit.num_done:,} of {unit.total:,}," if unit.total else ""
        said = unit.describe()
        left = "" if unit.seconds_left is None else f", about {duration(unit.seconds_left)} left"
        line = f"{actor.name} on {actor.host} ({actor.device}): {unit.unit}{how_far} {said}".rstrip(" ,")
        yield line + left


def watch(files: StoreFiles, progress: RunProgress, console: Console) -> None:
    """Show the run in `files` until its driver has ended; Ctrl-C ends the display and not the run.

    `progress` is that at the beginning; from then on what the driver writes is read, no commit.
    """
    with Screen(console=console, auto_refresh=False, transient=True) as screen:
        while (driver := read_driver(files)) is not None and driver.alive:
            live = read_live(files)
            left = live.seconds_left if live is not None else None
            said = f"; about {duration(left)} left of the run" if left else ""
            head = Text(f"{files.location}: {driver}{said}", no_wrap=False, overflow="fold")
            screen.update(Group(head, *_screen(files, progress, live, console.width)), refresh=True)
            _sleep(_REFRESH_S)


_sleep: Callable[[float], None] = time.sleep


def _screen(
    files: StoreFiles, progress: RunProgress, live: Live | None, width: int
) -> Iterator[RenderableType]:
    if live is None:
        yield Text("The driver has not said yet what it does.")
        return
    yield _stages(progress, live, width)
    yield _actors(live, width)
    if len(live.actors) > _MAX_ACTORS:
        yield Text(f"and {len(live.actors) - _MAX_ACTORS} more actors")
    if live.latest:
        yield Text("Committed last: " + ", ".join(live.latest), overflow="ellipsis", no_wrap=True)
    failed = list(read_failures(files))
    for failure in failed[-_NUM_FAILURES:]:
        line = f"failed: {failure.unit_id}: {failure.error}: {failure.first_line}"
        yield Text(printable(line), style="red", overflow="ellipsis", no_wrap=True)
    if len(failed) > _NUM_FAILURES:
        yield Text(f"and {len(failed) - _NUM_FAILURES} more failed attempts")


def _stages(progress: RunProgress, live: Live, width: int) -> Table:
    """Return the bars of all stages: those of this call, and what was done before it."""
    table = Table(box=None, pad_edge=False)
    table.add_column("Stage", no_wrap=True)
    if width >= 70:
        table.add_column("", ratio=1)
    table.add_column("Units", justify="right", no_wrap=True)
    table.add_column("Time", justify="right", no_wrap=True)
    table.add_column("Left, about", justify="right", no_wrap=True)
    begun = {stage.stage: stage for stage in live.stages}
    for stage in stages():
        now, total = begun.get(stage.name), stage.count(progress.plan)
        if total == 0:
            continue
        num_done = progress.num_done[stage.name] if now is None else now.num_done
        num_units, share = (total, num_done / total) if now is None else (now.num_units, now.share)
        bar = [ProgressBar(total=1.0, completed=share)] if width >= 70 else []
        seconds = "" if now is None else duration(now.seconds)
        left = "" if now is None or not now.seconds_left else duration(now.seconds_left)
        table.add_row(stage.name, *bar, f"{num_done:,} of {num_units:,}", seconds, left)
    return table


def _actors(live: Live, width: int) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("Actor", no_wrap=True)
    table.add_column("At work on", overflow="fold")
    table.add_column("Done", justify="right", no_wrap=True)
    if width >= 70:
        table.add_column("", overflow="ellipsis", no_wrap=True)
    for actor in live.actors[:_MAX_ACTORS]:
        unit = actor.units[0] if actor.units else None
        done = f"{unit.share:.0%}" if unit is not None and unit.total else ""
        said = [Text(unit.describe() if unit else "")] if width >= 70 else []
        table.add_row(actor.name, Text(unit.unit if unit else "idle"), done, *said)
    return table
