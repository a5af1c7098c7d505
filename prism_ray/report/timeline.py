"""Time and cost of a run from its commits: units in lanes, seconds, actor-hours, attempts, bytes."""

import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from prism_ray.errors import StoreError
from prism_ray.report.opened import Opened
from prism_ray.report.rows import UnitRow
from prism_ray.report.supervision import evenly
from prism_ray.run.calls import read_calls
from prism_ray.stages import stage_of, stages
from prism_ray.store import Commit, read_failures, units_set_aside

_MAX_UNITS = 20_000  # whose commits are read
_PAUSE_SHARE = 0.05  # a time without work that is longer than this share of the work is cut out
_PAUSE_S = 60.0
OVERLAP_S = 1.5  # of two units of one lane
_MAX_BARS = 300  # of which each is one unit
_SAME_BAR = 1 / 400  # of the width: gaps that are smaller cannot be seen


@dataclass(frozen=True)
class Cost:
    """What a run took, in all calls of the command."""

    actor_seconds: float
    gpus_per_actor: float | None  # None: auto, and the store does not say how many there were
    devices: tuple[str, ...]  # that actors had, as far as the store says
    threads_per_actor: int
    wall_seconds: float | None  # from the first unit's begin to the last one's end, without pauses
    num_hosts: int
    num_images: int
    num_failed: int  # attempts
    num_set_aside: int
    num_resumed: int  # units that continued from a checkpoint
    num_hits: int | None  # teachers that an actor had in its cache; None: no call has a record
    num_loads: int | None
    num_preempted: int | None  # actors that were lost with their machines
    bytes_by_stage: dict[str, int]
    seconds_by_stage: dict[str, float]

    @property
    def actor_hours(self) -> float:
        return self.actor_seconds / 3600


@dataclass(frozen=True)
class Timeline:
    """The units that are done, in order of their begin, and the pauses between calls."""

    units: tuple[UnitRow, ...]
    num_units: int  # that are done; more than `units` if not all commits were read
    pauses: tuple[tuple[float, float], ...]  # seconds since 1970
    cost: Cost

    def seconds_of_work(self, moment: float) -> float:
        """Return the seconds from the run's begin to a moment, without pauses."""
        begin = self.units[0].started_at
        cut = sum(max(0.0, min(end, moment) - start) for start, end in self.pauses)
        return moment - begin - cut


def read_timeline(opened: Opened) -> Timeline:
    """Read when and where the units were done; of very many, some that are evenly chosen."""
    order = [stage.name for stage in stages()]
    done = sorted(opened.progress.done, key=lambda unit_id: (order.index(stage_of(unit_id)), unit_id))
    chosen = evenly(done, _MAX_UNITS)
    if len(chosen) < len(done):
        opened.note(f"{opened.name}: the times are those of {len(chosen):,} of {len(done):,} units")
    commits = opened.commits(chosen)
    rows = sorted(
        (row for commit in commits if (row := _row(opened.name, commit)) is not None),
        key=lambda row: (row.started_at, row.unit),
    )
    units = _in_lanes(rows)
    pauses = _pauses(units)
    num_resumed = sum(bool(commit.stats.get("resumed_at")) for commit in commits)
    return Timeline(tuple(units), len(done), tuple(pauses), _cost(opened, units, pauses, num_resumed))


