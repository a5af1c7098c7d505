"""The forecast of a run from its plan, what is done, and the figures of its steps. No torch, no Ray."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from prism_ray import machine
from prism_ray.analyze.forecast_table import Forecast, ForecastRow
from prism_ray.calibrate import figures
from prism_ray.calibrate.figures import Calibration
from prism_ray.config import Config, ElasticActors
from prism_ray.config.resolve import FULL_DATA
from prism_ray.forecast.costs import MOST_UNITS, Costs, sampling_step
from prism_ray.forecast.rates import Groups, kept_bytes
from prism_ray.forecast.simulate import Course, Span, simulate
from prism_ray.parts.forecast import forecast_label_bytes
from prism_ray.plan import Plan
from prism_ray.run import RunProgress
from prism_ray.stages import Unit, find_stage, scope_of, stages

RAY_START_S = 2.5  # to start a local Ray, without the packages of the actors
_RAY_BYTES = 2**27  # that Ray takes in the process of an actor
_EVERY_UNIT = frozenset[str]()


@dataclass(frozen=True)
class Shape:
    """The actors of a forecast."""

    num_actors: int
    num_threads: int
    gpus_per_actor: float
    notes: tuple[str, ...] = ()


def shape_of(config: Config, num_threads: int | None, num_actors: int | None, device: str | None) -> Shape:
    """Return the actors of a run: those of the config, or `num_actors`.

    `num_threads` are those of a run that was begun. `device` is that of a calibration; None: this machine's.
    """
    orchestrate, notes = config.orchestrate, []
    gpu = machine.gpu_name() if device is None else (None if device == "cpu" else device)
    gpus = orchestrate.gpus_per_actor
    if gpus == "auto":
        gpus = 1.0 if gpu else 0.0
    actors = orchestrate.actors if num_actors is None else num_actors
    if actors == "auto":
        actors = 1
        notes.append("orchestrate.actors is auto: one actor is assumed; --actors N asks for others")
    elif isinstance(actors, ElasticActors):
        actors = actors.max
        notes.append(f"orchestrate.actors is a range: all {actors} actors are assumed to be there")
    if orchestrate.students_per_actor > 1:
        notes.append("students are assumed to have whole actors (students_per_actor is not in the forecast)")
    if num_threads is None:
        wanted = orchestrate.threads_per_actor
        cores = machine.num_cores()
        num_threads = max(1, cores // actors) if wanted == "auto" else wanted
    return Shape(actors, num_threads, gpus, tuple(notes))


@dataclass
class _Row:
    """What is summed up over the units of a scope."""

    num_units: int = 0
    num_left: int = 0
    num_sampled: int = 0  # of those that are left: their seconds were looked up
    busy: float = 0.0
    left: float = 0.0
    is_known: bool = True
    sources: set[str] = field(default_factory=set)


def make_forecast(
    plan: Plan,
    progress: RunProgress | None,
    shape: Shape,
    calibration: Calibration | None,
    groups: Groups,
    price_per_hour: float | None = None,
    notes: Sequence[str] = (),
) -> Forecast:
    """Return the forecast of a run.

    `groups` are the figures of the calibration that fit the run. What is done already costs what it took.
    """
    costs = Costs(plan, groups, progress)
    committed = _EVERY_UNIT if progress is None else frozenset(progress.done)
    rows = _sum_up(plan, progress, committed, costs)
    is_known = all(row.is_known or row.num_left == 0 for row in rows.values())
    is_whole_known = all(row.is_known for row in rows.values())
    start = None
    if calibration is not None:
        start = RAY_START_S + calibration.start_seconds
    left = _course(plan, committed, shape, costs, rows, start or 0.0) if is_known else None
    whole = left if not committed else None
    if committed and is_whole_known:
        whole = _course(plan, _EVERY_UNIT, shape, costs, rows, start or 0.0)
    hours = None if whole is None else whole.end * shape.num_actors / 3600
    hours_left = None if left is None else left.end * shape.num_actors / 3600
    if not any(row.num_left for row in rows.values()):
        hours_left = 0.0
        left = Course(0.0)
    peaks = _peaks(plan, calibration, groups, shape)
    label_bytes = _label_bytes(plan)
    shown = tuple(_shown(plan, scope, row, progress, left, peaks, label_bytes) for scope, row in rows.items())
    known_peaks = [row.peak_bytes for row in shown if row.peak_bytes is not None]
    of_gpus = shape.gpus_per_actor
    priced = of_gpus or 1.0  # without GPUs the price is that of an actor

    def times(factor: float | None, hours: float | None) -> float | None:
        return None if factor is None or hours is None else factor * hours

    rate = None if price_per_hour is None else price_per_hour * priced
    missing = sorted(
        {find_stage(scope.split("/")[0]).name for scope, row in rows.items() if not row.is_known}
    )
    said = [*shape.notes, *notes]
    if missing and not is_known:
        said.append(
            f"the time of {', '.join(missing)} is not known: `plan CONFIG --calibrate` measures it in about "
            "a minute, on a machine like those of the run"
        )
    return Forecast(
        num_actors=shape.num_actors,
        num_threads=shape.num_threads,
        gpus_per_actor=of_gpus,
        rows=shown,
        start_seconds=start,
        wall_seconds=None if whole is None else round(whole.end, 1),
        wall_seconds_left=None if left is None else round(left.end, 1),
        actor_hours=_rounded(hours),
        actor_hours_left=_rounded(hours_left),
        gpu_hours=_rounded(times(of_gpus, hours)),
        gpu_hours_left=_rounded(times(of_gpus, hours_left)),
        price_per_hour=price_per_hour,
        price=_rounded(times(rate, hours)),
        price_left=_rounded(times(rate, hours_left)),
        num_bytes=sum(row.num_bytes for row in shown),
        bytes_left=sum(row.bytes_left for row in shown),
        peak_bytes=max(known_peaks) if known_peaks else None,
        calibrated="" if calibration is None else describe(calibration),
        notes=tuple(said),
    )


def describe(calibration: Calibration) -> str:
    """Return where and when a calibration was made."""
    threads = f"{calibration.num_threads} thread{'s' * (calibration.num_threads != 1)}"
    return f"of {calibration.made_at}, {calibration.machine.describe()}, {threads}"


def _sum_up(
    plan: Plan, progress: RunProgress | None, committed: frozenset[str], costs: Costs
) -> dict[str, _Row]:
    """Return the rows by scope, in the order of the run."""
    rows: dict[str, _Row] = {}
    for stage in stages():
        step = sampling_step(plan, stage)
        for unit in stage.units(plan):
            row = rows.setdefault(scope_of(unit.id), _Row())
            row.num_units += 1
            if unit.id in committed:
                continue
            row.num_left += 1
            if (row.num_left - 1) % step:
                continue
            row.num_sampled += 1
            seconds = costs.seconds(unit)
            if seconds is None:
                row.is_known = False
                continue
            row.sources.add("units that are done" if costs.is_measured(unit) else "calibration")
            row.left += seconds
    for scope, row in rows.items():
        row.left *= row.num_left / max(1, row.num_sampled)
        row.busy = row.left
        if progress is not None and row.num_left < row.num_units:
            row.busy += progress.figures[scope].seconds
    return rows


def _course(
    plan: Plan,
    committed: frozenset[str],
    shape: Shape,
    costs: Costs,
    rows: Mapping[str, _Row],
    start: float,
) -> Course:
    num_left = sum(row.num_left if committed else row.num_units for row in rows.values())
    if num_left <= MOST_UNITS:

        def seconds_of(unit: Unit) -> float:
            return costs.seconds(unit) or 0.0

        load = costs.rates.seconds_to_load
        return simulate(plan, committed, shape.num_actors, seconds_of, load, start)
    course = Course(start)
    for scope, row in rows.items():
        busy = row.left if committed else row.busy
        end = course.end + busy / shape.num_actors
        course.spans[scope] = Span(course.end, end, busy, row.num_left)
        course.end = end
    return course


def _shown(
    plan: Plan,
    scope: str,
    row: _Row,
    progress: RunProgress | None,
    left: Course | None,
    peaks: Mapping[str, int],
    label_bytes: Mapping[str, int],
) -> ForecastRow:
    stage, _, what = scope.partition("/")
    span = left.spans.get(scope) if left is not None else None
    done = progress.figures[scope] if progress is not None and scope in progress.figures else None
    num_bytes = 0
    if stage == "recover":
        num_bytes = plan.estimated_image_bytes(what)
    elif stage == "relabel":
        num_bytes = label_bytes[what]
    bytes_left = round(num_bytes * row.num_left / max(1, row.num_units))
    if num_bytes and done is not None and row.num_left < row.num_units:  # as large as those that are done
        share = row.num_left / (row.num_units - row.num_left)
        bytes_left = round(done.num_bytes * share)
        num_bytes = done.num_bytes + bytes_left
    group = scope
    if stage in ("relabel", "measure"):
        group = stage
    elif stage == "evaluate":
        group = figures.evaluate_group(what.rpartition("/")[2])
    known = row.is_known
    return ForecastRow(
        stage=stage,
        what=what,
        num_units=row.num_units,
        num_left=row.num_left,
        unit_seconds=round(row.left / row.num_left, 3) if known and row.num_left else None,
        busy_seconds=round(row.busy, 1) if known else None,
        busy_seconds_left=round(row.left, 1) if known else None,
        begins_after=None if span is None else round(span.begin, 1),
        ends_after=None if span is None else round(span.end, 1),
        num_bytes=num_bytes,
        bytes_left=bytes_left,
        peak_bytes=peaks.get(group),
        known_from=" and ".join(sorted(row.sources)) if known else "",
    )


def _label_bytes(plan: Plan) -> dict[str, int]:
    """Return the bytes of the labels of each image set."""
    return {name: forecast_label_bytes(plan, name) for name in plan.image_sets}


def _peaks(plan: Plan, calibration: Calibration | None, groups: Groups, shape: Shape) -> dict[str, int]:
    """Return the memory of an actor by group: what was measured, and the images that a run has more."""
    if calibration is None:
        return {}
    config, facts = plan.config, plan.facts
    pixels = facts.channels * config.data.image_size**2
    kept = kept_bytes(config, facts)
    most = max(plan.num_images(name) for name in plan.image_sets) * pixels
    peaks = {}
    for name in groups:
        measured = calibration.groups[name].peak_bytes
        if measured == 0:
            continue
        more = 0 if calibration.machine.device != "cpu" else _RAY_BYTES
        if name.startswith("squeeze/"):
            teacher = config.teacher(name.partition("/")[2])
            more += kept if teacher.weights is None else 0
        elif name.startswith("evaluate/"):
            key = name.partition("/")[2]
            more += kept if config.evaluations[key].train_on == FULL_DATA else most
        peaks[name] = measured + more
    return peaks


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")
