"""The stages of one run in order: what is asked is held against the store, what is missing is done."""

import os
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prism_ray.config import Config
from prism_ray.errors import ConfigError, IncompleteError, StoreError
from prism_ray.run import (
    Asked,
    Ledger,
    Run,
    RunProgress,
    match,
    package_versions,
    read_progress,
    refusal,
    save_run,
)
from prism_ray.stages import find_stage, stage_names, stage_of
from prism_ray.stages.squeeze import scope_of_teacher
from prism_ray.store import (
    Lease,
    StoreFiles,
    absolute,
    is_url,
    layout,
    retry_after_store_errors,
    revoke,
    units_set_aside,
)
from prism_ray.store.lease import Holder, read_holder

if TYPE_CHECKING:
    from prism_ray.orchestrate.dispatch import Dispatcher
    from prism_ray.orchestrate.progress import ProgressDisplay


_UNKNOWN = Holder(0, "a driver that was at work", "", 0, 0.0, 0.0)  # nobody: what was read then may be old


@dataclass(frozen=True)
class Outcome:
    """What a call of `distill` came to."""

    run: Run
    progress: RunProgress
    stage_seconds: dict[str, float]  # wall seconds of the stages worked on in this call
    seconds: float  # of the whole call
    start_seconds: float | None  # until Ray's first actor lived; None if nothing was left to do
    peak_bytes: int | None  # memory of all processes; None if nothing was left to do
    num_hits: int = 0  # teachers that an actor had loaded when a unit asked for them
    num_loads: int = 0


def distill(config: Config, origin: str, names: Sequence[str] | None = None) -> Outcome:
    """Do what is missing of the stages `names`, by default of all, in the run of `config`, read from
    `origin`.

    The commits are listed once: what `match` found is handed on. Raises UsageError for wrong input,
    FingerprintError if the store holds another run, IncompleteError if units failed for good, and the errors
    of the rooms.
    """
    names = stage_names() if names is None else names
    refuse_relative_paths_in_a_job(config, origin)
    config = with_absolute_paths(config)
    files = StoreFiles(config.store_url)
    holder = read_holder(files)
    alone = holder is None or holder.is_gone
    asked = match(config, files, origin)
    ledger = Ledger(files)
    progress = None
    if asked.held is not None:
        if not asked.fits:
            raise refusal(files, asked.held, asked.run, asked.bound)
        progress = read_progress(files, asked.run, asked.committed, take_down=ledger.add)
        _check_needs(progress, names)
        if _complete(progress, names):
            return Outcome(_save(asked, files, asked.run), progress, {}, 0.0, None, None)
    else:
        _check_begins(names, files.location)
    return _work(asked, files, names, ledger, progress, holder if alone else _UNKNOWN)


def _complete(progress: RunProgress, names: Collection[str]) -> bool:
    return all(stage.complete for stage in progress.stages if stage.stage in names)


def _save(asked: Asked, files: StoreFiles, run: Run) -> Run:
    """Let the store hold the run; a lost plan.json is deleted first."""
    if asked.plan_is_lost:
        files.delete(layout.PLAN)
    return save_run(files, run, asked.bound)


def _work(
    asked: Asked,
    files: StoreFiles,
    names: Sequence[str],
    ledger: Ledger,
    progress: RunProgress | None,
    holder: Holder | None,
) -> Outcome:
    """Start Ray and do the units that have no commit.

    `progress` was read when `holder` was the last that had worked on the store; if another has since, it is
    read again.
    """
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
            Dispatcher(config, files, shape, display, ledger, lease.raise_if_lost) as dispatcher,
        ):
            names_of_pool = (teacher.name for teacher in config.teachers.pool)
            done = progress.done if progress else frozenset()
            in_store = {name for name in names_of_pool if scope_of_teacher(name) in done}
            dispatcher.check_networks(asked.facts.num_classes, in_store)
            start_seconds = time.monotonic() - started
            run = _save(asked, files, asked.run_with(shape.num_threads))
            if asked.index is not None and (asked.held is None or not files.exists(layout.DATA_INDEX)):
                files.replace(layout.DATA_INDEX, asked.index.to_parquet())
            if asked.plan_is_lost:
                display.message(
                    f"{layout.PLAN} was lost; the commits are of this config, so it is written anew"
                )
            _warn_of_other_versions(run, display)
            if progress is None or lease.followed != holder:
                progress = read_progress(files, run, take_down=ledger.add)
            _run_stages(run, files, names, progress, dispatcher, display)
            used = sum(usage.peak_bytes for usage in dispatcher.actors.usage())
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
    names: Sequence[str],
    progress: RunProgress,
    dispatcher: "Dispatcher",
    display: "ProgressDisplay",
) -> None:
    """Do the units of the stages that have no good commit; raise IncompleteError if some cannot be done.

    Stages that do not overlap come one after the other, then all others as one flow.
    """
    from prism_ray.orchestrate.flow import Flow
    from prism_ray.orchestrate.scheduler import Ready

    for unit_id, problem in progress.damaged.items():
        display.message(f"{unit_id} is done again: {problem}")
        revoke(files, unit_id)
    progress.damaged.clear()
    display.expect(progress)
    for unit_id in retry_after_store_errors(files):
        display.message(f"{unit_id} is tried again: it was set aside for an error of the store")
    left_out = set(units_set_aside(files)) - progress.done
    if left_out:  # of another config perhaps
        left_out &= {unit_id for name in names for unit_id in run.plan.unit_ids(name)}
    wanted = [find_stage(name) for name in names]
    for stage in wanted:
        if not stage.overlaps:
            units = stage.missing(run.plan, progress.done | left_out)
            left_out.update(dispatcher.do(run, Ready(units)))
            _check_none_left_out(files, (stage.name,), left_out)
    overlapping = tuple(stage.name for stage in wanted if stage.overlaps)
    left_out.update(dispatcher.do(run, Flow(run.plan, overlapping, progress.done, left_out)))
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


def _check_needs(progress: RunProgress, names: Sequence[str]) -> None:
    """Raise StoreError if a stage builds on one that is neither complete nor among `names`."""
    found = {stage.stage: stage for stage in progress.stages}
    before = find_stage(names[0]).after
    while before is not None:
        stage = found[before]
        if not stage.complete:
            raise StoreError(
                f"{names[0]} needs a complete {before} stage, of which {stage.num_done} of {stage.num_units} "
                f"units are done; run `prism-ray {before}` or `prism-ray distill` first"
            )
        before = find_stage(before).after


def _check_begins(names: Sequence[str], location: str) -> None:
    """Raise StoreError if the first of the stages builds on another, and the store holds nothing."""
    if find_stage(names[0]).after is not None:
        raise StoreError(
            f"{names[0]} needs what the stages before it make, and {location} holds nothing yet; run "
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


def _check_none_left_out(files: StoreFiles, names: Collection[str], left_out: Collection[str]) -> None:
    failed = sorted(unit_id for unit_id in left_out if stage_of(unit_id) in names)
    if not failed:
        return
    named = ", ".join(failed[:5]) + (", ..." if len(failed) > 5 else "")
    units = "1 unit" if len(failed) == 1 else f"{len(failed)} units"
    raise IncompleteError(
        f"{units} failed for good ({named}) and what builds on them was not begun; all else is committed. "
        f"`prism-ray failures {files.location}` says why; mend the cause, set them back with `prism-ray "
        f"retry --failed {files.location}`, and run the same command again"
    )
