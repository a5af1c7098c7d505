"""The stages of a run in order: the config is compared with the store, and missing units are done."""

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from prism_ray.config import Config
from prism_ray.errors import IncompleteError, StoreError, UsageError
from prism_ray.forecast.remaining import remaining_in_store
from prism_ray.run import (
    Asked,
    Ledger,
    Run,
    RunProgress,
    match,
    package_versions,
    read_progress,
    save_run,
)
from prism_ray.run.calls import write_call
from prism_ray.run.live import LiveWriter
from prism_ray.run.paths import with_absolute_paths
from prism_ray.run.plan_file import continued
from prism_ray.run.preflight import check_fits, check_ready, teachers_in_store
from prism_ray.run.tracking import Tracking
from prism_ray.shell import command
from prism_ray.stages import find_stage, stage_names, stage_of
from prism_ray.store import (
    Lease,
    StoreFiles,
    layout,
    retry_after_store_errors,
    revoke,
    store_errors_set_aside,
    units_set_aside,
)
from prism_ray.store.commits import list_commits
from prism_ray.store.lease import read_holder
from prism_ray.wording import first_of

if TYPE_CHECKING:
    from prism_ray.orchestrate.dispatch import Dispatcher
    from prism_ray.orchestrate.display import Output


@dataclass(frozen=True)
class Outcome:
    """The result of a call of `distill`."""

    run: Run
    progress: RunProgress
    seconds: float  # of the whole call
    start_seconds: float | None  # until Ray's first actor lived; None if nothing was left to do
    peak_bytes: int | None  # memory of all processes; None if nothing was left to do
    num_hits: int = 0  # teachers that an actor had loaded when a unit needed them
    num_loads: int = 0
    notes: tuple[str, ...] = ()  # for the user, if nothing was left to do


def distill(
    config: Config,
    origin: str,
    names: Sequence[str] | None = None,
    command_for: Callable[[str], str] | None = None,
    output: "Output | None" = None,
) -> Outcome:
    """Do the missing units of the stages `names`, by default of all; `origin` names the config in errors.

    `command_for` returns the command line that does another stage of the same config, for errors; `output`
    is what is said meanwhile.
    The commits are listed only once, by `match`. Raises UsageError for wrong input, FingerprintError if the
    store belongs to another run, IncompleteError if units were set aside, and the errors of the stages.
    """
    names = stage_names() if names is None else names
    config = with_absolute_paths(config, origin)
    files = StoreFiles(config.store_url)
    holder = read_holder(files)
    is_alone = holder is None or holder.is_gone
    asked = match(config, files, origin)
    config = asked.config
    ledger = Ledger(files)
    progress, held = None, asked.held
    if held is not None:
        check_fits(asked, files)
        progress = read_progress(files, asked.run, asked.committed, take_down=ledger.add)
    if command_for is None:
        command_for = partial(_command_for, config, origin)
    _check_stages_before(names[0], progress, files.location, command_for)
    if held and progress and all(stage.complete for stage in progress.stages if stage.stage in names):
        notes = tuple(filter(None, (asked.changes.problem, asked.changes.note)))
        try:
            run = _save(asked, files, asked.run, asked.bound)
        except StoreError as error:  # all results are there: only the present settings cannot be recorded
            run = continued(held, asked.run, asked.bound)
            notes += (f"the store cannot be written to, and it needs nothing more: {error.problem}",)
        said: list[str] = []
        with Tracking(said.append, is_all=True) as tracking:  # one that was named after the run had ended
            tracking.begin(files, run, progress)
        return Outcome(run, progress, 0.0, None, None, notes=(*notes, *said))
    check_ready(asked, files, progress)
    started = time.monotonic()
    files.check_usable()

    from prism_ray.orchestrate.environment import check_process, prepare_for_local_ray

    check_process()
    prepare_for_local_ray()
    from prism_ray.orchestrate.cluster import connect  # late: a finished run needs no Ray
    from prism_ray.orchestrate.dispatch import Dispatcher
    from prism_ray.orchestrate.display import ProgressDisplay
    from prism_ray.orchestrate.sampler import MemorySampler

    with (
        MemorySampler() as memory,
        ProgressDisplay(config.orchestrate.log_interval_s, output=output) as display,
    ):
        for line in asked.about_images:
            display.message(line)
        display.message("starting Ray and its actors")
        with (
            Lease(files, config.orchestrate.lease_ttl_s, display.message) as lease,
            connect(config, asked.num_threads, display.message) as shape,
            Dispatcher(config, files, shape, display, ledger, lease.raise_if_lost) as dispatcher,
            ExitStack() as stack,
        ):
            dispatcher.first_actor()
            start_seconds = time.monotonic() - started
            dispatcher.check_networks(asked.facts.class_names, teachers_in_store(config, progress))
            if not is_alone or lease.followed != holder:  # another driver has worked since they were listed
                asked, progress = asked.with_commits(list_commits(files)), None
            run, progress = begin(asked, files, progress, shape.num_threads, ledger, display.message)
            display.expect(progress)
            display.show_to(dispatcher.metrics.look)
            count = partial(write_call, files, lease.number, dispatcher.counted)
            stack.enter_context(LiveWriter(files, display.now, also=count))
            tracking = stack.enter_context(Tracking(display.message))
            remaining = remaining_in_store(files, run, progress)
            display.estimate_by(remaining.seconds_left)
            display.hand_on(tracking.begin(files, run, progress), remaining.done)
            _run_stages(run, files, names, progress, dispatcher)
            used = sum(usage.peak_bytes for usage in dispatcher.actors.usage())
    seconds, peak_bytes = time.monotonic() - started, max(memory.peak_bytes, used)
    hits, loads = dispatcher.num_hits, dispatcher.num_loads
    return Outcome(run, progress, seconds, start_seconds, peak_bytes, hits, loads)


