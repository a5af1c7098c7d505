"""The stages of one run in order: what is asked is held against the store, what is missing is done."""

import os
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prism_ray.config import Config
from prism_ray.errors import ConfigError, IncompleteError, StoreError
from prism_ray.store import (
    Asked,
    Lease,
    Run,
    RunProgress,
    StoreFiles,
    absolute,
    is_url,
    layout,
    match,
    new_run,
    package_versions,
    read_progress,
    refusal,
    retry_after_store_errors,
    revoke,
    save_run,
    units_set_aside,
)
from prism_ray.units import STAGES, Stage, stage_of

if TYPE_CHECKING:
    from prism_ray.orchestrate.dispatch import Dispatcher
    from prism_ray.orchestrate.progress import ProgressDisplay


@dataclass(frozen=True)
class Outcome:
    """What a call of `distill` came to."""

    run: Run
    progress: RunProgress
    stage_seconds: dict[Stage, float]  # wall seconds of the stages worked on in this call
    seconds: float  # of the whole call
    start_seconds: float | None  # until Ray's first actor lived; None if nothing was left to do
    peak_bytes: int | None  # memory of all processes; None if nothing was left to do
    num_hits: int = 0  # teachers that an actor had loaded when a unit asked for them
    num_loads: int = 0


def distill(config: Config, origin: str, stages: tuple[Stage, ...] = STAGES) -> Outcome:
    """Do what is missing of `stages` in the run of `config`, which was read from `origin`.

    Raises UsageError for wrong input, FingerprintError if the store holds another run, IncompleteError if
    units failed for good, and the errors of the rooms.
    """
    refuse_relative_paths_in_a_job(config, origin)
    config = with_absolute_paths(config)
    files = StoreFiles(config.store_url)
    asked = match(config, files, origin)
    in_store: frozenset[str] = frozenset()
    if asked.held is not None:
        if not asked.fits:
            raise refusal(files, asked.held, asked.run, asked.bound)
        progress = read_progress(files, asked.run)
        _check_needs(progress, stages)
        if _complete(progress, stages):
            return Outcome(_save(asked, files, asked.run), progress, {}, 0.0, None, None)
        in_store = frozenset(
            unit.teacher for unit in asked.run.plan.squeeze_units() if unit.id in progress.done
        )
        del progress  # of a large run it is large, and what counts is read again when the store is ours
    elif stages[0] != STAGES[0]:
        raise StoreError(_nothing_before(stages[0], files.location))
    return _work(asked, files, stages, in_store)


def _complete(progress: RunProgress, stages: tuple[Stage, ...]) -> bool:
    return all(stage.complete for stage in progress.stages if stage.stage in stages)


def _save(asked: Asked, files: StoreFiles, run: Run) -> Run:
    """Let the store hold the run; what a lost plan.json has left goes first."""
    if asked.plan_is_lost:
        files.delete(layout.PLAN)
    return save_run(files, run)


def _work(asked: Asked, files: StoreFiles, stages: tuple[Stage, ...], in_store: frozenset[str]) -> Outcome:
    """Start Ray and do the units that have no commit; `in_store` names the teachers that have one."""
    from prism_ray.orchestrate.environment import prepare_for_local_ray

    prepare_for_local_ray()
    from prism_ray.orchestrate.cluster import connect  # late: a finished run needs no Ray
    from prism_ray.orchestrate.dispatch import Dispatcher
    from prism_ray.orchestrate.memory import MemorySampler
    from prism_ray.orchestrate.progress import ProgressDisplay

    config = asked.config
    started = time.monotonic()
    files.check_writable()
    with MemorySampler() as memory, ProgressDisplay(config.orchestrate.log_interval_s) as display:
        display.message("starting Ray and its actors")
        with (
            Lease(files, config.orchestrate.lease_ttl_s, display.message) as lease,
            connect(config, asked.num_threads) as shape,
            Dispatcher(config, files, shape, display, lease.check) as dispatcher,
        ):
            dispatcher.check_networks(asked.facts.num_classes, in_store)
            start_seconds = time.monotonic() - started
            run = _save(asked, files, new_run(config, asked.facts, shape.num_threads, asked.weights))
            if asked.index is not None and (asked.held is None or not files.exists(layout.DATA_INDEX)):
                files.replace(layout.DATA_INDEX, asked.index.to_parquet())
            if asked.plan_is_lost:
                display.message(
                    f"{layout.PLAN} was lost; the commits are of this config, so it is written anew"
                )
            _warn_of_other_versions(run, display)
            _run_stages(run, files, stages, dispatcher, display)
            used = sum(usage.peak_bytes for usage in dispatcher.actors.usage())
    progress = read_progress(files, run)
    if not _complete(progress, stages):
        raise IncompleteError(
            f"{files.location}: units that were done are not whole ({', '.join(progress.damaged)}); another "
            "run may be writing into this store. Run the same command again"
        )
    return Outcome(
        run,
        progress,
        display.stage_seconds,
        time.monotonic() - started,
        start_seconds,
        max(memory.peak_bytes, used),
        dispatcher.num_hits,
        dispatcher.num_loads,
    )


