"""Sends the committed units of runs to their trackers, each from a thread of its own.

Nothing is sent twice, whatever is killed: trackers/<name>.json of the store says which units a tracker has,
and which are under way. A tracker that fails, hangs or is not installed is reported once. It delays a call by
five seconds at most, at its end; what it has not got is sent by the next call.
"""

import hashlib
import json
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from prism_ray.errors import StoreError
from prism_ray.run.plan_file import Run
from prism_ray.run.points import Numbering, items_of
from prism_ray.run.progress import RunProgress
from prism_ray.run.sent import Numbers, Sent
from prism_ray.stages import scope_of, stages
from prism_ray.stages.squeeze import RUN
from prism_ray.store import Commit, StoreFiles, layout, read_commit
from prism_ray.store.records import read_record
from prism_ray.trackers import Item, TrackedRun, Tracker, find_tracker

_QUEUE = 4096  # commits; what comes beyond is read from the store later
_CHUNK = 64  # commits that are sent together
_SEND_EVERY_S = 5.0
_TRY_AGAIN_S = 30.0
_HANGS_S = 60.0
_CLOSE_S = 5.0
_CLOSE_INTERRUPTED_S = 0.2  # a command that is interrupted ends within three seconds
_STILL_S = 20.0  # without a sign of life, if a call has nothing else to do


_abandoned: list[threading.Thread] = []  # of trackers that gave no answer when their call ended


def is_tracker_stuck() -> bool:
    """Return whether a tracker's package hangs: then what it does when the process ends would hang too."""
    return any(thread.is_alive() for thread in _abandoned)


