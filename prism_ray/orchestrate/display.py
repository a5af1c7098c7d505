"""The display of a run's progress: bars on a terminal, key=value lines elsewhere."""

import os
import sys
import time
from dataclasses import dataclass, field
from typing import Protocol, Self, TextIO

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

from prism_ray.run import RunProgress
from prism_ray.stages import Unit, find_stage, stage_of
from prism_ray.store import Commit, Failure

_MIN_WIDTH_FOR_TIME = 36
_MIN_WIDTH_FOR_BARS = 72


class Listener(Protocol):
    """The object that is told how the work proceeds."""

    def began(self, unit: Unit) -> None: ...
    def done(self, commit: Commit) -> None: ...
    def failed(self, failure: Failure, again: bool) -> None: ...
    def message(self, text: str) -> None: ...
    def tick(self) -> None: ...


@dataclass
class _StageWork:
    """The work on a stage in this call."""

    num_done: int
    num_units: int
    num_failed: int = 0
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None  # when the last unit so far was done

    @property
    def seconds(self) -> float:
        return (self.ended or time.monotonic()) - self.started


def _columns(width: int) -> list[ProgressColumn]:
    """Return the columns of the bars; a narrow terminal has only those without which nothing is said."""
    columns: list[ProgressColumn] = [TextColumn("{task.description}"), MofNCompleteColumn()]
    if width >= _MIN_WIDTH_FOR_TIME:
        columns.append(TimeElapsedColumn())
    if width >= _MIN_WIDTH_FOR_BARS:
        columns.insert(1, BarColumn())
        columns.append(TextColumn("{task.fields[note]}", markup=False))
    return columns


class ProgressDisplay:
    """Shows a person or a log how far each stage is; several stages may be active. Used as a context."""

    def __init__(self, log_interval_s: float, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._log_interval_s = log_interval_s
        self._bars: Progress | None = None
        if self._stream.isatty() and os.environ.get("TERM") != "dumb":  # which cannot move its cursor
            console = Console(file=self._stream)
            self._bars = Progress(*_columns(console.width), console=console)
        self._tasks: dict[str, TaskID] = {}
        self._stages: dict[str, _StageWork] = {}  # those that have begun
        self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bars:
            self._bars.stop()

    @property
    def stage_seconds(self) -> dict[str, float]:
        """Seconds from the start of a stage's first unit in this call to the end of its last one."""
        return {stage: work.seconds for stage, work in self._stages.items()}

    def message(self, text: str) -> None:
        """Show a line of text."""
        if self._bars:
            self._bars.console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)
        else:
            print(text, file=self._stream, flush=True)

    def expect(self, *progresses: RunProgress) -> None:
        """Set the progress of each run, from which the display starts; see `done` and `count`."""
        self._progresses = progresses

    def began(self, unit: Unit) -> None:
        """A unit was given to an actor."""
        stage = stage_of(unit.id)
        if stage in self._stages:
            return
        done = sum(progress.num_done[stage] for progress in self._progresses)
        total = sum(find_stage(stage).count(progress.plan) for progress in self._progresses)
        self._stages[stage] = _StageWork(done, total)
        if self._bars:
            self._tasks[stage] = self._bars.add_task(stage, total=total, completed=done, note="")
        else:
            self._line(stage, "started")

    def done(self, commit: Commit) -> None:
        """A unit of the only run was committed: it is added to the progress."""
        (progress,) = self._progresses
        progress.add(commit)
        self.count(commit)

    def count(self, commit: Commit) -> None:
        """Count a committed unit that the caller adds to the progress of its run."""
        if "note" in commit.stats:  # of the work function, for people
            self.message(f"{commit.unit}: {commit.stats['note']}")
        stage, _, note = commit.unit.partition("/")
        if stage not in self._stages:  # nothing has begun yet: a part was taken from another run
            return
        work = self._stages[stage]
        work.num_done += 1
        work.ended = time.monotonic()
        if self._bars:
            self._bars.update(self._tasks[stage], completed=work.num_done, note=note)
        elif work.num_done == work.num_units:
            self._line(stage, "ended")

    def failed(self, failure: Failure, again: bool, prefix: str = "") -> None:
        """An attempt at a unit failed; `again` tells whether there will be another.

        `prefix` begins the message, to name the run of the unit.
        """
        self._stages[stage_of(failure.unit_id)].num_failed += 1
        fate = "it will be tried again" if again else "it is set aside"
        first_line = failure.message.strip().partition("\n")[0]
        self.message(f"{prefix}{failure.unit_id} failed: {failure.error}: {first_line}; {fate}")

    def tick(self) -> None:
        """Write a line for each active stage if the interval is over; called regularly."""
        if self._bars or time.monotonic() - self._last_line < self._log_interval_s:
            return
        for stage, work in self._stages.items():
            if work.num_done < work.num_units:
                self._line(stage, "running")
        self._last_line = time.monotonic()

    def _line(self, stage: str, event: str) -> None:
        work = self._stages[stage]
        self.message(
            f"stage={stage} event={event} done={work.num_done} total={work.num_units} "
            f"failed={work.num_failed} elapsed_s={work.seconds:.1f}"
        )