def _run_stages(
    run: Run,
    files: StoreFiles,
    stages: tuple[Stage, ...],
    dispatcher: "Dispatcher",
    display: "ProgressDisplay",
) -> None:
    """Do the units of the stages that have no good commit; raise IncompleteError if some cannot be done.

    Squeeze, then collect, then the others as one flow.
    """
    from prism_ray.orchestrate.flow import OVERLAPPING, Flow
    from prism_ray.orchestrate.scheduler import Ready

    progress = read_progress(files, run, take_down=dispatcher.ledger.add)
    for unit_id, problem in progress.damaged.items():
        display.message(f"{unit_id} is done again: {problem}")
        revoke(files, unit_id)
    display.expect(progress.stages)
    for unit_id in retry_after_store_errors(files):
        display.message(f"{unit_id} is tried again: it was set aside for an error of the store")
    left_out = set(units_set_aside(files)) - progress.done
    if left_out:  # of another config perhaps
        left_out &= {unit_id for stage in stages for unit_id in run.plan.unit_ids(stage)}
    for stage in stages:
        if stage not in OVERLAPPING:
            units = (unit for unit in run.plan.units(stage) if unit.id not in progress.done)
            missing = (unit for unit in units if unit.id not in left_out)
            left_out.update(dispatcher.do(run, Ready(missing)))
            _check_none_left_out(files, (stage,), left_out)
    overlapping = tuple(stage for stage in stages if stage in OVERLAPPING)
    flow = Flow(run.plan, overlapping, progress.done, left_out)
    left_out.update(dispatcher.do(run, flow))
    _check_none_left_out(files, overlapping, left_out)


def refuse_relative_paths_in_a_job(config: Config, origin: str) -> None:
    """Inside a Ray job the working directory is a temporary copy, lost with the job: take no path in it."""
    if not os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"):
        return
    paths = {
        "store": config.store_url,
        "data.path": config.data.path,
        "data.test_path": config.data.test_path,
    }
    pool = enumerate(config.teachers.pool)
    paths |= {f"teachers.pool.{number}.arch": teacher.weights_path for number, teacher in pool}
    for key, path in paths.items():
        if path is not None and not is_url(path) and not Path(path).is_absolute():
            remedy = "--store" if key == "store" else f"--set {key}="
            or_url = " or a URL" if key == "store" else ""
            raise ConfigError(
                f"{origin}: {key} = {path!r} is relative, and a Ray job's working directory is a "
                "temporary copy that is lost with the job; give an absolute path that every node sees"
                f"{or_url}, with {remedy}"
            )


def with_absolute_paths(config: Config) -> Config:
    """Return the config with its local paths made absolute, so that it means the same from any folder."""
    paths = {"path": config.data.path, "test_path": config.data.test_path}
    data = config.data.model_copy(
        update={key: path if path is None else absolute(path) for key, path in paths.items()}
    )
    store = config.store_url if is_url(config.store_url) else absolute(config.store_url)
    pool = tuple(
        teacher
        if teacher.weights_path is None or is_url(teacher.weights_path)
        else teacher.with_weights_path(absolute(teacher.weights_path))
        for teacher in config.teachers.pool
    )
    teachers = config.teachers.model_copy(update={"pool": pool})
    return config.with_store(store).model_copy(update={"data": data, "teachers": teachers})


def _check_needs(progress: RunProgress, stages: tuple[Stage, ...]) -> None:
    """A single stage needs the stages before it to be complete."""
    for stage in progress.stages:
        if stage.stage == stages[0]:
            return
        if not stage.complete:
            raise StoreError(
                f"{stages[0]} needs a complete {stage.stage} stage, of which {stage.num_done} of "
                f"{stage.num_units} units are done; run `prism-ray {stage.stage}` or `prism-ray "
                "distill` first"
            )


def _nothing_before(stage: Stage, location: str) -> str:
    return (
        f"{stage} needs what the stages before it make, and {location} holds nothing yet; run "
        "`prism-ray squeeze` or `prism-ray distill` first"
    )


def _warn_of_other_versions(run: Run, display: "ProgressDisplay") -> None:
    now = package_versions()
    changed = [
        f"{name} {old} -> {now.get(name, 'none')}"
        for name, old in run.versions.items()
        if now.get(name) != old
    ]
    if changed:
        display.message(
            f"note: the run was begun with other versions ({', '.join(changed)}); what is done from "
            "here on may differ in its last bits"
        )


def _check_none_left_out(files: StoreFiles, stages: tuple[Stage, ...], left_out: Collection[str]) -> None:
    failed = sorted(unit_id for unit_id in left_out if stage_of(unit_id) in stages)
    if not failed:
        return
    named = ", ".join(failed[:5]) + (", ..." if len(failed) > 5 else "")
    units = "1 unit" if len(failed) == 1 else f"{len(failed)} units"
    raise IncompleteError(
        f"{units} failed for good ({named}) and what builds on them was not begun; all else is committed. "
        f"`prism-ray failures {files.location}` says why; mend the cause, set them back with `prism-ray "
        f"retry --failed {files.location}`, and run the same command again"
    )
