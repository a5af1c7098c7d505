"""The files of a report, and the command."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from prism_ray.report.rows import StudentRow, schema_of

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


def test_page_and_numbers(made: Path, cli: Cli, tmp_path: Path) -> None:
    """Catches a command that writes into the store when it is told not to, and tables that cannot be read."""
    before = sorted(path for path in made.rglob("*"))
    page, folder = tmp_path / "new" / "page.html", tmp_path / "numbers"
    done = cli("report", made, "-o", page, "--data", folder, "--without-features")
    assert done.returncode == 0, done.stderr
    assert page.read_text().startswith("<!doctype html>")
    assert sorted(path for path in made.rglob("*")) == before
    assert [path.name for path in page.parent.iterdir()] == ["page.html"]
    values = json.loads((folder / "figures.json").read_text())
    for path in folder.glob("*.parquet"):
        table = pq.read_table(path)
        assert table.to_pydict() == values["tables"][path.stem]
    assert pq.read_table(folder / "students.parquet").num_rows == 4


def test_by_default_the_page_is_in_the_store(copied: Path, cli: Cli) -> None:
    """Catches a page that nobody finds, or leftovers of writing it."""
    done = cli("report", copied, "--without-features")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == f"{copied}/report/report.html"
    assert os.listdir(copied / "report") == ["report.html"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("{store}", "{store}"), "is given twice"),
        (("nowhere",), "contains no run"),
        (("{store}", "--class", "eleven"), "has no such class"),
        (("{store}", "--class", "1", "--without-features"), "--class chooses classes"),
        (("{store}", "--without-features", "-o", "{folder}"), "is a folder; give a file"),
        ((), "Missing argument 'STORE...'"),
    ],
)
def test_wrong_input(arguments: tuple[str, ...], said: str, made: Path, cli: Cli, tmp_path: Path) -> None:
    """Catches a traceback, or a page in a place that nobody meant."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_text("")
    given = [word.format(store=made, folder=tmp_path / "folder") for word in arguments]
    done = cli("report", *given)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_without_features_torch_is_not_loaded(made: Path, tmp_path: Path) -> None:
    """Catches a page that waits for torch though no feature is computed."""
    code = (
        "import sys; from prism_ray.cli import main\n"
        f"try: main(['report', {str(made)!r}, '-o', {str(tmp_path / 'p.html')!r}, '--without-features'])\n"
        "except SystemExit as end: assert not end.code, end\n"
        "print([name for name in ('torch', 'ray', 'umap') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_columns_have_fixed_types() -> None:
    """Catches a column whose type depends on whether a value is there."""
    schema = schema_of(StudentRow)
    assert schema.field("top5_accuracy").nullable
    assert not schema.field("accuracy").nullable
    assert str(schema.field("top5_accuracy").type) == "double"
