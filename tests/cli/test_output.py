"""What a call of `distill` says while it works and at its end."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from prism_ray.analyze.closing import next_commands, places
from prism_ray.run import read_progress
from prism_ray.store import StoreFiles, layout
from prism_ray.wording import size
from tests.filled import finish
from tests.printed import small_digits_run

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.ray
def test_the_end_of_a_run(
    cli: Run, digits_config: Path, store_with_teachers: Path, small_options: list[str], tmp_path: Path
) -> None:
    """Catches a verdict below the tables, more than two next commands, and --quiet that prints tables."""
    command = ["distill", digits_config, *small_options, "--store", store_with_teachers]
    done = cli(*command, "--verbose", "--log-file", tmp_path / "run.log")
    assert done.returncode == 0, done.stderr
    out = done.stdout
    assert "event=begun" in out
    closing = out[out.index("Verdict: ") :]
    for word in ("Students", "Images  ", "Labels  ", "Store  ", "Time  ", "Next: prism-ray report "):
        assert word in closing
    assert "Stages" not in out  # that is in `status`
    assert out.rstrip().splitlines()[-1] == f"      prism-ray status {store_with_teachers}"
    assert "event=ended" in (tmp_path / "run.log").read_text()
    again = cli(*command, "--quiet")
    assert again.stdout.startswith("Verdict: ")
    assert again.stdout.count("\n") == 1


def test_quiet_and_verbose_contradict(cli: Run, digits_config: Path) -> None:
    """Catches the last one that wins without a word."""
    done = cli("distill", digits_config, "-q", "-v")
    assert done.returncode == 2
    assert "--quiet and --verbose contradict each other" in done.stderr


def test_places_are_those_of_the_files(
    digits_config: Path, small_overrides: tuple[str, ...], tmp_path: Path
) -> None:
    """Catches a folder that does not exist, or counts of another set."""
    files, run = small_digits_run(digits_config, str(tmp_path / "run"), small_overrides)
    finish(files, run)
    progress = read_progress(files, run)
    images, labels, store = list(places(files, run, progress))
    assert images.startswith("Images        80 images, ")
    folders = [word.strip(",") for word in images.partition(" in ")[2].split()]
    assert folders
    assert all(list((Path(files.location) / folder).glob("part-*.parquet")) for folder in folders)
    assert labels.startswith("Labels        480 views, ")
    assert store.endswith(files.location)
    files.replace(layout.REPORT, b"<html>")
    assert "Report        report/report.html, as it was made last" in list(places(files, run, progress))


def test_next_commands(tmp_path: Path) -> None:
    """Catches `report` of a run that has nothing to report."""
    files = StoreFiles(str(tmp_path / "run"))
    assert next_commands(files, True)[0].startswith("prism-ray report ")
    assert next_commands(files, False)[0].startswith("prism-ray status ")


def test_sizes() -> None:
    """Catches a figure with eleven digits."""
    assert [size(n) for n in (0, 999, 1000, 97_170, 5_670_000_000)] == [
        "0 bytes",
        "999 bytes",
        "1 kB",
        "97.2 kB",
        "5.67 GB",
    ]