def _row(store: str, commit: Commit) -> UnitRow | None:
    try:
        finished = datetime.fromisoformat(commit.finished_at)
        ended = finished.replace(tzinfo=finished.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        return None
    counts = [part.num_rows for part in commit.files if part.num_rows is not None]
    seconds = max(0.0, commit.seconds)
    return UnitRow(
        store=store,
        unit=commit.unit,
        stage=stage_of(commit.unit),
        host=commit.host,
        lane=0,
        started_at=ended - seconds,
        finished_at=ended,
        seconds=seconds,
        num_images=sum(counts) if counts else None,
        num_bytes=commit.num_bytes,
    )


def _in_lanes(rows: Sequence[UnitRow]) -> list[UnitRow]:
    """Give each unit the first lane of its host that is free.

    A commit names its host, but not its actor. Its end is known to the second, and an actor begins a unit
    while the one before is written. So a small overlap is none.
    """
    ends: dict[str, list[float]] = {}
    placed = []
    for row in rows:
        lanes = ends.setdefault(row.host, [])
        lane = next((lane for lane, end in enumerate(lanes) if end <= row.started_at + OVERLAP_S), len(lanes))
        lanes[lane : lane + 1] = [row.finished_at]
        placed.append(replace(row, lane=lane))
    return placed


def _pauses(units: Sequence[UnitRow]) -> list[tuple[float, float]]:
    """Return the times in which nothing was at work, if they are long: between calls of the command."""
    if not units:
        return []
    gaps, busy_until = [], units[0].started_at
    for unit in units:
        if unit.started_at > busy_until:
            gaps.append((busy_until, unit.started_at))
        busy_until = max(busy_until, unit.finished_at)
    worked = busy_until - units[0].started_at - sum(end - start for start, end in gaps)
    return [(a, b) for a, b in gaps if b - a > max(_PAUSE_S, _PAUSE_SHARE * worked)]


def _cost(
    opened: Opened, units: Sequence[UnitRow], pauses: Sequence[tuple[float, float]], num_resumed: int
) -> Cost:
    run, progress = opened.run, opened.progress
    sums = {stage.name: progress.sums[stage.name] for stage in stages()}
    wall = None
    if units:
        wall = max(unit.finished_at for unit in units) - units[0].started_at
        wall -= sum(end - start for start, end in pauses)
    num_failed = 0
    with suppress(StoreError):
        num_failed = sum(1 for _ in read_failures(opened.files))
    num_images = sum(progress.figures[f"recover/{name}"].num_rows for name in run.image_sets)
    calls = read_calls(opened.files)
    gpus: float | str | None = run.config.orchestrate.gpus_per_actor
    if gpus == "auto":
        known = {call.gpus_per_actor for call in calls}
        gpus = known.pop() if len(known) == 1 else None
    return Cost(
        actor_seconds=sum(each.seconds for each in sums.values()),
        gpus_per_actor=None if gpus is None else float(gpus),
        devices=tuple(sorted({device for call in calls for device in call.devices})),
        threads_per_actor=run.num_threads,
        wall_seconds=wall,
        num_hosts=len({unit.host for unit in units}),
        num_images=num_images,
        num_failed=num_failed,
        num_set_aside=len(units_set_aside(opened.files)),
        num_resumed=num_resumed,
        num_hits=sum(call.num_hits for call in calls) if calls else None,
        num_loads=sum(call.num_loads for call in calls) if calls else None,
        num_preempted=sum(call.num_preempted for call in calls) if calls else None,
        bytes_by_stage={name: each.num_bytes for name, each in sums.items()},
        seconds_by_stage={name: each.seconds for name, each in sums.items()},
    )


@dataclass(frozen=True)
class Bar:
    """Units of one stage that follow each other in one lane, as one bar; seconds of work since the begin."""

    lane: str
    stage: str
    start: float
    end: float
    num_units: int
    first_unit: str


def bars(timeline: Timeline) -> list[Bar]:
    """Return the bars of the chart; units whose gap cannot be seen share one, so there are not too many."""
    units = timeline.units
    if not units:
        return []
    width = max(timeline.seconds_of_work(unit.finished_at) for unit in units)
    last: dict[str, int] = {}  # lane -> index of its last bar
    found: list[Bar] = []
    for unit in units:
        lane = f"{unit.host} #{unit.lane + 1}"
        start, end = map(timeline.seconds_of_work, (unit.started_at, unit.finished_at))
        before = found[last[lane]] if lane in last else None
        is_near = before is not None and start - before.end <= _SAME_BAR * width
        if before is not None and is_near and before.stage == unit.stage and len(units) > _MAX_BARS:
            found[last[lane]] = replace(before, end=max(end, before.end), num_units=before.num_units + 1)
        else:
            last[lane] = len(found)
            found.append(Bar(lane, unit.stage, start, end, 1, unit.unit))
    return found


def median_seconds(units: Sequence[UnitRow], stage: str) -> float | None:
    """Return the median of the seconds of a stage's units, None if none is done."""
    seconds = [unit.seconds for unit in units if unit.stage == stage]
    return statistics.median(seconds) if seconds else None
