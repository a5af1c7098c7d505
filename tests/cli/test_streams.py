"""Standard output and error that are closed, full, or cannot show a character; in processes of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

PRISM_RAY = f"{sys.executable} -m prism_ray"

# Writes as a command does, through print, click and rich, to streams that are made safe.
PROGRAM = """
import sys, click
from rich.console import Console
from prism_ray.cli.streams import StandardStreams
streams = StandardStreams()
print("caf\\xe9 \\u7ca5", flush=True)
click.echo("second")
Console().print("third")
print("fourth", file=sys.stderr)
sys.exit(0 if streams.end() else 9)
"""


def shell(line: str, environment: dict[str, str], cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["bash", "-c", line], env=environment, cwd=cwd, capture_output=True, text=True, timeout=60
    )


def command(name: str, redirection: str) -> str:
    return f"{PRISM_RAY} {name} {redirection}; echo $? >&2"


@pytest.mark.parametrize(
    ("redirection", "reason", "code"),
    [
        ("> /dev/full", "No space left on device", 1),
        (">&-", "it is closed", 0),
        ("| true; (exit ${PIPESTATUS[0]})", "Broken pipe", 0),
        (">&- 2> /dev/null", None, 0),
    ],
)
def test_output_that_cannot_be_written_costs_one_line(
    redirection: str, reason: str | None, code: int, environment: dict[str, str], tmp_path: Path
) -> None:
    """Catches a traceback, exit code 120 from the last flush, and code 0 for a file that is cut short."""
    result = shell(command("config schema", redirection), environment, tmp_path)
    lines = result.stderr.splitlines()
    assert lines[-1] == str(code), result.stderr
    if reason is not None:
        assert lines[:-1] == [f"note: standard output is lost ({reason}); the command goes on without it"]


def test_an_error_is_told_on_the_stream_that_is_left(environment: dict[str, str], tmp_path: Path) -> None:
    """Catches a closed terminal that hides why a command ended, though its output goes to a log."""
    result = shell(f"{PRISM_RAY} status nowhere 2> /dev/full; echo $?", environment, tmp_path)
    assert result.stdout.splitlines()[0].startswith("error: ")
    assert result.stdout.splitlines()[1] in ("1", "2")


@pytest.mark.parametrize(
    "locale", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
def test_what_the_encoding_lacks_is_escaped(
    locale: dict[str, str], environment: dict[str, str], tmp_path: Path
) -> None:
    """Catches UnicodeEncodeError at the name of a class, on a machine with another locale."""
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment | locale,
        capture_output=True,
        cwd=tmp_path,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[0] in (rb"caf\xe9 \u7ca5", "caf\xe9 \u7ca5".encode())
    assert result.stdout.split()[-2:] == [b"second", b"third"]
    assert result.stderr.split() == [b"fourth"]


def test_a_closed_descriptor_is_not_given_to_a_file(environment: dict[str, str], tmp_path: Path) -> None:
    """Catches text for standard output in a file of the store, which was opened as descriptor 1."""
    program = PROGRAM.replace(
        "streams = StandardStreams()", "streams = StandardStreams(); f = open('kept', 'w')"
    )
    (tmp_path / "program.py").write_text(program)
    shell(f"{sys.executable} program.py <&- >&- 2>&-", environment, tmp_path)
    assert (tmp_path / "kept").read_text() == ""


def test_a_deleted_working_directory_is_named(environment: dict[str, str], tmp_path: Path) -> None:
    """Catches a traceback of os.getcwd."""
    line = f"mkdir gone && cd gone && rmdir ../gone && {PRISM_RAY} status {tmp_path}"
    result = shell(line, environment, tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("error: the working directory cannot be used")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.ray
def test_a_run_counts_more_than_its_output(calm: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """Catches exit code 1 for a run that is complete, because nobody reads its output."""
    line = f"{PRISM_RAY} distill {calm}/config.yaml --store {calm} > /dev/full"
    result = shell(line, environment, tmp_path)
    assert result.returncode == 0, result.stderr
    assert "standard output is lost" in result.stderr
