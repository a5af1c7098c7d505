"""Commands on sweeps: many runs below one folder."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import click

from prism_ray.cli.common import (
    FAILED,
    INCOMPLETE,
    console,
    json_option,
    main,
    notes_printed,
    output_options,
    say,
    say_use,
)
from prism_ray.errors import StoreError
from prism_ray.shell import command
from prism_ray.signals import exit_code, signals_interrupt

if TYPE_CHECKING:
    from prism_ray.orchestrate.display import Output

_DEFAULT_FOLDER = "./runs/sweeps"


@main.command()
@click.argument("paths", metavar="FILE...", nargs=-1, required=True)
@click.option(
    "--store",
    "folder",
    metavar="URL",
    default=_DEFAULT_FOLDER,
    show_default=True,
    help="Folder or URL with a store for each point. Points in one folder share what they have in common.",
)
@click.option(
    "--set",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    help="Override a setting of all points, for example --set evaluate.num_students=1. Can be repeated.",
)
@click.option("--dry-run", is_flag=True, help="Show the points and what they share; start and write nothing.")
@json_option
@output_options
def sweep(
    paths: tuple[str, ...],
    folder: str,
    overrides: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    output: "Output",
) -> None:
    """Run all points of the sweeps in FILE... side by side. The same command resumes them.

    A sweep file has a base config and a grid or a list of changes (docs/sweeps.md, jobs/sweeps/). The table
    is printed, and written to report/ in the folder as Markdown, CSV, JSON and, with matplotlib, PNG.
    """
    came: list[int] = []
    try:
        with signals_interrupt() as came:
            code = _sweep(paths, folder, overrides, dry_run, as_json, output)
    except KeyboardInterrupt:
        click.echo("\ninterrupted; all finished work is kept. Resume with the same command:", err=True)
        click.echo(f"  {command(*sys.argv[1:])}", err=True)
        code = exit_code(came)
    sys.exit(code)


def _sweep(
    paths: Sequence[str],
    folder: str,
    overrides: Sequence[str],
    dry_run: bool,
    as_json: bool,
    output: "Output",
) -> int:
    """Run or forecast sweeps; return the exit code."""
    from prism_ray.store import StoreFiles
    from prism_ray.sweep.file import read_sweeps

    files = StoreFiles(folder)
    with notes_printed():
        sweeps = read_sweeps(paths, overrides, folder)
    if dry_run:
        from prism_ray.sweep.forecast import forecast, print_forecast

        figures = forecast(sweeps)
        if as_json:
            click.echo(json.dumps({"points": [each.to_json() for each in figures]}))
        else:
            print_forecast(figures, console())
            click.echo(f"Next: {command(*(word for word in sys.argv[1:] if word != '--dry-run'))}")
        return 0

    from prism_ray.sweep.drive import run_sweeps

    outcome = run_sweeps(sweeps, files, replace(output, to_stderr=as_json))
    tables = _tables(files, [each.name for each in sweeps])
    written = _write_report(files, tables)
    if as_json:
        errors = {point: str(error) for point, error in outcome.errors.items()}
        click.echo(json.dumps({"sweeps": [table.to_json() for table in tables], "errors": errors}))
    else:
        _print(files, tables)
        if outcome.start_seconds is None:
            why = "see the errors below." if outcome.errors else "all points are complete."
            click.echo(f"Nothing to do: {why}")
        else:
            made = sum(work.num_made for work in outcome.points)
            taken = sum(work.num_taken for work in outcome.points)
            click.echo(f"Units         {made:,} made in this call, {taken:,} taken from other points")
            say_use(outcome)
        click.echo(f"Report        {', '.join(written)}")
    for point, error in outcome.errors.items():
        say(f"error: {point}: {error}", err=True)
    if outcome.errors:
        return max(FAILED, min(error.exit_code for error in outcome.errors.values()))
    return 0


def _tables(folder: Any, names: Sequence[str] | None = None) -> list[Any]:
    """Return the tables (SweepTable) of a sweep's folder, of all sweep files or some."""
    from prism_ray.store.sweeps import read_sweeps
    from prism_ray.sweep.table import read_table

    records = read_sweeps(folder)
    return [read_table(folder, records[name]) for name in (names or records)]


def _print(folder: Any, tables: Sequence[Any]) -> None:
    from prism_ray.sweep.table import to_markdown

    for table in tables:
        say(f"{to_markdown(table)}\n")
    points = {point.folder: point for table in tables for point in table.points}
    num_bytes = sum(point.num_bytes for point in points.values())
    shared = sum(point.shared_bytes for point in points.values())
    num_complete, num_points = sum(t.num_complete for t in tables), sum(len(t.points) for t in tables)
    click.echo(f"Points        {num_complete} of {num_points} complete")
    click.echo(f"Bytes         {num_bytes - shared:,} in the points' stores, {shared:,} more that they share")
    click.echo(f"Folder        {folder.location}")


def _write_report(folder: Any, tables: Sequence[Any]) -> list[str]:
    """Write each table in all forms; return the names of the files."""
    from prism_ray.sweep.plot import plot
    from prism_ray.sweep.table import to_csv, to_markdown

    written = []
    for table in tables:
        forms = {
            "md": f"{to_markdown(table)}\n".encode(),
            "csv": to_csv([table]).encode(),
            "json": json.dumps(table.to_json(), indent=1).encode(),
        }
        try:
            picture = plot(table)
        except ImportError:
            picture = None
            say("note: there is no plot without matplotlib: pip install 'prism-ray[plot]'", err=True)
        if picture is not None:
            forms["png"] = picture
        for ending, data in forms.items():
            name = f"report/{table.name}.{ending}"
            try:
                folder.replace(name, data)
            except StoreError as error:  # the table was printed
                say(f"note: {error}", err=True)
            else:
                written.append(name)
    from prism_ray.store import layout

    folder.remove_empty(layout.WIP)
    return written


def status_of_sweep(location: str, as_json: bool) -> int | None:
    """Print the points of a sweep's folder; return the exit code, None if it is not the folder of a sweep."""
    from prism_ray.analyze.watch import live_lines
    from prism_ray.run.live import read_live
    from prism_ray.store import StoreFiles, layout
    from prism_ray.sweep.table import COMPLETE

    folder = StoreFiles(location)
    if folder.exists(layout.PLAN):
        return None
    tables = _tables(folder)
    if not tables:
        return None
    live = read_live(folder)
    if as_json:
        now = None if live is None else asdict(live)
        click.echo(json.dumps({"sweeps": [table.to_json() for table in tables], "live": now}))
    else:
        _print(folder, tables)
        for line in live_lines(live) if live else ():
            say(line)
        points = [point for table in tables for point in table.points]
        missing = [point.folder for point in points if point.state != COMPLETE]
        look = command("status", f"{folder.location}/{(missing or [points[0].folder])[0]}")
        if missing:
            resume = command("sweep", "FILE", "--store", folder.location)
            click.echo(f"Incomplete. Next: {resume}, or look at a point with\n  {look}")
        else:
            click.echo(f"Complete. Next: {look}")
    return 0 if all(table.num_complete == len(table.points) for table in tables) else INCOMPLETE
