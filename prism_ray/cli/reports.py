"""The command `report`: one HTML page on one or several runs, and the numbers behind it."""

import click

from prism_ray.cli.common import existing_run, main, say
from prism_ray.errors import UsageError
from prism_ray.shell import command


@main.command()
@click.argument("stores", metavar="STORE...", nargs=-1, required=True)
@click.option(
    "-o",
    "--to",
    "target",
    metavar="FILE",
    help="File or URL to write. Default: report/report.html in the first store, or in the current folder if "
    "the store cannot be written to.",
)
@click.option(
    "--data",
    "folder",
    metavar="FOLDER",
    help="Folder or URL for the numbers of the page: figures.json, and a Parquet file for each table.",
)
@click.option(
    "--class",
    "classes",
    metavar="NAME",
    multiple=True,
    help="A class of the projection of the features, by name or label. Can be repeated. Default: up to ten.",
)
@click.option(
    "--without-features", is_flag=True, help="Leave the projection out. Computing features loads torch."
)
def report(
    stores: tuple[str, ...],
    target: str | None,
    folder: str | None,
    classes: tuple[str, ...],
    without_features: bool,
) -> None:
    """Write one HTML page on the run in STORE, or on several runs side by side, and open it anywhere."""
    from prism_ray.report.render import check_extra
    from prism_ray.run.outside import check_target, write_for_people
    from prism_ray.store import layout

    check_extra()
    check_target(target, "-o", "report.html")
    if without_features and classes:
        raise UsageError("--class chooses classes of the projection, and --without-features leaves it out")
    found = [existing_run(store) for store in stores]
    from prism_ray.report.build import build_report
    from prism_ray.report.opened import open_all
    from prism_ray.report.render import render
    from prism_ray.report.write import write_data

    opened = open_all(found)
    made = build_report(opened, classes, features=not without_features)
    for each in opened:
        for note in each.notes:
            say(f"note: {note}", err=True)
    if folder is not None:
        written = write_data(made, folder)
        click.echo(f"{len(written)} files with the numbers are in {folder}")
    where, note = write_for_people(opened[0].files, layout.REPORT, render(made), target, "-o")
    if note:
        say(f"note: {note}", err=True)
    say(where)
    next_step = command("export", opened[0].files.location, "--as", "dataset", "--to", "FOLDER")
    click.echo(f"Next: open it in a browser, or export the images with\n  {next_step}")
