"""The command line: parse, call, print. What it calls is loaded late, so that `status` answers at once."""

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from prism_ray import __version__
from prism_ray.errors import PrismRayError, UsageError
from prism_ray.units import STAGES, Stage

_INCOMPLETE = 3
_INTERRUPTED = 130


class _Group(click.Group):
    """Turns the package's errors into one clear message and the exit code of their kind."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PrismRayError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(error.exit_code)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="prism-ray")
def main() -> None:
    """Dataset distillation by PRISM, on one laptop or a Ray cluster, always resumable.

    Exit codes: 0 complete, 1 failed, 2 wrong input or another run's store, 3 incomplete (status, verify),
    130 interrupted.
    """


def _config_options(command: Callable[..., None]) -> Callable[..., None]:
    """The argument and options of every command that reads a config."""
    decorators = (
        click.argument("config", type=click.Path(path_type=Path)),
        click.option("--store", metavar="URL", help="Folder or URL of the run's store."),
        click.option(
            "--set",
            "overrides",
            metavar="KEY=VALUE",
            multiple=True,
            help="Override a setting, for example --set recover.iterations=50; may be repeated.",
        ),
    )
    for decorate in reversed(decorators):
        command = decorate(command)
    return command


_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for a script to read.")
_store_argument = click.argument("store", metavar="STORE")


@main.command()
@_config_options
def distill(config: Path, store: str | None, overrides: tuple[str, ...]) -> None:
    """Run all stages of CONFIG; the same command again goes on where it was."""
    _run_stages(config, store, overrides, STAGES)


def _stage_command(stage: Stage, help_text: str) -> None:
    @main.command(name=stage, help=help_text)
    @_config_options
    def command(config: Path, store: str | None, overrides: tuple[str, ...]) -> None:
        _run_stages(config, store, overrides, (stage,))


_stage_command("squeeze", "Run one stage of CONFIG: train the teachers.")
_stage_command("collect", "Run one stage of CONFIG: one pass over the real images (needs squeeze).")
_stage_command("recover", "Run one stage of CONFIG: make the images (needs collect).")
_stage_command("relabel", "Run one stage of CONFIG: make the soft labels (needs recover).")
_stage_command("evaluate", "Run one stage of CONFIG: train and test students (needs relabel).")


def _run_stages(path: Path, store: str | None, overrides: tuple[str, ...], stages: tuple[Stage, ...]) -> None:
    from prism_ray.analyze.summary import print_summary, summarise
    from prism_ray.config import load_config
    from prism_ray.pipeline import distill as run_pipeline
    from prism_ray.store import StoreFiles

    config = load_config(path, overrides, store)
    try:
        outcome = run_pipeline(config, str(path), stages)
    except KeyboardInterrupt:
        click.echo("\ninterrupted; everything committed is kept. Go on with the same command:", err=True)
        click.echo(f"  {_same_command()}", err=True)
        sys.exit(_INTERRUPTED)
    location = StoreFiles(config.store).location
    summary = summarise(location, outcome.run, outcome.progress)
    print_summary(summary, _console(), outcome.stage_seconds)
    if outcome.start_seconds is None:
        click.echo("Nothing to do: every unit is committed already.")
    else:
        assert outcome.peak_bytes is not None
        total = outcome.start_seconds + sum(outcome.stage_seconds.values())
        click.echo(f"This call     {total:.1f} s, of which {outcome.start_seconds:.1f} s to start Ray")
        click.echo(f"Peak memory   {outcome.peak_bytes / 2**30:.2f} GiB in all processes together")
    click.echo(f"Bytes written {summary.num_bytes:,}")
    click.echo(f"Store         {location}")
    if summary.complete:
        click.echo(f"Next: look at the images with\n  prism-ray show {location}")
    else:
        click.echo(f"Next: see what is left with\n  prism-ray status {location}")


def _console() -> Any:
    """A console as wide as the terminal; in a file or a pipe as wide as the tables are."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else 160)


def _same_command() -> str:
    return shlex.join(["prism-ray", *sys.argv[1:]])


