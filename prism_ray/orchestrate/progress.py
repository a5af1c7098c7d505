"""Showing how a run goes on: bars on a terminal, key=value lines elsewhere."""

import sys
import time
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from prism_ray.orchestrate.actor import UnitFailure
from prism_ray.store import Commit
from prism_ray.units import Stage


class ProgressDisplay:
    """Tells a person or a log how far each stage is. Used as a context."""

    def __init__(self, log_interval_s: float, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._log_interval_s = log_interval_s
        self._bars: Progress | None = None
        if self._stream.isatty():
            self._bars = Progress(
                TextColumn("{task.description:<10}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(file=self._stream),
            )
        self._task = TaskID(0)
        self._stage: Stage = "squeeze"
        self._num_done = self._num_units = self._num_failed = 0
        self._started = self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bars:
            self._bars.stop()

    def message(self, text: str) -> None:
        """Say something that is no progress."""
        if self._bars:
            self._bars.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=self._stream, flush=True)

    def start_stage(self, stage: Stage, num_done: int, num_units: int) -> None:
        self._stage = stage
        self._num_done, self._num_units, self._num_failed = num_done, num_units, 0
        self._started = time.monotonic()
        if self._bars:
            self._task = self._bars.add_task(stage, total=num_units, completed=num_done, note="")
        else:
            self._line("started")

    def end_stage(self) -> float:
        """Close the stage; return the seconds that it took in this run of the command."""
        if not self._bars:
            self._line("ended")
        return time.monotonic() - self._started

    def done(self, commit: Commit) -> None:
        self._num_done += 1
        if self._bars:
            note = commit.unit.partition("/")[2]
            self._bars.update(self._task, completed=self._num_done, note=note)

    def failed(self, failure: UnitFailure, again: bool) -> None:
        self._num_failed += 1
        fate = "it will be tried again" if again else "it is set aside"
        first_line = failure.message.strip().partition("\n")[0]
        self.message(f"{failure.unit_id} failed: {failure.error}: {first_line}; {fate}")

    def tick(self) -> None:
        """Called now and then; writes a line when the interval is over."""
        if not self._bars and time.monotonic() - self._last_line >= self._log_interval_s:
            self._line("running")

    def _line(self, event: str) -> None:
        self._last_line = time.monotonic()
        elapsed = self._last_line - self._started
        self.message(
            f"stage={self._stage} event={event} done={self._num_done} total={self._num_units} "
            f"failed={self._num_failed} elapsed_s={elapsed:.1f}"
        )