class Tracking:
    """The trackers of one call: of a run, or of the points of a sweep. Used as a context."""

    def __init__(self, say: Callable[[str], None], *, is_all: bool = False) -> None:
        """`say` gets notes for the user. With `is_all` the call does nothing else, and waits while units are
        being sent."""
        self._say, self._is_all = say, is_all
        self._feeders: list[_Feeder] = []
        self._reported: set[str] = set()  # trackers with a problem that the user knows

    def begin(self, files: StoreFiles, run: Run, progress: RunProgress) -> Callable[[Commit], None]:
        """Begin to send a run to the trackers of its config; return what takes its new commits.

        Units that are done by `progress` are sent too, if a tracker has not got them.
        """
        feeders = []
        for name in dict.fromkeys(run.config.trackers):
            kind = self._usable(name)
            if kind is not None:
                feeders.append(_Feeder(kind, name, files, run, progress, self._say, self._report))
        self._feeders += feeders

        def add(commit: Commit) -> None:
            for feeder in feeders:
                feeder.add(commit)

        return add

    def _usable(self, name: str) -> type[Tracker] | None:
        """Return a tracker, None if it cannot be used here."""
        try:
            kind = find_tracker(name)
        except Exception as error:  # of a package from outside
            self._report(name, error)
            return None
        if kind.package is not None:
            spec = find_spec(kind.package)
            if spec is None or spec.origin is None:  # a folder of that name is no package
                self._report(
                    name,
                    f"the package {kind.package} is not installed; pip install 'prism-ray[{name}]'",
                )
                return None
        return kind

    def _report(self, name: str, problem: object) -> None:
        if name in self._reported:
            return
        self._reported.add(name)
        if isinstance(problem, BaseException):
            text = " ".join(str(problem).split())
            problem = f"{type(problem).__name__}: {text[:300]}"
        self._say(
            f"tracker {name}: {problem}. The run does not depend on it; what is missing there is sent "
            "later, at the latest by the same command"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        is_interrupted = kind is not None and not issubclass(kind, Exception)
        ends = time.monotonic() + (_CLOSE_INTERRUPTED_S if is_interrupted else _CLOSE_S)
        for feeder in self._feeders:
            feeder.closing.set()
        for feeder in self._feeders:
            while self._is_all and not is_interrupted and feeder.is_alive and not feeder.is_still:
                feeder.wait(1.0)
            if not feeder.end(ends) and not is_interrupted:
                self._report(feeder.name, "not all was sent when the call ended")


class _Gone(Exception):
    """The call has ended, and does not wait any more."""


class _Feeder:
    """Sends the units of a run to one tracker, from a thread of its own."""

    def __init__(
        self,
        kind: type[Tracker],
        name: str,
        files: StoreFiles,
        run: Run,
        progress: RunProgress,
        say: Callable[[str], None],
        report: Callable[[str, object], None],
    ) -> None:
        self._kind, self.name, self._say, self._tell = kind, name, say, report
        self._files, self._run, self._progress = files, run, progress
        self._plan = run.plan
        self._numbering = Numbering(self._plan)
        self._queue: queue.Queue[Commit] = queue.Queue(_QUEUE)
        self._must_look = True  # for units that are done and did not come through the queue
        self._tracker: Tracker | None = None
        self._record: Sent | None = None
        self._sent: dict[str, Numbers] = {}  # by scope
        self._busy_since: float | None = None  # with a call of the tracker
        self._moved_at = time.monotonic()
        self._is_abandoned = False
        self.closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"tracker-{name}", daemon=True)
        self._thread.start()

    # Called by the driver's thread.

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def is_still(self) -> bool:
        """True if nothing was sent for a while."""
        return time.monotonic() - self._moved_at > _STILL_S

    def wait(self, seconds: float) -> None:
        self._thread.join(seconds)

    def add(self, commit: Commit) -> None:
        """Take a commit; takes no time."""
        try:
            self._queue.put_nowait(commit)
        except queue.Full:
            self._must_look = True
        since = self._busy_since
        if since is not None and time.monotonic() - since > _HANGS_S:
            self._tell(self.name, f"it gives no answer for {_HANGS_S:.0f} s")

    def end(self, ends: float) -> bool:
        """Wait until all is sent, at most until `ends`; return whether that was so."""
        self._thread.join(max(0.0, ends - time.monotonic()))
        self._is_abandoned = self._thread.is_alive()
        if self._is_abandoned:
            _abandoned.append(self._thread)
        return not self._is_abandoned

    # Called by the thread of the tracker.

    def _work(self) -> None:
        while True:
            try:
                if self._step():
                    return
            except _Gone:
                return
            except Exception as error:  # of a tracker's package: anything
                self._tell(self.name, error)
                if self._tracker is not None:  # another begins where this one's state was saved
                    with suppress(Exception), self._call() as tracker:
                        tracker.close()
                    self._tracker = None
                self._must_look = True
                if self.closing.is_set() or self.closing.wait(_TRY_AGAIN_S):
                    return

    def _step(self) -> bool:
        """Send what there is, then wait; return whether that was all."""
        is_last = self.closing.is_set()
        if self._record is None:
            self._record = self._read()
            self._sent = {scope: Numbers(ranges) for scope, ranges in self._record.units.items()}
        if self._record.sending:
            doubtful = [read_commit(self._files, unit_id) for unit_id in self._record.sending]
            self._send(doubtful, is_doubtful=True)
        if self._must_look:
            self._must_look = False
            self._send_all(self._commits_not_sent())
        self._send_all(self._queued())
        if not is_last:
            self.closing.wait(_SEND_EVERY_S)
        elif not self._must_look:
            if self._tracker is not None:
                with self._call() as tracker:
                    tracker.close()
            return True
        return False

    def _read(self) -> Sent:
        name = layout.tracker(self.name)
        if self._files.exists(name):
            return read_record(self._files, name, Sent)
        parts = (self._run.fingerprints[RUN], self._run.created_at, self._files.location)
        return Sent(hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16])

    def _queued(self) -> Iterator[Commit]:
        with suppress(queue.Empty):
            while True:
                yield self._queue.get_nowait()

    def _commits_not_sent(self) -> Iterator[Commit]:
        """Read the commits of units that are done and were not sent, in the order of the plan."""
        done, known = self._progress.done, self._progress.commits
        for stage in stages():
            for unit_id in self._plan.unit_ids(stage.name):
                self._check()
                if unit_id in done and self._number(unit_id) is not None:
                    with suppress(StoreError):  # revoked or damaged meanwhile
                        yield known.get(unit_id) or read_commit(self._files, unit_id)

    def _number(self, unit_id: str) -> int | None:
        """Return the number of a unit that was not sent yet, else None."""
        number = self._numbering.number(unit_id)
        return None if number is None or number in self._sent.get(scope_of(unit_id), ()) else number

    def _send_all(self, commits: Iterable[Commit]) -> None:
        chunk: list[Commit] = []
        for commit in commits:
            chunk.append(commit)
            if len(chunk) == _CHUNK:
                self._send(chunk)
                chunk = []
        if chunk:
            self._send(chunk)

    def _send(self, commits: Sequence[Commit], is_doubtful: bool = False) -> None:
        """Send commits; the record says before that they are under way, and afterwards that they are sent."""
        assert self._record is not None
        numbers: dict[str, int] = {}
        items: list[Item] = []
        for commit in commits:
            number = self._number(commit.unit)
            if number is not None and commit.unit not in numbers:
                numbers[commit.unit] = number
                items += items_of(self._files, self._plan, commit, number)
        if not numbers:
            self._record.sending = []
            return
        with self._call() as tracker:
            if not is_doubtful:
                self._record.sending = list(numbers)
                self._save()
            if is_doubtful or tracker.is_doubtful:
                items = list(tracker.missing(items))
            if items:
                tracker.log(items)
            state = tracker.state()
        for unit_id, number in numbers.items():
            self._sent.setdefault(scope_of(unit_id), Numbers()).add(number)
        self._record.sending, self._record.tracker = [], state
        self._save()
        self._moved_at = time.monotonic()

    @contextmanager
    def _call(self) -> Iterator[Tracker]:
        """Give the tracker, which is opened if it is not, and take the time that it needs."""
        self._check()
        self._busy_since = time.monotonic()
        try:
            if self._tracker is None:
                self._tracker = self._open()
            yield self._tracker
        finally:
            self._busy_since = None

    def _open(self) -> Tracker:
        assert self._record is not None
        location = self._files.location.rstrip("/")
        run_name = location.rpartition("/")[2]
        above = location if self._files.is_local else "."
        place = Path(above, layout.TRACKERS, *([] if self._files.is_local else [run_name]), self.name)
        run = TrackedRun(
            id=self._record.run,
            name=run_name,
            location=location,
            folder=str(place.absolute()),
            config=self._run.config.model_dump(mode="json"),
            state=self._record.tracker,
        )
        tracker = self._kind(run)
        self._check()
        self._record.tracker = tracker.state()
        self._save()
        self._moved_at = time.monotonic()
        self._say(f"tracker {self.name}: {tracker.where}")
        return tracker

    def _save(self) -> None:
        assert self._record is not None
        self._check()
        self._record.units = {scope: numbers.ranges() for scope, numbers in self._sent.items()}
        self._files.replace(layout.tracker(self.name), json.dumps(asdict(self._record)).encode())

    def _check(self) -> None:
        """Raise _Gone if the driver does not wait any more: the store may have another one now."""
        if self._is_abandoned:
            raise _Gone
