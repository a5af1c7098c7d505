"""One call of `sweep`: all points are compared with their stores, and missing units are done on one pool."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from prism_ray.config import Config
from prism_ray.errors import (
    FingerprintError,
    LeaseError,
    NewerStoreError,
    PrismRayError,
    StoreError,
    UsageError,
)
from prism_ray.pipeline import begin, check_none_left_out
from prism_ray.run import Asked, Ledger, RunProgress, load_run, match, read_progress
from prism_ray.run.live import ActorNow, LiveWriter
from prism_ray.run.match import OpenData
from prism_ray.run.paths import with_absolute_paths
from prism_ray.run.preflight import check_fits, check_ready, teachers_in_store
from prism_ray.run.tracking import Tracking
from prism_ray.stages import Unit
from prism_ray.store import Commit, Failure, Lease, StoreFiles, layout, units_set_aside
from prism_ray.store.commits import list_commits
from prism_ray.store.lease import read_holder
from prism_ray.store.sweeps import SweepRecord, points_of, read_sweeps, write_sweep
from prism_ray.sweep.file import Point, Sweep
from prism_ray.sweep.sharing import Lenders, Member, num_to_take

if TYPE_CHECKING:
    from prism_ray.orchestrate.dispatch import Dispatcher
    from prism_ray.orchestrate.display import Output, ProgressDisplay
    from prism_ray.sweep.source import ActivePoint

_OF_THE_POINT = (FingerprintError, NewerStoreError, StoreError)  # errors that say nothing about other points


@dataclass(eq=False)
class PointWork:
    """A point in this call."""

    point: Point
    config: Config  # with absolute paths
    files: StoreFiles
    ledger: Ledger
    asked: Asked | None = None
    progress: RunProgress | None = None
    is_alone: bool = True  # no other driver was at work when the commits were listed
    error: PrismRayError | None = None
    num_made: int = 0  # units, in this call
    num_taken: int = 0  # units from other points, in this call
    track: Callable[[Commit], None] = lambda commit: None

    @property
    def is_complete(self) -> bool:
        return self.error is None and self.progress is not None and self.progress.complete


@dataclass(frozen=True)
class SweepOutcome:
    """The result of a call of `sweep`."""

    points: tuple[PointWork, ...]
    seconds: float  # of the whole call
    start_seconds: float | None  # until Ray's first actor lived; None if nothing was left to do
    peak_bytes: int | None = None  # memory of all processes; None if nothing was left to do
    num_hits: int = 0  # teachers that an actor had loaded when a unit needed them
    num_loads: int = 0

    @property
    def errors(self) -> dict[str, PrismRayError]:
        """What is wrong with each point that could not be finished, by its folder."""
        return {work.point.folder: work.error for work in self.points if work.error is not None}


def read_point(point: Point, known: dict[str, OpenData]) -> PointWork:
    """Compare a point with its store; what is wrong with the store alone becomes the point's error.

    `known` has the real images by their settings, which are listed, read and hashed once. Raises UsageError
    for wrong input.
    """
    config = with_absolute_paths(point.config, point.origin)
    files = StoreFiles(config.store_url)
    work = PointWork(point, config, files, Ledger(files))
    holder = read_holder(files)
    work.is_alone = holder is None or holder.is_gone
    try:
        data = config.data.model_dump_json()
        asked = work.asked = match(config, files, point.origin, known.get(data))
        if asked.index is None or asked.held is None:
            known.setdefault(data, OpenData(asked.index, asked.data, asked.facts))
        if asked.held is not None:
            check_fits(asked, files)
            work.progress = read_progress(files, asked.run, asked.committed, take_down=work.ledger.add)
    except _OF_THE_POINT as error:
        work.error = error
    return work


def run_sweeps(sweeps: Sequence[Sweep], folder: StoreFiles, output: "Output | None" = None) -> SweepOutcome:
    """Do the missing units of all points below `folder`; a point that fails does not stop the others.

    `output` is what is said meanwhile. Raises UsageError for wrong input, and OrchestrateError
    if Ray cannot do the work.
    """
    known: dict[str, OpenData] = {}
    points = [read_point(point, known) for sweep in sweeps for point in sweep.points]
    missing = [work for work in points if work.error is None and not work.is_complete]
    for work in missing:
        assert work.asked is not None
        check_ready(work.asked, work.files, work.progress)
    if missing:
        folder.check_usable()
        folder.remove_empty(layout.WIP)
    for sweep in sweeps:
        changes = {point.folder: point.changes for point in sweep.points}
        write_sweep(folder, SweepRecord(sweep.name, changes, sweep.has_seeds))
    if not missing:
        return SweepOutcome(tuple(points), 0.0, None)
    return _do(points, missing, _lenders(folder, points), folder, output)


def _lenders(folder: StoreFiles, points: Sequence[PointWork]) -> list[Member]:
    """Return the points of the folder that are not in this call, or have nothing left to do."""
    members = []
    here = {work.point.folder: work for work in points}
    for name in points_of(read_sweeps(folder)):
        if name in here:
            continue
        files = StoreFiles(f"{folder.location}/{name}")
        try:
            run = load_run(files)
            members.append(Member(name, files, run, read_progress(files, run)))
        except (StoreError, UsageError):  # not begun, or damaged: it lends nothing
            continue
    for work in points:
        if work.is_complete:
            assert work.asked is not None
            assert work.progress is not None
            members.append(Member(work.point.folder, work.files, work.asked.run, work.progress))
    return members


def _num_threads(missing: Sequence[PointWork]) -> int | None:
    """Return the threads per actor of the runs that were begun, None if there are none.

    Raises UsageError if they differ, because all points have the same actors.
    """
    found: dict[int, str] = {}
    for work in missing:
        assert work.asked is not None
        if work.asked.num_threads is not None:
            found.setdefault(work.asked.num_threads, work.point.folder)
    if len(found) > 1:
        (one, first), (other, second), *_ = found.items()
        raise UsageError(
            f"the points {first} and {second} were begun with {one} and {other} threads per actor, and all "
            "points of a call have the same actors; finish one of them with `prism-ray distill` first"
        )
    return next(iter(found), None)


def _do(
    points: Sequence[PointWork],
    missing: Sequence[PointWork],
    lenders: list[Member],
    folder: StoreFiles,
    output: "Output | None",
) -> SweepOutcome:
    """Start Ray and do what is missing."""
    num_threads, config = _num_threads(missing), missing[0].config
    started = time.monotonic()

    from prism_ray.orchestrate.environment import prepare_for_local_ray

    prepare_for_local_ray()
    from prism_ray.orchestrate.cluster import connect  # late: a finished sweep needs no Ray
    from prism_ray.orchestrate.dispatch import Dispatcher
    from prism_ray.orchestrate.display import ProgressDisplay
    from prism_ray.orchestrate.sampler import MemorySampler

    with (
        MemorySampler() as memory,
        ProgressDisplay(config.orchestrate.log_interval_s, output=output) as display,
        ExitStack() as stack,
    ):
        for line in dict.fromkeys(
            line for w in missing for line in (w.asked.about_images if w.asked else ())
        ):
            display.message(line)
        display.message(
            f"{len(missing)} of {len(points)} points are not complete; starting Ray and its actors"
        )
        held = _Leases(missing, stack, display)
        shape = stack.enter_context(connect(config, num_threads, display.message))
        dispatcher = stack.enter_context(
            Dispatcher(config, folder, shape, display, Ledger(folder), held.check)
        )
        if held.works:
            dispatcher.first_actor()
        start_seconds = time.monotonic() - started
        _check_networks(dispatcher, held.works)
        active = _begin(held, lenders, shape.num_threads, display)
        members = [point.member for point in active]
        to_take = num_to_take(members, lenders)
        display.expect(*(member.progress for member in members), to_take=to_take)
        display.show_to(dispatcher.metrics.look)
        stack.enter_context(LiveWriter(folder, display.now))
        tracking = stack.enter_context(Tracking(display.message))
        for point in active:
            member = point.member
            held.works[point.number].track = tracking.begin(member.files, member.run, member.progress)
        _do_units(dispatcher, held, active, lenders, display)
        used = sum(usage.peak_bytes for usage in dispatcher.actors.usage())
    return SweepOutcome(
        tuple(points),
        time.monotonic() - started,
        start_seconds,
        max(memory.peak_bytes, used),
        dispatcher.num_hits,
        dispatcher.num_loads,
    )


class _Leases:
    """The leases on the stores of all points that are worked on."""

    def __init__(self, missing: Sequence[PointWork], stack: ExitStack, display: "ProgressDisplay") -> None:
        self.works: list[PointWork] = []
        self.fail: Callable[[int, PrismRayError], None] = lambda number, error: None
        self._leases: list[Lease] = []
        for work in missing:
            before = read_holder(work.files)
            lease = Lease(work.files, work.config.orchestrate.lease_ttl_s, display.message)
            try:
                stack.enter_context(lease)
            except (LeaseError, StoreError) as error:
                work.error = error
                continue
            stack.callback(work.ledger.close)
            if (
                not work.is_alone or lease.followed != before
            ):  # another driver has worked since they were listed
                assert work.asked is not None
                work.asked, work.progress = work.asked.with_commits(list_commits(work.files)), None
            self.works.append(work)
            self._leases.append(lease)

    def check(self) -> None:
        """End each point whose store another driver has taken over."""
        for number, (work, lease) in enumerate(zip(self.works, self._leases, strict=True)):
            try:
                lease.raise_if_lost()
            except LeaseError as error:
                if work.error is None:
                    work.error = error
                    self.fail(number, error)


def _check_networks(dispatcher: "Dispatcher", works: Sequence[PointWork]) -> None:
    """Let an actor build the networks of all points, the same ones once; raise what is wrong with them."""
    seen = set()
    for work in works:
        assert work.asked is not None
        config, in_store = work.config, teachers_in_store(work.config, work.progress)
        pieces = config.teachers, config.data, *config.evaluations.values()
        asked = tuple(piece.model_dump_json() for piece in pieces)
        key = asked, config.primary, config.bn_teachers, frozenset(in_store)
        if key not in seen:
            seen.add(key)
            dispatcher.check_networks(work.asked.facts.class_names, in_store, config)


def _begin(
    held: _Leases, lenders: list[Member], num_threads: int, display: "ProgressDisplay"
) -> list["ActivePoint"]:
    """Write the runs into their stores; return the points that can be worked on."""
    from prism_ray.sweep.source import ActivePoint

    active = []
    for number, work in enumerate(held.works):
        folder, files = work.point.folder, work.files
        say = partial(_say, display, folder)
        try:
            assert work.asked is not None
            run, progress = begin(work.asked, files, work.progress, num_threads, work.ledger, say)
            left_out = {unit for unit in set(units_set_aside(files)) - progress.done if run.plan.has(unit)}
        except PrismRayError as error:
            work.error = error
            continue
        work.progress = progress
        member = Member(folder, files, run, progress)
        lenders.append(member)
        check = partial(check_none_left_out, files)
        active.append(ActivePoint(number, member, work.ledger, left_out, check))
    return active


def _say(display: "ProgressDisplay", folder: str, text: str) -> None:
    display.message(f"{folder}: {text}")


def _do_units(
    dispatcher: "Dispatcher",
    held: _Leases,
    active: Sequence["ActivePoint"],
    lenders: Sequence[Member],
    display: "ProgressDisplay",
) -> None:
    from prism_ray.orchestrate.jobs import Job
    from prism_ray.orchestrate.losses import Losses
    from prism_ray.sweep.source import SweepSource

    works = {point.number: held.works[point.number] for point in active}

    def taken(point: "ActivePoint", commit: Commit) -> None:
        works[point.number].num_taken += commit.is_shared
        works[point.number].track(commit)
        display.count(commit)

    def ended(point: "ActivePoint") -> None:
        work = works[point.number]
        work.error = work.error or point.error
        text = f"ended early: {work.error}" if work.error else "complete"
        counts = f"{work.num_made} units made, {work.num_taken} taken from other points"
        display.message(f"{point.member.folder}: {text} ({counts})")

    source = SweepSource(active, Lenders(lenders), taken, ended)
    held.fail = source.fail
    jobs = []
    for point in active:
        work = works[point.number]
        losses = Losses(work.config.orchestrate, dispatcher.actors.max_actors)
        listener = _Listener(display, work, point.member.progress)
        fail = partial(source.fail, point.number)
        jobs.append(Job(point.number, point.member.run, work.files, listener, work.ledger, losses, fail))
    dispatcher.do_jobs(jobs, source)


@dataclass
class _Listener:
    """Tells the display about the units of one point."""

    display: "ProgressDisplay"
    work: PointWork
    progress: RunProgress

    def began(self, unit: Unit) -> None:
        self.display.began(unit)

    def done(self, commit: Commit) -> None:
        self.progress.add(commit)
        self.work.num_made += 1
        self.work.track(commit)
        self.display.count(commit)

    def failed(self, failure: Failure, again: bool) -> None:
        self.display.failed(failure, again, f"{self.work.point.folder}: ")

    def message(self, text: str) -> None:
        _say(self.display, self.work.point.folder, text)

    def tick(self, actors: Callable[[], Sequence[ActorNow]]) -> None:
        self.display.tick(actors)
