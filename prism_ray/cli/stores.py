"""Commands on the store of an existing run. They need no cluster."""

import json
import sys
from contextlib import nullcontext
from dataclasses import asdict

import click

from prism_ray.cli.common import (
    INCOMPLETE,
    alone_at,
    console,
    existing_run,
    json_option,
    main,
    resume_command,
    say,
    store_argument,
)
from prism_ray.errors import UsageError
from prism_ray.shell import command


@main.command()
@store_argument
@json_option
@click.option("--watch", "watches", is_flag=True, help="Show a run at work until its driver ends.")
def status(store: str, as_json: bool, watches: bool) -> None:
    """Show the progress of the run in STORE, or of the sweep. Needs the store, but no cluster.

    With --watch, Ctrl-C ends the display and not the run.
    """
    if watches and as_json:
        raise UsageError("give either --watch or --json; for scripts, call `status --json` again and again")
    from prism_ray.analyze.summary import print_summary, summarise
    from prism_ray.analyze.watch import live_lines, watch
    from prism_ray.cli.sweeps import status_of_sweep
    from prism_ray.run import read_progress

    code = status_of_sweep(store, as_json)
    if code is not None:
        sys.exit(code)
    files, run = existing_run(store)
    progress = read_progress(files, run)
    if watches:
        watch(files, progress, console())
        progress = read_progress(files, run)
    summary = summarise(files, run, progress)
    shared = sum(sums.shared_bytes for sums in progress.sums.values())
    if as_json:
        click.echo(json.dumps(summary.to_json()))
    else:
        print_summary(summary, console())
        for unit_id, problem in summary.damaged.items():
            say(f"damaged: {unit_id}: {problem}")
        if shared:
            click.echo(
                f"Shared        {shared:,} of these bytes are in the stores of other points of the sweep"
            )
        if summary.driver is not None:
            say(f"Driver        {summary.driver}")
        for line in live_lines(summary.live) if summary.live else ():
            say(f"              {line}")
        if summary.missing_controls:
            say(summary.missing_controls)
        say(f"Verdict: {summary.verdict.text}")
        if summary.complete:
            click.echo(f"Complete. Next: {command('show', files.location)}")
        elif summary.driver is not None and summary.driver.alive:
            click.echo(
                f"Incomplete, and the driver is at work. Next: {command('status', '--watch', files.location)}"
            )
        else:
            click.echo(f"Incomplete. Next: {resume_command(files)}")
    sys.exit(0 if summary.complete else INCOMPLETE)


@main.command()
@store_argument
@json_option
@click.option("--repair", is_flag=True, help="Set the units of damaged files back to pending.")
def verify(store: str, as_json: bool, repair: bool) -> None:
    """Check every committed file of STORE: its size, its SHA-256, and the content of images and labels."""
    from prism_ray.run import NOT_IN_CONFIG, find_damaged_records, read_progress
    from prism_ray.store import revoke

    files, run = existing_run(store)
    with alone_at(files, run) if repair else nullcontext():
        progress = read_progress(files, run, deep=True)
        records = find_damaged_records(files, run)
        if repair:
            for unit_id in progress.damaged:
                revoke(files, unit_id)
            for name in records:
                files.delete(name)
    damaged = progress.damaged | records
    whole = progress.complete and (repair or not damaged)
    if as_json:
        from prism_ray.cli.outputs import VerifyOutput

        stages = {stage.stage: (stage.num_done, stage.num_units) for stage in progress.stages}
        output = VerifyOutput(progress.complete, stages, dict(progress.num_others), damaged)
        click.echo(json.dumps(asdict(output)))
    else:
        for stage in progress.stages:
            click.echo(f"{stage.stage:<10}{stage.num_done} of {stage.num_units} units are whole")
        for scope, number in progress.num_others.items():
            say(f"{scope}: {number} units are whole ({NOT_IN_CONFIG})")
        for name, problem in damaged.items():
            say(f"damaged: {name}: {problem}")
        if repair and not all(run.plan.has(unit_id) for unit_id in progress.damaged):
            say(f"Units that are {NOT_IN_CONFIG} are pending again: a config that names them makes them")
        if whole:
            click.echo("Complete and whole.")
        elif damaged and not repair:
            click.echo(f"Next: {command('verify', '--repair', files.location)}")
        else:
            click.echo(f"Next: {resume_command(files)}")
    sys.exit(0 if whole else INCOMPLETE)


