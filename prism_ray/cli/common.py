"""Shared parts of the commands: the group that turns errors into messages, the options, the console."""

import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import update_wrapper
from pathlib import Path
from typing import Any

import click

from prism_ray import __version__
from prism_ray.cli.completion import KEY, PATH
from prism_ray.cli.streams import StandardStreams, is_standard
from prism_ray.errors import PrismRayError, StoreError, UsageError
from prism_ray.signals import INTERRUPTED
from prism_ray.stages import stage_names
from prism_ray.wording import printable

FAILED = 1
INCOMPLETE = 3


def say(text: str, *, err: bool = False) -> None:
    """Print text that may come from a store; its control characters do not reach the terminal."""
    click.echo(printable(text), err=err)


class _Group(click.Group):
    """A group that turns the package's errors into one message and the exit code of their class."""

    _is_run = False  # the command does the work of a run, and its output only reports on it

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run the command line; end the process even if a thread is stuck elsewhere."""
        if not is_standard():
            return super().main(*arguments, **options)
        streams = StandardStreams()
        try:
            return super().main(*arguments, **options)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
            if not streams.end() and code == 0 and not self._is_run:
                code = FAILED
            if _is_stuck():
                os._exit(code)
            sys.exit(code)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            _check_working_directory()
            return super().invoke(ctx)
        except PrismRayError as error:
            say(f"error: {error}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(INTERRUPTED)
        finally:
            self._is_run = ctx.invoked_subcommand in ("distill", "sweep", *stage_names())


def _is_stuck() -> bool:
    """Return whether a thread would keep the process from ending: one of Ray, or of a tracker's package."""
    if "ray" in sys.modules:
        from prism_ray.orchestrate.environment import is_ray_stuck

        if is_ray_stuck():
            return True
    if "prism_ray.run.tracking" in sys.modules:
        from prism_ray.run.tracking import is_tracker_stuck

        return is_tracker_stuck()
    return False


def _check_working_directory() -> None:
    try:
        os.getcwd()
    except OSError as error:
        raise UsageError(
            f"the working directory cannot be used ({error.strerror}), perhaps because it was deleted; "
            "change to another folder, then run the same command again"
        ) from None


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="prism-ray")
def main() -> None:
    """Dataset distillation by PRISM, on one laptop or a Ray cluster, always resumable.

    Exit codes: 0 complete, 1 failed, 2 wrong input or a store of another run, 3 incomplete (status, verify),
    129 interrupted by a closed terminal (SIGHUP), 130 by Ctrl-C or SIGTERM.
    """


def config_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the argument and the options of every command that reads a config."""
    decorators = (
        click.argument("config", **PATH),
        click.option(
            "--store",
            metavar="URL",
            help="Folder or URL of the run's store, for example s3://bucket/run.",
            **PATH,
        ),
        click.option(
            "--set",
            "overrides",
            metavar="KEY=VALUE",
            multiple=True,
            help="Override a setting, for example --set recover.iterations=50. Can be repeated.",
            **KEY,
        ),
    )
    for decorate in reversed(decorators):
        command = decorate(command)
    return command


def output_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of every command that works for long, as one argument `output` (Output)."""

    def with_output(
        *arguments: Any, quiet: bool, verbose: bool, log_file: str | None, **options: Any
    ) -> None:
        from prism_ray.orchestrate.display import Output

        if quiet and verbose:
            raise UsageError("--quiet and --verbose contradict each other; give one of them")
        level: Any = "quiet" if quiet else "verbose" if verbose else "normal"
        command(*arguments, output=Output(level, Path(log_file) if log_file else None), **options)

    wrapped = update_wrapper(with_output, command)
    decorators = (
        click.option("--quiet", "-q", is_flag=True, help="Say only what fails, and the result."),
        click.option("--verbose", "-v", is_flag=True, help="Say when each unit begins and ends."),
        click.option("--log-file", metavar="FILE", help="Add everything that is said, with times, to FILE."),
    )
    for decorate in reversed(decorators):
        wrapped = decorate(wrapped)
    return wrapped


