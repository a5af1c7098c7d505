"""What may be imported where: quick commands stay quick, and Ray stays in one room."""

import os
import shutil
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

PACKAGE = Path(__file__).parents[1] / "prism_ray"
HEAVY = ("torch", "torchvision", "timm", "ray", "sklearn", "pandas", "datasets")
LIGHT_MODULES = [
    "prism_ray",
    "prism_ray.config",
    "prism_ray.plan",
    "prism_ray.data",
    "prism_ray.store",
    "prism_ray.run",
    "prism_ray.parts.images",
    "prism_ray.parts.labels",
    "prism_ray.cli",
    "prism_ray.dashboard.server",
    "prism_ray.dashboard.state",
    "prism_ray.calibrate.process",
    "prism_ray.forecast.preview",
    "prism_ray.library.runs",
    "prism_ray.library.calls",
    "prism_ray.orchestrate.losses",
    "prism_ray.orchestrate.scheduler",
    "prism_ray.sweep.drive",
    "prism_ray.sweep.forecast",
    "prism_ray.sweep.source",
    "prism_ray.sweep.table",
]


@pytest.mark.parametrize("module", LIGHT_MODULES)
def test_importing_it_loads_nothing_heavy(module: str) -> None:
    """`status`, `plan` and `verify` that wait seconds for torch or Ray to load."""
    code = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip() == "[]"


def lint(folder: Path) -> "subprocess.CompletedProcess[str]":
    """Check the contracts of pyproject.toml on the package in a folder."""
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache", "--no-logo"]
    return subprocess.run(
        command, cwd=folder, env=os.environ | {"PYTHONPATH": str(folder)}, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("store/gc.py", "import prism_ray.run.progress", "A room imports only rooms below it"),
        ("newroom/__init__.py", "", "A room imports only rooms below it"),
        ("plan/plan.py", "import torch", "Plan, store and run load neither torch nor Ray"),
        ("work/worker.py", "import ray", "Only orchestrate knows Ray"),
    ],
)
def test_an_arrow_that_runs_back_breaks_a_contract(
    tmp_path: Path, module: str, line: str, broken: str
) -> None:
    """Contracts of `make lint` that nothing can break: rooms that were renamed, or that no layer names."""
    shutil.copytree(PACKAGE, tmp_path / "prism_ray", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PACKAGE.parent / "pyproject.toml", tmp_path)
    path = tmp_path / "prism_ray" / module
    path.parent.mkdir(exist_ok=True)
    path.write_text((path.read_text() if path.exists() else "") + f"\n{line}\n")
    checked = lint(tmp_path)
    assert checked.returncode == 1, checked.stdout + checked.stderr
    assert f"{broken} BROKEN" in checked.stdout or "prism_ray.newroom" in checked.stdout


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Two files that cannot be read, tested or moved one without the other."""
    graph = grimp.build_graph("prism_ray", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imports) > 100
    TopologicalSorter(imports).prepare()  # raises CycleError


def test_the_contracts_are_kept() -> None:
    """A pull request that `make lint` would refuse."""
    checked = lint(PACKAGE.parent)
    assert checked.returncode == 0, checked.stdout