@main.command()
@store_argument
@json_option
def failures(store: str, as_json: bool) -> None:
    """List the failed attempts in STORE, and the units that were set aside because of them."""
    from prism_ray.store import layout, read_failures, store_errors_set_aside, units_set_aside

    files, _ = existing_run(store)
    found, aside = list(read_failures(files)), units_set_aside(files)
    if as_json:
        from prism_ray.cli.outputs import FailuresOutput

        click.echo(json.dumps(asdict(FailuresOutput(tuple(found), tuple(aside)))))
        return
    for failure in found:
        say(f"{failure.failed_at}  {failure.host}  {failure.unit_id}  {failure.error}: {failure.first_line}")
    for unit_id in aside:
        say(f"set aside: {unit_id}")
    if found:
        noun = "attempt" if len(found) == 1 else "attempts"
        say(f"{len(found)} {noun} failed; tracebacks are in {files.location}/{layout.FAILURES}")
    elif not aside:
        click.echo("No attempt failed.")
    if set(aside) - store_errors_set_aside(files).keys():
        click.echo(f"Next: {command('retry', '--failed', files.location)}")
    else:
        click.echo(f"Next: {resume_command(files) if found or aside else command('status', files.location)}")


@main.command()
@store_argument
@click.argument("units", nargs=-1, metavar="[UNIT]...")
@click.option("--failed", is_flag=True, help="All units that were set aside.")
def retry(store: str, units: tuple[str, ...], failed: bool) -> None:
    """Set UNITs of STORE back to pending: units that were set aside, or finished ones by their ids."""
    from prism_ray.store import layout, revoke, units_set_aside
    from prism_ray.store import retry as set_back

    files, run = existing_run(store)
    aside = units_set_aside(files)
    if bool(units) == failed:
        raise UsageError("give either the ids of units, or --failed for all units that were set aside")
    committed = [unit_id for unit_id in units if files.exists(layout.commit(unit_id))]
    for unit_id in units:
        if unit_id not in aside and unit_id not in committed:
            raise UsageError(
                f"{unit_id!r} is neither done nor set aside; the units set aside are "
                f"{', '.join(aside) or 'none'} (see `{command('failures', files.location)}`)"
            )
    chosen = units or aside
    with alone_at(files, run) if committed else nullcontext():
        for unit_id in committed:
            revoke(files, unit_id)
        set_back(files, chosen)
    click.echo(f"{len(chosen)} {'unit is' if len(chosen) == 1 else 'units are'} pending again")
    click.echo(f"Next: {resume_command(files)}")


@main.command()
@store_argument
@click.option(
    "--older-than",
    "hours",
    default=24.0,
    show_default=True,
    type=click.FloatRange(0.0),
    help="Delete only files that were last written at least this many hours ago.",
)
@click.option("--dry-run", is_flag=True, help="Print what would be deleted, but delete nothing.")
def gc(store: str, hours: float, dry_run: bool) -> None:
    """Delete files of STORE that nothing needs. Refused while a run is active on it."""
    from prism_ray.store.gc import find_orphans

    files, run = existing_run(store)
    num_files = num_bytes = 0
    with alone_at(files, run):
        for orphan in list(find_orphans(files, 3600.0 * hours)):
            num_files, num_bytes = num_files + 1, num_bytes + orphan.num_bytes
            click.echo(f"{orphan.name} ({orphan.num_bytes:,} bytes)")
            if not dry_run:
                files.delete(orphan.name)
    noun = "file" if num_files == 1 else "files"
    click.echo(f"{num_files} {noun}, {num_bytes:,} bytes {'would be deleted' if dry_run else 'deleted'}")
    click.echo(f"Next: {command('verify', files.location)}")


@main.command()
@store_argument
@click.option(
    "--max-mb",
    default=256,
    show_default=True,
    type=click.IntRange(1, 4096),
    help="Approximate maximum size of a new file in MB. Files below half of it are merged.",
)
def compact(store: str, max_mb: int) -> None:
    """Merge small files of images and labels in STORE. Refused while a run is active on it."""
    from prism_ray.run.compact import compact as merge_parts

    files, run = existing_run(store)
    num_parts = num_files = 0
    with alone_at(files, run):
        for merged in merge_parts(files, run, max_mb * 10**6):
            num_parts, num_files = num_parts + merged.num_parts, num_files + 1
            click.echo(f"{merged.name} ({merged.num_bytes:,} bytes) contains {merged.num_parts} parts")
    click.echo(f"{num_parts} parts merged into {num_files} {'file' if num_files == 1 else 'files'}")
    if num_files:
        click.echo("The small files are not deleted yet, because a process may still read them.")
    click.echo(f"Next: {command('gc', files.location)}")


