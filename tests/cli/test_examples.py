"""The help of each command."""

import shlex
from collections.abc import Iterator

import click
import pytest

from prism_ray.cli import main
from prism_ray.cli.examples import EXAMPLES


def commands(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield prefix + name, command


@pytest.mark.parametrize(("name", "command"), list(commands(main)), ids=str)
def test_each_command_has_an_example_that_it_accepts(name: str, command: click.Command) -> None:
    """Catches a new command without an example, and an example with an option that is gone."""
    program, *words = shlex.split(EXAMPLES[name].partition(" > ")[0])
    assert program == "prism-ray"
    assert words[: len(name.split())] == name.split()
    with command.make_context(name, words[len(name.split()) :]) as context:
        assert f"Example:\n    {EXAMPLES[name]}\n" in f"{command.get_help(context)}\n"
