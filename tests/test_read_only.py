"""A store on a place that cannot be written to: a finished one is complete, another is one error."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.timeout(280)]

Run = Callable[..., "subprocess.CompletedProcess[str]"]

# Mounts the folder $1 on itself, read-only, for the command that follows.
MOUNT = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'


@pytest.fixture
def on_read_only(environment: dict[str, str], tmp_path: Path) -> Callable[..., Run]:
    """Run `prism-ray ARGUMENTS` while a folder is read-only, for root too."""

    def run(folder: Path, *arguments: object) -> "subprocess.CompletedProcess[str]":
        inside = ["unshare", "-rm", "bash", "-c", MOUNT, "bash", str(folder)]
        return subprocess.run(
            [*inside, sys.executable, "-m", "prism_ray", *map(str, arguments)],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )

    probe = tmp_path / "probe"
    probe.mkdir()
    if "Usage" not in run(probe, "--help").stdout:
        pytest.skip("needs user namespaces")
    return run  # type: ignore[return-value]


def test_a_finished_store_is_complete(calm: Path, on_read_only: Run, tmp_path: Path) -> None:
    """Catches a run that is complete, but fails because its plan.json cannot be written once more."""
    config = calm / "config.yaml"
    result = on_read_only(calm, "distill", config, "--store", calm)
    assert result.returncode == 0, result.stderr
    assert "Nothing to do" in result.stdout
    assert "note: the store cannot be written to, and it needs nothing more" in result.stdout + result.stderr
    sheet, folder = tmp_path / "new" / "sheet.png", tmp_path / "exported"
    for arguments in (
        ("status", calm),
        ("verify", calm),
        ("plan", config, "--store", calm),
        ("show", calm, "--to", sheet),
        ("export", calm, "--to", folder),
        ("compare", calm, "--baseline", "random-real"),
        ("failures", calm),
    ):
        result = on_read_only(calm, *arguments)
        assert result.returncode == 0, result.stderr
    assert sheet.read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in sheet.parent.iterdir()] == ["sheet.png"]
    assert list(folder.glob("train/*/*.png"))


@pytest.mark.parametrize(("command", "begin"), [("show", b"\x89PNG"), ("report", b"<!doctype html>")])
def test_what_is_for_people_goes_to_the_current_folder(
    calm: Path, on_read_only: Run, tmp_path: Path, command: str, begin: bytes
) -> None:
    """Catches a reader of a shared store who gets nothing, and one whose own file is overwritten."""
    options = ["--without-features"] if command == "report" else []
    name, second = ("report.html", "report-2.html") if command == "report" else ("sheet.png", "sheet-2.png")
    for expected in (name, second):
        result = on_read_only(calm, command, calm, *options)
        assert result.returncode == 0, result.stderr
        assert result.stdout.splitlines()[0] == expected
        assert f"so {expected} is in the current folder" in result.stderr
        assert "run the same command again" not in result.stderr  # the remedy of a run
        assert (tmp_path / expected).read_bytes().startswith(begin)


def test_an_unfinished_store_is_one_error(store_with_teachers: Path, on_read_only: Run) -> None:
    """Catches a run that starts Ray and fails unit by unit."""
    store = store_with_teachers
    result = on_read_only(store, "distill", store / "config.yaml", "--store", store)
    assert result.returncode == 2
    assert f"{store} cannot be written" in result.stderr
    assert len(result.stderr.splitlines()) == 1