@main.command()
@store_argument
@click.option("--classes", type=click.IntRange(1), show_default="20", help="The first classes: how many.")
@click.option("--ipc", type=click.IntRange(1), show_default="10", help="Their first images: how many.")
@click.option(
    "--class", "chosen", multiple=True, metavar="CLASS", help="A class: name or number. Repeatable."
)
@click.option("--ipc-index", multiple=True, type=click.IntRange(0), help="An IPC index, from 0. Repeatable.")
@click.option("--image-set", "sets", multiple=True, metavar="SET", help="An image set. Repeatable.")
@click.option("--initial", is_flag=True, help="Show each image beside the one that it started from.")
@click.option("--no-inline", is_flag=True, help="Do not show the sheet in the terminal.")
@click.option("--to", "target", metavar="FILE", help="File to write. Default: report/sheet.png in the store.")
def show(
    store: str,
    classes: int | None,
    ipc: int | None,
    chosen: tuple[str, ...],
    ipc_index: tuple[int, ...],
    sets: tuple[str, ...],
    initial: bool,
    no_inline: bool,
    target: str | None,
) -> None:
    """Write a contact sheet (PNG) of the images in STORE, next to those of the control.

    If STORE cannot be written to, the sheet goes to the current folder. Terminals that can (kitty, Ghostty,
    iTerm2, WezTerm, foot and others with sixel) show it too, with the package textual-image.
    """
    from prism_ray.analyze.sheet import chosen_labels, contact_sheet
    from prism_ray.cli.inline import show_inline
    from prism_ray.run import read_progress
    from prism_ray.run.outside import check_target, write_for_people
    from prism_ray.store import layout

    if classes is not None and chosen:
        raise UsageError("--classes takes the first classes, and --class names them; give one of the two")
    if ipc is not None and ipc_index:
        raise UsageError("--ipc takes the first images, and --ipc-index names them; give one of the two")
    check_target(target, "--to", "sheet.png")
    files, run = existing_run(store)
    labels = chosen_labels(run, chosen) if chosen else tuple(range(min(classes or 20, run.facts.num_classes)))
    most = max(each.ipc for its_run in run.image_sets.values() for each in its_run.config.image_sets.values())
    ipc_indices = tuple(dict.fromkeys(ipc_index)) or tuple(range(min(ipc or 10, most)))
    progress = read_progress(files, run)
    sheet, notes = contact_sheet(files, run, progress, labels, ipc_indices, sets, initial)
    for note in notes:
        say(f"note: {note}", err=True)
    hint = "" if no_inline else show_inline(sheet)
    if hint:
        say(f"note: {hint}", err=True)
    where, note = write_for_people(files, layout.SHEET, sheet, target, "--to")
    if note:
        say(f"note: {note}", err=True)
    say(where)
    click.echo(f"Next: check every file with\n  {command('verify', files.location)}")


@main.command()
@click.argument("stores", metavar="STORE...", nargs=-1, required=True)
@click.option("--baseline", metavar="SET", help="Set to compare with. Default: the random real images.")
@json_option
def compare(stores: tuple[str, ...], baseline: str | None, as_json: bool) -> None:
    """Print a table (Markdown) and a verdict on the runs in STOREs: one config with different seeds."""
    from prism_ray.analyze.compare import check_comparable, default_baseline, shared_rows, to_markdown
    from prism_ray.analyze.compare import compare as compare_runs
    from prism_ray.analyze.fair import fair_figures, fair_tables, missing_controls, spread_notes
    from prism_ray.analyze.results import student_spread
    from prism_ray.analyze.verdict import judge, observe
    from prism_ray.run import NOT_IN_CONFIG, read_progress

    runs, observed = {}, []
    for store in stores:
        files, run = existing_run(store)
        if files.location in runs:
            raise UsageError(f"{store!r} is given twice; remove one")
        runs[files.location] = run, read_progress(files, run)
        observed.append(observe(files, *runs[files.location]))
    check_comparable(runs)
    shared, left_out = shared_rows([each.results for each in observed])
    if left_out:
        names = ", ".join(left_out)
        say(f"note: {names}: left out, because not all runs have it ({NOT_IN_CONFIG})", err=True)
    comparison = compare_runs(shared, baseline or default_baseline(run))
    verdict = judge(run, observed)
    fair, missing = fair_figures(run, shared), missing_controls(run.config)
    if as_json:
        more = {"verdict": verdict.to_json(), "fair": fair.to_json(), "missing_controls": missing}
        click.echo(json.dumps(comparison.to_json() | more))
        return
    click.echo(to_markdown(comparison))
    for table in fair_tables(fair):
        click.echo(f"\n{table.to_markdown()}")
    say("")
    for note in filter(None, (*spread_notes(fair, student_spread(shared), over_runs=True), missing)):
        say(note)
    say(f"\nVerdict: {verdict.text}")
