"""The display of a run's progress: bars on a terminal, key=value lines elsewhere."""

import os
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol, Self, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column

from prism_ray.errors import UsageError
from prism_ray.orchestrate.estimate import StageWork, units_of
from prism_ray.run import RunProgress
from prism_ray.run.live import ActorNow, Live, StageNow, UnitNow
from prism_ray.stages import Unit, find_stage, stage_of
from prism_ray.store import Commit, Failure
from prism_ray.wording import duration

Level = Literal["quiet", "normal", "verbose"]

_MIN_WIDTH_FOR_TIME = 36
_MIN_WIDTH_FOR_BARS = 72
_COUNT_WIDTH = len("100/300")
_LEVELS: tuple[Level, ...] = ("quiet", "normal", "verbose")
_REDRAW_S = 1.0
_MAX_UNITS = 6  # running units that are shown
_NUM_LATEST = 8
_NONE: Mapping[str, int] = {}
_RUN = "whole run"


class Listener(Protocol):
    """The object that is told how the work proceeds."""

    def began(self, unit: Unit) -> None: ...
    def done(self, commit: Commit) -> None: ...
    def failed(self, failure: Failure, again: bool) -> None: ...
    def message(self, text: str) -> None: ...
    def tick(self, actors: Callable[[], Sequence[ActorNow]]) -> None: ...


