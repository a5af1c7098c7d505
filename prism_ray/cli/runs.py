"""Commands that read a config: preview and execution of a run, its teachers, its settings."""

import json
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import click

from prism_ray.cli.common import (
    config_options,
    console,
    forecast_options,
    json_option,
    main,
    output_options,
    read_config,
    say,
    say_use,
)
from prism_ray.cli.completion import complete_schema
from prism_ray.errors import UsageError
from prism_ray.shell import command
from prism_ray.signals import exit_code, signals_interrupt
from prism_ray.stages import stages

if TYPE_CHECKING:
    from prism_ray.forecast.preview import Wishes
    from prism_ray.orchestrate.display import Output


@main.command()
@config_options
@output_options
def distill(config: str, store: str | None, overrides: tuple[str, ...], output: "Output") -> None:
    """Run all stages of CONFIG. The same command resumes an interrupted run."""
    _run_stages(config, store, overrides, None, output)


def _stage_command(stage: str, help_text: str) -> None:
    @main.command(
        name=stage, help=f"Run one stage of CONFIG: {help_text}.", short_help=f"Stage: {help_text}."
    )
    @config_options
    @output_options
    def command(config: str, store: str | None, overrides: tuple[str, ...], output: "Output") -> None:
        _run_stages(config, store, overrides, (stage,), output)


for _stage in stages():
    _stage_command(_stage.name, _stage.help)


def _run_stages(
    path: str, store: str | None, overrides: tuple[str, ...], names: Sequence[str] | None, output: "Output"
) -> None:
    came: list[int] = []
    try:
        with signals_interrupt() as came:
            _do_and_report(path, store, overrides, names, output)
    except KeyboardInterrupt:
        click.echo("\ninterrupted; all finished work is kept. Resume with the same command:", err=True)
        click.echo(f"  {command(*sys.argv[1:])}", err=True)
        sys.exit(exit_code(came))


def _do_and_report(
    path: str, store: str | None, overrides: tuple[str, ...], names: Sequence[str] | None, output: "Output"
) -> None:
    from prism_ray.analyze.closing import next_commands, print_closing
    from prism_ray.analyze.summary import summarise
    from prism_ray.pipeline import distill as run_pipeline
    from prism_ray.store import StoreFiles

    config = read_config(path, overrides, store)
    outcome = run_pipeline(config, path, names, lambda name: _command(name, path, store, overrides), output)
    files = StoreFiles(config.store_url)
    summary = summarise(files, outcome.run, outcome.progress)
    if output.level == "quiet":
        say(f"Verdict: {summary.verdict.text}")
        return
    print_closing(files, outcome.run, outcome.progress, summary, console())
    if outcome.start_seconds is None:
        click.echo("Nothing to do: all units are committed.")
        for note in outcome.notes:
            say(f"note: {note}")
    else:
        say_use(outcome)
    first, second = next_commands(files, summary.complete)
    click.echo(f"Next: {first}\n      {second}")


def _command(name: str, config: str, store: str | None, overrides: tuple[str, ...]) -> str:
    """Return another command with the same config, store and overrides."""
    path = f"./{config}" if config.startswith("-") else config
    words = [name, path, *(word for text in overrides for word in ("--set", text))]
    return command(*words, *(["--store", store] if store else []))


@main.command()
@config_options
@json_option
@click.option("--all", "show_all", is_flag=True, help="List all classes and batches, not only the first ten.")
@forecast_options
def plan(
    config: str,
    store: str | None,
    overrides: tuple[str, ...],
    as_json: bool,
    show_all: bool,
    wishes: "Wishes",
) -> None:
    """Show what `distill CONFIG` would do, how much is done already, and what it takes: time, GPU-hours,
    bytes, memory. Starts no run.

    The time comes from units that are done, and from a calibration: --calibrate does some steps of each stage
    in about a minute, longer with large images on a CPU, and keeps what they took in the store.
    """
    from prism_ray.analyze.preview import print_preview
    from prism_ray.forecast.preview import preview_with_forecast

    settings = read_config(config, overrides, store)
    say = partial(_say_step, is_shown=sys.stderr.isatty() or not as_json)
    figures = preview_with_forecast(settings, config, None if show_all else 10, wishes, say)
    if as_json:
        click.echo(json.dumps(figures.to_json()))
        return
    print_preview(figures, console(), show_all)
    click.echo(f"Next: {_command('distill', config, store, overrides)}")


def _say_step(text: str, is_shown: bool) -> None:
    if is_shown:
        say(f"calibrating: {text}", err=True)


@main.command()
@config_options
@json_option
@click.option(
    "--batch-size", default=16, show_default=True, type=click.IntRange(1), help="Images per forward pass."
)
def teachers(
    config: str, store: str | None, overrides: tuple[str, ...], as_json: bool, batch_size: int
) -> None:
    """Measure the teachers of CONFIG: size, operations, time and memory per image, accuracy."""
    from prism_ray.run import match
    from prism_ray.run.paths import with_absolute_paths
    from prism_ray.store import StoreFiles

    settings = with_absolute_paths(read_config(config, overrides, store), config)
    files = StoreFiles(settings.store_url)
    requested = match(settings, files, config)
    # Loads torch, so only after the checks of the input.
    from prism_ray.analyze.pool import best_device, measure_pool
    from prism_ray.analyze.pool_table import print_pool

    figures = measure_pool(settings, requested.facts.num_classes, files, best_device(), batch_size)
    if as_json:
        click.echo(json.dumps(figures.to_json()))
        return
    print_pool(figures, console())
    click.echo(f"Next: {_command('plan', config, store, overrides)}")


@main.command()
@json_option
def methods(as_json: bool) -> None:
    """List the values of `recover.method` and `evaluate.protocol`: the methods and protocols."""
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


@main.group()
def config() -> None:
    """Show the settings of a config, or all keys."""


@config.command(name="show")
@config_options
@json_option
def config_show(config: str, store: str | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Print CONFIG with all defaults filled in."""
    from prism_ray.config import dump_config

    settings = read_config(config, overrides, store)
    click.echo(settings.model_dump_json() if as_json else dump_config(settings).rstrip())


@config.command()
def schema() -> None:
    """Print the JSON schema of the config, with a description of each key."""
    from prism_ray.config import config_schema

    click.echo(json.dumps(config_schema(), indent=1))


@main.command(name="schema")
@click.argument("name", metavar="COMMAND", shell_complete=complete_schema)
def schema_of_output(name: str) -> None:
    """Print the JSON schema of what COMMAND prints with --json.

    COMMAND is compare, failures, plan, status, sweep, teachers or verify (docs/json.md).
    """
    from prism_ray.cli.outputs import COMMANDS, output_schema
    from prism_ray.suggest import did_you_mean

    if name not in COMMANDS:
        raise UsageError(
            f"there is no schema of {name!r}; give one of {', '.join(COMMANDS)}{did_you_mean(name, COMMANDS)}"
        )
    click.echo(json.dumps(output_schema(name), indent=1))
