"""What the commands share: the group that turns errors into messages, options, the console."""

import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from prism_ray import __version__
from prism_ray.errors import PrismRayError, UsageError

INCOMPLETE = 3
INTERRUPTED = 130
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def say(text: str, *, err: bool = False) -> None:
    """Print what may hold text of a store; control characters in it do not reach the terminal."""
    click.echo(_CONTROL.sub("?", text), err=err)


class _Group(click.Group):
    """Turns the package's errors into one clear message and the exit code of their kind."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PrismRayError as error:
            say(f"error: {error}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(INTERRUPTED)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="prism-ray")
def main() -> None:
    """Dataset distillation by PRISM, on one laptop or a Ray cluster, always resumable.

    Exit codes: 0 complete, 1 failed, 2 wrong input or another run's store, 3 incomplete (status, verify),
    130 interrupted.
    """


def config_options(command: Callable[..., None]) -> Callable[..., None]:
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


def read_config(path: Path, overrides: tuple[str, ...], store: str | None) -> Any:
    """Return the config (Config) that the options give; print a note for each key under an old name."""
    from prism_ray.config import load_config
    from prism_ray.config.renamed import RenamedWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RenamedWarning)
        config = load_config(path, overrides, store)
    for warning in caught:
        if issubclass(warning.category, RenamedWarning):
            say(f"note: {warning.message}", err=True)
        else:
            warnings.showwarning(warning.message, warning.category, warning.filename, warning.lineno)
    return config


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for a script to read.")
store_argument = click.argument("store", metavar="STORE")


def console() -> Any:
    """A console as wide as the terminal; in a file or a pipe as wide as the tables are."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else 160)


def resume_command(files: Any) -> str:
    from prism_ray.store import layout

    config = f"{files.location}/config.yaml" if files.exists(layout.CONFIG) else "CONFIG"
    return f"prism-ray distill {config} --store {files.location}"


def existing_run(store: str) -> tuple[Any, Any]:
    """Return the files (StoreFiles) and the run (Run) of a store."""
    from prism_ray.run import load_run
    from prism_ray.store import StoreFiles

    if store.endswith((".yaml", ".yml")):
        raise UsageError(
            f"{store!r} is a config; this command takes the run's store, the folder or URL that its key "
            "`store` names"
        )
    files = StoreFiles(store)
    return files, load_run(files)


def alone_at(files: Any, run: Any) -> Any:
    """Return a lease (Lease) on the store, for commands that delete: none beside a run, and none begins."""
    from functools import partial

    from prism_ray.store import Lease

    return Lease(files, run.config.orchestrate.lease_ttl_s, partial(click.echo, err=True))