def _command(name: str, config: Path, store: str | None, overrides: tuple[str, ...]) -> str:
    """Return another command for the same run."""
    words = ["prism-ray", name, str(config), *(word for text in overrides for word in ("--set", text))]
    return shlex.join(words + (["--store", store] if store else []))


@main.command()
@_config_options
@_json_option
@click.option("--all", "show_all", is_flag=True, help="List every batch, not only the first ten.")
def plan(config: Path, store: str | None, overrides: tuple[str, ...], as_json: bool, show_all: bool) -> None:
    """Show what `distill CONFIG` would do, and how much of it is done; starts nothing."""
    from prism_ray.analyze.preview import preview, print_preview
    from prism_ray.config import load_config

    settings = load_config(config, overrides, store)
    figures = preview(settings, str(config), None if show_all else 10)
    if as_json:
        click.echo(json.dumps(figures.to_json()))
        return
    print_preview(figures, _console())
    click.echo(f"Next: {_command('distill', config, store, overrides)}")


@main.command()
@_store_argument
@_json_option
def status(store: str, as_json: bool) -> None:
    """Say how far the run in STORE is; needs the store, no cluster."""
    from prism_ray.analyze.summary import print_summary, summarise
    from prism_ray.store import load_run, read_progress

    files = _existing_store(store)
    run = load_run(files)
    summary = summarise(files.location, run, read_progress(files, run))
    if as_json:
        click.echo(json.dumps(summary.to_json()))
    else:
        print_summary(summary, _console())
        for unit_id, problem in summary.damaged.items():
            click.echo(f"damaged: {unit_id}: {problem}")
        if summary.complete:
            click.echo(f"Complete. Next: prism-ray show {files.location}")
        else:
            click.echo(f"Incomplete. Next: {_resume_command(files)}")
    sys.exit(0 if summary.complete else _INCOMPLETE)


@main.command()
@_store_argument
@_json_option
@click.option("--repair", is_flag=True, help="Set the units of damaged files back to pending.")
def verify(store: str, as_json: bool, repair: bool) -> None:
    """Read every committed file of STORE and compare its size and SHA-256 with its commit."""
    from prism_ray.store import load_run, read_progress, revoke

    files = _existing_store(store)
    run = load_run(files)
    progress = read_progress(files, run, deep=True)
    if repair:
        for unit_id in progress.damaged:
            revoke(files, unit_id)
    whole = progress.complete and (repair or not progress.damaged)
    if as_json:
        stages = {stage.stage: [stage.num_done, stage.num_units] for stage in progress.stages}
        click.echo(json.dumps({"complete": progress.complete, "stages": stages, "damaged": progress.damaged}))
    else:
        for stage in progress.stages:
            click.echo(f"{stage.stage:<10}{stage.num_done} of {stage.num_units} units are whole")
        if progress.num_others:
            click.echo(f"beside    {progress.num_others} units of what the config no longer names are whole")
        for unit_id, problem in progress.damaged.items():
            click.echo(f"damaged: {unit_id}: {problem}")
        if whole:
            click.echo("Complete and whole.")
        elif progress.damaged and not repair:
            click.echo(f"Next: prism-ray verify --repair {files.location}")
        else:
            click.echo(f"Next: {_resume_command(files)}")
    sys.exit(0 if whole else _INCOMPLETE)


@main.command()
@_store_argument
@click.option("--classes", default=20, show_default=True, type=click.IntRange(1), help="Classes shown.")
@click.option("--ipc", default=10, show_default=True, type=click.IntRange(1), help="Images per class shown.")
def show(store: str, classes: int, ipc: int) -> None:
    """Write a contact sheet (PNG) of the images in STORE, beside those of the control."""
    from prism_ray.analyze.sheet import contact_sheet
    from prism_ray.store import load_run, read_progress

    files = _existing_store(store)
    run = load_run(files)
    sheet = contact_sheet(files, run.plan, read_progress(files, run), classes, ipc)
    files.replace("report/sheet.png", sheet)
    click.echo(f"{files.location}/report/sheet.png")
    click.echo(f"Next: check every file with prism-ray verify {files.location}")