def _columns(width: int) -> list[ProgressColumn]:
    """Return the columns of the bars; a narrow terminal has only those without which nothing is said."""

    def text(field: str, **options: Any) -> TextColumn:
        return TextColumn(
            field, markup=False, table_column=Column(no_wrap=True, overflow="ellipsis", **options)
        )

    count = MofNCompleteColumn(table_column=Column(no_wrap=True, min_width=_COUNT_WIDTH, justify="right"))
    columns: list[ProgressColumn] = [text("{task.description}", max_width=max(16, width // 3)), count]
    if width >= _MIN_WIDTH_FOR_TIME:
        columns.append(TimeElapsedColumn(table_column=Column(no_wrap=True, min_width=len("0:00:00"))))
    if width >= _MIN_WIDTH_FOR_BARS:
        columns.insert(1, BarColumn(bar_width=max(8, width // 8)))
        columns.append(text("{task.fields[note]}", ratio=1))
    return columns


@dataclass(frozen=True)
class Output:
    """What a command says while it works, and where."""

    level: Level = "normal"  # quiet: failures only; verbose: a line for each unit too
    log_file: Path | None = None  # gets everything, with times, at every level
    to_stderr: bool = False  # because stdout is for JSON


class ProgressDisplay:
    """Shows a person or a log how far each stage is; several stages may be active. Used as a context."""

    def __init__(
        self, log_interval_s: float, stream: TextIO | None = None, output: Output | None = None
    ) -> None:
        """Raises UsageError if the log file cannot be written."""
        output = output or Output()
        self._level = output.level
        self._stream = stream or (sys.stderr if output.to_stderr else sys.stdout)
        self._log = _open_log(output.log_file)
        self._log_interval_s = log_interval_s
        self._bars: Progress | None = None
        can_draw = self._stream.isatty() and os.environ.get("TERM") != "dumb"  # which cannot move its cursor
        if can_draw and self._level != "quiet":
            console = Console(file=self._stream)
            self._bars = Progress(*_columns(console.width), console=console, expand=True)
        self._tasks: dict[str, TaskID] = {}
        self._unit_tasks: dict[str, TaskID] = {}
        self._stages: dict[str, StageWork] = {}  # those that have begun
        self._actors: Sequence[ActorNow] = ()
        self._latest: deque[str] = deque(maxlen=_NUM_LATEST)
        self._watcher: Callable[[Live], None] = lambda live: None
        self._takers: tuple[Callable[[Commit], None], ...] = ()
        self._progresses: tuple[RunProgress, ...] = ()
        self._to_take: Mapping[str, int] = _NONE
        self._num_taken: Counter[str] = Counter()  # by stage
        self._seconds_left: Callable[[Sequence[ActorNow]], float | None] = lambda actors: None
        self._started = self._last_line = self._last_look = time.monotonic()

    def __enter__(self) -> Self:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bars:
            self._bars.stop()
        if self._log:
            self._log.close()

    def now(self) -> Live:
        """Return the state of the call; may be called from another thread."""
        stages = tuple(self._stage_now(stage) for stage in tuple(self._stages))
        seconds = round(time.monotonic() - self._started, 1)
        left = self._seconds_left(self._actors)
        rounded = None if left is None else round(left, 1)
        return Live(seconds, stages, tuple(self._actors), tuple(self._latest)[::-1], rounded)

    def _stage_now(self, stage: str) -> StageNow:
        return self._stages[stage].now(stage, self._actors)

    def message(self, text: str) -> None:
        """Show a line of text."""
        self._say(text, "normal")

    def _say(self, text: str, level: Level) -> None:
        """Write a line to the log file, and show it from a level of output on."""
        self._write_to_log(text)
        if _LEVELS.index(level) > _LEVELS.index(self._level):
            return
        if self._bars:
            self._bars.console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)
        else:
            print(text, file=self._stream, flush=True)

    def _lines(self, text: str) -> None:
        """Write a key=value line: to the log file, and to a stream that has no bars."""
        if self._bars is None:
            self._say(text, "normal")
        else:
            self._write_to_log(text)

    def _write_to_log(self, text: str) -> None:
        if self._log:
            print(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}", file=self._log, flush=True)

    def expect(self, *progresses: RunProgress, to_take: Mapping[str, int] = _NONE) -> None:
        """Set the progress of each run, from which the display starts; see `done` and `count`.

        `to_take` has the number of units by stage that points of a sweep will have from others.
        """
        self._progresses, self._to_take = progresses, to_take

    def hand_on(self, *takers: Callable[[Commit], None]) -> None:
        """Let each of the `takers` have each commit of the only run."""
        self._takers = takers

    def estimate_by(self, seconds_left: Callable[[Sequence[ActorNow]], float | None]) -> None:
        """Let `seconds_left` estimate how long the whole run still takes; it may be asked by any thread."""
        self._seconds_left = seconds_left

    def show_to(self, watcher: Callable[[Live], None]) -> None:
        """Let `watcher` have the state of the call every second."""
        self._watcher = watcher

    def began(self, unit: Unit) -> None:
        """A unit was given to an actor."""
        stage = stage_of(unit.id)
        self._say(f"unit={unit.id!r} event=begun", "verbose")
        if stage in self._stages:
            return
        done = sum(progress.num_done[stage] for progress in self._progresses)
        total = sum(find_stage(stage).count(progress.plan) for progress in self._progresses)
        taken = self._num_taken[stage]  # before anything of the stage began
        self._stages[stage] = StageWork(done, total, self._to_take.get(stage, 0), 0)
        self._stages[stage].num_to_take -= taken
        if self._bars:
            self._tasks[stage] = self._bars.add_task(stage, total=total, completed=done, note="")
        self._line(stage, "started")

    def done(self, commit: Commit) -> None:
        """A unit of the only run was committed: it is added to the progress."""
        (progress,) = self._progresses
        progress.add(commit)
        self.count(commit)
        for take in self._takers:
            take(commit)

    def count(self, commit: Commit) -> None:
        """Count a committed unit that the caller adds to the progress of its run."""
        if "note" in commit.stats:  # of the work function, for people
            self.message(f"{commit.unit}: {commit.stats['note']}")
        done = f"unit={commit.unit!r} event=done seconds={commit.seconds:.1f} host={commit.host}"
        self._say(done, "verbose")
        self._latest.append(commit.unit)
        stage = stage_of(commit.unit)
        self._num_taken[stage] += commit.is_shared
        if stage not in self._stages:  # nothing has begun yet: a part was taken from another run
            return
        work = self._stages[stage]
        work.num_done += 1
        work.num_taken += commit.is_shared
        work.ended = time.monotonic()
        if self._bars:
            self._bars.update(self._tasks[stage], completed=work.num_done)
        if work.num_done == work.num_units:
            self._line(stage, "ended")

    def failed(self, failure: Failure, again: bool, prefix: str = "") -> None:
        """An attempt at a unit failed; `again` tells whether there will be another.

        `prefix` begins the message, to name the run of the unit.
        """
        self._stages[stage_of(failure.unit_id)].num_failed += 1
        fate = "it will be tried again" if again else "it is set aside"
        self._say(f"{prefix}{failure.unit_id} failed: {failure.error}: {failure.first_line}; {fate}", "quiet")

    def tick(self, actors: Callable[[], Sequence[ActorNow]]) -> None:
        """Show the running units, on a terminal every second, else when the interval is over.

        `actors` returns what the actors are doing. Called regularly.
        """
        now = time.monotonic()
        if now - self._last_look < min(_REDRAW_S, self._log_interval_s):
            return
        self._actors, self._last_look = actors(), now
        self._watcher(self.now())
        if self._bars:
            self._show_units(self._bars)
        if now - self._last_line >= self._log_interval_s:
            self._last_line = now
            for stage, work in self._stages.items():
                if work.num_done < work.num_units:
                    self._line(stage, "running")
            left = self._seconds_left(self._actors)
            if left is not None:
                self._lines(f"run event=running elapsed_s={now - self._started:.1f} eta_s={left:.0f}")
            for actor in self._actors[:_MAX_UNITS]:
                for unit in actor.units[:1]:
                    self._lines(f"unit={unit.unit!r} actor={actor.name} {_fields(unit)}".rstrip())

    def _show_units(self, bars: Progress) -> None:
        """Show a bar for each of some running units, and the time left beside each stage."""
        for stage, work in self._stages.items():
            left = self._stage_now(stage).seconds_left
            note = f"about {duration(left)} left" if left else ""
            bars.update(self._tasks[stage], completed=work.num_done, note=note)
        left = self._seconds_left(self._actors)
        if left is not None:
            if _RUN not in self._tasks:
                total = sum(stage.num_units for each in self._progresses for stage in each.stages)
                self._tasks[_RUN] = bars.add_task(_RUN, total=total, note="")
            done = sum(each.num_done.total() for each in self._progresses)
            bars.update(self._tasks[_RUN], completed=done, note=f"about {duration(left)} left")
        shown = {unit.unit: unit for unit in units_of(self._actors)[:_MAX_UNITS] if unit.total}
        for name in self._unit_tasks.keys() - shown.keys():
            bars.remove_task(self._unit_tasks.pop(name))
        for name, unit in shown.items():
            if name not in self._unit_tasks:
                self._unit_tasks[name] = bars.add_task(
                    f"  {name.partition('/')[2]}", total=unit.total, note=""
                )
            note = unit.describe()
            bars.update(self._unit_tasks[name], total=unit.total, completed=unit.num_done, note=note)

    def _line(self, stage: str, event: str) -> None:
        work = self._stages[stage]
        now = self._stage_now(stage)
        left = "" if now.seconds_left is None else f" eta_s={now.seconds_left:.0f}"
        self._lines(
            f"stage={stage} event={event} done={work.num_done} total={work.num_units} "
            f"failed={work.num_failed} elapsed_s={work.seconds:.1f}{left if event == 'running' else ''}"
        )


def _fields(unit: UnitNow) -> str:
    rate = {} if unit.per_second is None else {"per_s": unit.per_second}
    place = {"done": unit.num_done, "of": unit.total} if unit.total else {}
    values = place | {name: f"{value:.4g}" for name, value in (rate | unit.values).items()}
    return " ".join(f"{name}={value}" for name, value in values.items())


def _open_log(path: Path | None) -> TextIO | None:
    if path is None:
        return None
    try:
        return path.open("a", encoding="utf-8")
    except OSError as error:
        why = error.strerror or error
        remedy = "give another file"
        if not path.parent.exists():
            why, remedy = f"there is no folder {path.parent}", "make it, or give another file"
        raise UsageError(f"--log-file {path}: {why}; {remedy}") from None