def forecast_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a forecast, as one argument `wishes` (Wishes)."""

    def with_wishes(
        *arguments: Any,
        actors: int | None,
        price: float | None,
        calibrate: bool,
        assume_classes: int | None,
        assume_images: int | None,
        assume_test_images: int | None,
        **options: Any,
    ) -> None:
        from prism_ray.data.assumed import Assumption
        from prism_ray.forecast.preview import Wishes

        if price is not None and not (math.isfinite(price) and price >= 0.0):
            raise UsageError(f"--price {price}: give what a GPU costs per hour, for example --price 2.5")
        assumption = None
        if assume_classes is not None and assume_images is not None:
            assumption = Assumption(assume_classes, assume_images, assume_test_images)
        elif (assume_classes, assume_images, assume_test_images) != (None, None, None):
            raise UsageError(
                "--assume-classes and --assume-images-per-class belong together; give both, for example "
                "--assume-classes 1000 --assume-images-per-class 1300"
            )
        command(*arguments, wishes=Wishes(actors, price, assumption, calibrate), **options)

    wrapped = update_wrapper(with_wishes, command)
    number = click.IntRange(1, 10**6)
    decorators = (
        click.option(
            "--calibrate", is_flag=True, help="Do some steps of each stage first, and keep what they took."
        ),
        click.option(
            "--actors",
            type=click.IntRange(1, 4096),
            help="Forecast for this number of actors. Default: that of CONFIG.",
        ),
        click.option(
            "--price", type=float, metavar="X", help="Price per GPU-hour; of a run on CPUs, per actor-hour."
        ),
        click.option(
            "--assume-classes",
            type=click.IntRange(2, 10**6),
            help="Real images that are not there yet: number of classes.",
        ),
        click.option(
            "--assume-images-per-class",
            "assume_images",
            type=number,
            help="The same: training images per class.",
        ),
        click.option(
            "--assume-test-images-per-class",
            "assume_test_images",
            type=number,
            help="The same: test images per class. Default: the share data.test_fraction.",
        ),
    )
    for decorate in reversed(decorators):
        wrapped = decorate(wrapped)
    return wrapped


def say_use(outcome: Any) -> None:
    """Print what a call took: its time, the memory of all processes, the use of the actors' caches."""
    say(f"Time          {outcome.seconds:.1f} s, of which {outcome.start_seconds:.1f} s to start Ray")
    say(f"Peak memory   {outcome.peak_bytes / 2**30:.2f} GiB in all processes together")
    if outcome.num_hits + outcome.num_loads > 0:
        hits, loads = outcome.num_hits, outcome.num_loads
        say(f"Teachers      {loads:,} loaded, {hits:,} times found in an actor's cache")


def read_config(path: str, overrides: tuple[str, ...], store: str | None) -> Any:
    """Return the config (Config) of a command; print a note for each key that has an old name."""
    from prism_ray.config import load_config

    with notes_printed():
        return load_config(path, overrides, store)


@contextmanager
def notes_printed() -> Iterator[None]:
    """Print a note, once, for each key under an old name in the configs that are read meanwhile."""
    from prism_ray.config.renamed import RenamedWarning

    printed = set()

    def print_note(message: Warning | str, *_: Any, **__: Any) -> None:
        if str(message) not in printed:
            printed.add(str(message))
            say(f"note: {message}", err=True)

    with warnings.catch_warnings():
        warnings.simplefilter("always", RenamedWarning)
        warnings.showwarning = print_note
        yield


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
store_argument = click.argument("store", metavar="STORE", **PATH)


def console() -> Any:
    """Return a console for tables; rich is loaded late."""
    from prism_ray.cli.terminal import console as console_for_tables

    return console_for_tables()


def resume_command(files: Any) -> str:
    """Return the command that resumes the run of a store."""
    from prism_ray.store.remedy import resume_command as command_of

    return command_of(files)


def existing_run(store: str) -> tuple[Any, Any]:
    """Return the files (StoreFiles) and the run (Run) of a store."""
    from prism_ray.run import load_run
    from prism_ray.store import StoreFiles, layout

    files = StoreFiles(store)
    try:
        return files, load_run(files)
    except (StoreError, UsageError):
        is_file = files.is_local and os.path.isfile(files.location)
        if is_file or (store.endswith((".yaml", ".yml")) and not files.exists(layout.CONFIG)):
            kind = "a config" if store.endswith((".yaml", ".yml")) else "a file"
            raise UsageError(
                f"{store!r} is {kind}, but this command takes a store; give the folder or URL that the key "
                "`store` of the config names"
            ) from None
        points = [] if is_file else _points_of_sweep(files)
        if points:
            raise UsageError(
                f"{store!r} is the folder of a sweep, and this command takes one run; give one of its "
                f"points, for example {files.location}/{points[0]}"
            ) from None
        raise


def _points_of_sweep(folder: Any) -> list[str]:
    """Return the points of a sweep's folder; none if it is no sweep, or its records are damaged."""
    from prism_ray.store.sweeps import points_of, read_sweeps

    try:
        return points_of(read_sweeps(folder))
    except StoreError:
        return []


def alone_at(files: Any, run: Any) -> Any:
    """Return a lease (Lease) on the store for a command that deletes: no run may be active or start."""
    from functools import partial

    from prism_ray.store import Lease

    return Lease(files, run.config.orchestrate.lease_ttl_s, partial(click.echo, err=True))
