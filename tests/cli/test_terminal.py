"""Tables on narrow terminals."""

import io
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Iterator

import pytest
from rich.table import Table

from prism_ray.cli.terminal import console

# Prints a table on the terminal that it runs on.
PROGRAM = """
from rich.table import Table
from prism_ray.cli.terminal import console
table = Table("name", "a figure", "another", title="A title")
table.add_row("a-name-of-many-letters-[that]-has-signs", "1,234,567", "98.76 %")
console().print(table)
console().print("Store           /a/long/path/that/no/one/may/cut")
"""
WORDS = ("a-name-of-many-letters-[that]-has-signs", "1,234,567", "98.76")


def table() -> Table:
    made = Table("name", "a figure", "another", title="A title")
    for column in made.columns:
        column.no_wrap = True
    made.add_row(WORDS[0], WORDS[1], WORDS[2])
    return made


@pytest.mark.parametrize("columns", ["1", "20", "40", "60", "200"])
def test_no_name_and_no_figure_is_cut(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches names and figures that end in dots, or vanish with their column, and names taken for markup."""
    monkeypatch.setenv("COLUMNS", columns)
    console().print(table())
    text = capsys.readouterr().out
    for word in (*WORDS, "a figure", "another", "A title"):
        assert word in text


def test_a_table_with_room_stays_a_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches lists in a log file, whose width nobody sets."""
    monkeypatch.delenv("COLUMNS", raising=False)
    console().print(table())
    assert any(all(word in line for word in WORDS) for line in capsys.readouterr().out.splitlines())


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Both ends of a terminal."""
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize(
    "more", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}, {"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}]
)
@pytest.mark.parametrize("columns", [20, 40])
def test_a_real_narrow_terminal(
    columns: int, more: dict[str, str], terminal: tuple[int, int], environment: dict[str, str]
) -> None:
    """Catches a width that is asked of the wrong stream, and a terminal that cannot show the lines."""
    ours, theirs = terminal
    termios.tcsetwinsize(theirs, (24, columns))
    environment = {key: value for key, value in environment.items() if key != "COLUMNS"} | more
    subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, stdout=theirs, stderr=theirs, timeout=60, check=True
    )
    text = os.read(ours, 2**16).decode()
    for word in (*WORDS, "/a/long/path/that/no/one/may/cut"):
        assert word in text


def test_a_stream_without_a_descriptor_is_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a notebook or a test, whose standard output is no file."""
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert console().width == 160