def begin(
    asked: Asked,
    files: StoreFiles,
    progress: RunProgress | None,
    num_threads: int,
    ledger: Ledger,
    say: Callable[[str], None],
) -> tuple[Run, RunProgress]:
    """Write the run into the store, whose lease is held; return it with its progress.

    `progress` is that of the commits of `asked`, if they were read before. Damaged units are set back to
    pending, and so are those that were set aside because of the store.
    """
    run = _save(asked, files, asked.run_with(num_threads), asked.bound)
    if asked.index is not None and (asked.held is None or not files.exists(layout.DATA_INDEX)):
        files.replace(layout.DATA_INDEX, asked.index.to_parquet())
    if asked.plan_is_lost:
        say(f"{layout.PLAN} was lost; it is written again, because the commits belong to this config")
    _warn_of_other_versions(run, say)
    if progress is None:
        progress = read_progress(files, run, asked.committed, take_down=ledger.add)
    for unit_id, problem in progress.damaged.items():
        if run.plan.has(unit_id):
            say(f"{unit_id} is done again: {problem}")
            revoke(files, unit_id)
        else:  # only its own config can make it again
            say(f"{unit_id}, which is not in the present config, is damaged: {problem}")
    progress.damaged.clear()
    for unit_id in retry_after_store_errors(files):
        say(f"{unit_id} is tried again: it was set aside because of a store error")
    return run, progress


def _save(asked: Asked, files: StoreFiles, run: Run, bound: set[str]) -> Run:
    """Write the run into the store; a lost plan.json is deleted first."""
    if asked.plan_is_lost:
        files.delete(layout.PLAN)
    return save_run(files, run, bound)


def _run_stages(
    run: Run, files: StoreFiles, names: Sequence[str], progress: RunProgress, dispatcher: "Dispatcher"
) -> None:
    """Do the units of the stages that have no valid commit; raise IncompleteError if some cannot be done."""
    from prism_ray.orchestrate.flow import phases

    left_out = set(units_set_aside(files)) - progress.done
    if left_out:  # some may belong to another config
        left_out &= {unit_id for name in names for unit_id in run.plan.unit_ids(name)}
    for stages, source in phases(run.plan, names, progress.done, left_out):
        left_out.update(dispatcher.do(run, source))
        check_none_left_out(files, stages, left_out)


def _command_for(config: Config, origin: str, name: str) -> str:
    return command(name, origin, "--store", config.store_url)


def _check_stages_before(
    name: str, progress: RunProgress | None, location: str, command_for: Callable[[str], str]
) -> None:
    """Raise UsageError if a stage that `name` builds on is not complete; no `progress`: nothing is done."""
    stages = {stage.stage: stage for stage in progress.stages} if progress else {}
    before = find_stage(name).after
    if before is not None and progress is None:
        raise UsageError(
            f"{name} needs the results of earlier stages, and {location} contains nothing yet; run "
            f"`{command_for('squeeze')}` or `{command_for('distill')}` first"
        )
    while before is not None:
        stage = stages[before]
        if not stage.complete:
            raise UsageError(
                f"{name} needs a complete {before} stage, of which {stage.num_done} of {stage.num_units} "
                f"units are done; run `{command_for(before)}` or `{command_for('distill')}` first"
            )
        before = find_stage(before).after


def _warn_of_other_versions(run: Run, say: Callable[[str], None]) -> None:
    now = package_versions()
    versions = ((name, old, now.get(name, "none")) for name, old in run.versions.items())
    changed = [f"{name} {old} -> {new}" for name, old, new in versions if old != new]
    if changed:
        say(
            f"note: the run was begun with other versions ({', '.join(changed)}); results from now on may "
            "differ in their last bits"
        )


def check_none_left_out(files: StoreFiles, names: Collection[str], left_out: Collection[str]) -> None:
    """Raise IncompleteError, with the remedy, if units of the stages `names` were set aside."""
    failed = sorted(unit_id for unit_id in left_out if stage_of(unit_id) in names)
    if not failed:
        return
    problems = store_errors_set_aside(files)
    of_store = [unit_id for unit_id in failed if unit_id in problems]
    others = [unit_id for unit_id in failed if unit_id not in problems]
    lines = []
    if of_store:  # the next call tries them by itself, so the remedy in the problem is the only one
        lines.append(f"{_named(of_store)} could not be done because of the store: {problems[of_store[0]]}")
    if others:
        lines.append(
            f"{_named(others)} failed permanently; `{command('failures', files.location)}` shows why; "
            "correct the cause, set back what failed with "
            f"`{command('retry', '--failed', files.location)}`, and run the same command again"
        )
    lines.append("What builds on them was not begun; all else is committed")
    raise IncompleteError("\n".join(lines))


def _named(unit_ids: Sequence[str]) -> str:
    units = "1 unit" if len(unit_ids) == 1 else f"{len(unit_ids)} units"
    return f"{units} ({first_of(unit_ids, 5)})"
