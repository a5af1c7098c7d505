"""What may be imported where: quick commands stay quick, and Ray stays in one room."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "prism_ray"
HEAVY = ("torch", "torchvision", "timm", "ray", "sklearn")
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
    "prism_ray.orchestrate.losses",
    "prism_ray.orchestrate.scheduler",
]
ROOMS_WITHOUT_RAY = ["collect", "recover", "relabel", "evaluate", "teachers", "analyze"]
PURE_ROOMS = ["config", "stages", "plan", "encodings", "store", "parts", "run", "parquet"]


@pytest.mark.parametrize("module", LIGHT_MODULES)
def test_importing_it_loads_nothing_heavy(module: str) -> None:
    """`status`, `plan` and `verify` that wait seconds for torch or Ray to load."""
    code = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip() == "[]"


def imported_in(path: Path) -> Iterator[str]:
    """Yield the top-level packages that a source file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module.split(".")[0]


def sources(*rooms: str) -> list[Path]:
    """Return the Python files of some rooms."""
    return sorted(path for room in rooms for path in (PACKAGE / room).rglob("*.py"))


@pytest.mark.parametrize("room", [*ROOMS_WITHOUT_RAY, *PURE_ROOMS, "data"])
def test_there_are_files_to_look_at(room: str) -> None:
    """A room that was renamed is no longer looked at, and the rules below hold for nothing."""
    assert sources(room)


@pytest.mark.parametrize(
    "path", sources(*ROOMS_WITHOUT_RAY), ids=lambda path: path.relative_to(PACKAGE).as_posix()
)
def test_the_engine_rooms_do_not_know_ray(path: Path) -> None:
    """An engine test or a GPU benchmark that needs a cluster."""
    assert "ray" not in set(imported_in(path))


@pytest.mark.parametrize(
    "path",
    [*sources(*PURE_ROOMS), PACKAGE / "seeds.py", PACKAGE / "errors.py"],
    ids=lambda path: path.relative_to(PACKAGE).as_posix(),
)
def test_config_plan_and_store_are_free_of_heavy_imports(path: Path) -> None:
    """A late import inside a function that the test of the modules above does not reach."""
    assert set(imported_in(path)).isdisjoint(HEAVY)


def test_only_the_orchestrate_room_imports_ray() -> None:
    """Ray seeping out of its room, one convenience at a time."""
    outside = [path for path in PACKAGE.rglob("*.py") if "orchestrate" not in path.parts]
    assert [path.name for path in outside if "ray" in set(imported_in(path))] == []