@main.command()
@_config_options
@_json_option
@click.option("--batch-size", default=16, show_default=True, type=click.IntRange(1), help="Images per step.")
def teachers(
    config: Path, store: str | None, overrides: tuple[str, ...], as_json: bool, batch_size: int
) -> None:
    """Measure the networks of CONFIG's pool: size, work, time and memory per image, accuracy."""
    from prism_ray.config import load_config
    from prism_ray.store import StoreFiles, match

    settings = load_config(config, overrides, store)
    files = StoreFiles(settings.store)
    asked = match(settings, files, str(config))
    from prism_ray.analyze.pool import best_device, measure_pool, print_pool  # torch: wrong input needs none

    figures = measure_pool(settings, asked.facts.num_classes, files, best_device(), batch_size)
    if as_json:
        click.echo(json.dumps(figures.to_json()))
        return
    print_pool(figures, _console())
    click.echo(f"Next: {_command('plan', config, store, overrides)}")


@main.command()
@click.argument("stores", metavar="STORE...", nargs=-1, required=True)
@click.option("--baseline", metavar="SET", default="sre2l", show_default=True, help="Compare with this one.")
@_json_option
def compare(stores: tuple[str, ...], baseline: str, as_json: bool) -> None:
    """Print one table (Markdown) over the runs in STOREs: one config, other seeds."""
    from prism_ray.analyze.compare import check_comparable, to_markdown
    from prism_ray.analyze.compare import compare as compare_runs
    from prism_ray.analyze.results import read_results
    from prism_ray.store import load_run, read_progress

    runs = {}
    for store in stores:
        files = _existing_store(store)
        if files.location in runs:
            raise UsageError(f"{store!r} is given twice")
        run = load_run(files)
        runs[files.location] = run, read_progress(files, run)
    check_comparable(runs)
    comparison = compare_runs([read_results(run, progress) for run, progress in runs.values()], baseline)
    click.echo(json.dumps(comparison.to_json()) if as_json else to_markdown(comparison))


@main.command()
@_json_option
def methods(as_json: bool) -> None:
    """List the methods and protocols that `recover.method` and `evaluate.protocol` can name."""
    from prism_ray.methods import find_method, method_names
    from prism_ray.methods.protocols import PROTOCOLS

    found = [method for name in method_names() if (method := find_method(name))]
    if as_json:
        values = [
            {"name": m.name, "title": m.title, "source": m.source, "protocol": m.protocol, "preset": m.preset}
            for m in found
        ]
        click.echo(json.dumps({"methods": values, "protocols": list(PROTOCOLS)}))
        return
    for method in found:
        click.echo(f"{method.name:<14}{method.title}; {method.source}; protocol {method.protocol}")
    click.echo(f"protocols     {', '.join(PROTOCOLS)}")


def _resume_command(files: Any) -> str:
    from prism_ray.store import layout

    config = f"{files.location}/config.yaml" if files.exists(layout.CONFIG) else "CONFIG"
    return f"prism-ray distill {config} --store {files.location}"


def _existing_store(store: str) -> Any:
    from prism_ray.store import StoreFiles

    if store.endswith((".yaml", ".yml")):
        raise UsageError(
            f"{store!r} is a config; this command takes the run's store, the folder or URL that its key "
            "`store` names"
        )
    return StoreFiles(store)


@main.group()
def config() -> None:
    """Look at settings."""


@config.command(name="show")
@_config_options
@_json_option
def config_show(config: Path, store: str | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Print CONFIG with every default filled in."""
    from prism_ray.config import dump_config, load_config

    settings = load_config(config, overrides, store)
    click.echo(settings.model_dump_json() if as_json else dump_config(settings).rstrip())


@config.command()
def schema() -> None:
    """Print the JSON schema of the config, with a description of every key."""
    from prism_ray.config import config_schema

    click.echo(json.dumps(config_schema(), indent=1))
