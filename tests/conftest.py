"""What tests share: the digits job made small, and the command line as a process of its own."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import settings

from prism_ray.config import parse_config
from prism_ray.data import DataFacts
from prism_ray.locations import STORE_SCHEMES
from prism_ray.run import Run, new_run
from prism_ray.store import StoreFiles
from tests.stores import copy_store

# A busy machine makes single examples slow; pytest's timeout bounds a test that hangs. Derandomised, so
# that a submission fails for what it changed; run with --hypothesis-seed to look for more.
settings.register_profile("prism-ray", deadline=None, derandomize=True)
settings.load_profile("prism-ray")

REPOSITORY = Path(__file__).resolve().parent.parent

# Seconds instead of a minute, yet every stage has more than one unit.
SMALL_OVERRIDES = (
    "teachers.pool=[{name: resnet, arch: timm:test_resnet}, {name: byobnet, arch: timm:test_byobnet}]",
    "teachers.squeeze.epochs=1",
    "recover.primary=resnet",
    "recover.ipc=4",
    "recover.iterations=12",
    "recover.iterations_step=2",
    "recover.ipc_indices_per_batch=2",
    "relabel.epochs=6",
    "relabel.epochs_per_unit=3",
    "relabel.images_per_group=20",
    "evaluate.num_students=1",
    "evaluate.controls=[]",
    "orchestrate.actors=1",  # an actor's start is most of the time
    "orchestrate.threads_per_actor=1",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that start Ray run one after the other in one of the processes, those under fire in the other."""
    for item in items:
        if item.get_closest_marker("ray"):
            is_under_fire = not {"chaos", "s3"}.isdisjoint(item.path.parts)
            item.add_marker(pytest.mark.xdist_group("fire" if is_under_fire else "ray"))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Bytes on the CPU depend on the number of threads, and a test has no claim to every core."""
    if "torch" in sys.modules:  # tests of the rooms without torch need not load it
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture
def digits_config() -> Path:
    """The digits job at 10 images per class, with the image set `distilled` and its control."""
    return REPOSITORY / "jobs" / "digits-ipc10.yaml"


@pytest.fixture
def small_overrides() -> tuple[str, ...]:
    """What `--set` takes to make the digits job small."""
    return SMALL_OVERRIDES


@pytest.fixture
def small_options() -> list[str]:
    """The same as command-line options."""
    return [word for override in SMALL_OVERRIDES for word in ("--set", override)]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment for processes of ours: no trace of another Ray, home folder and all."""
    return _environment(tmp_path)


def _environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    kept.pop("COLUMNS", None)  # which pytest sets in the processes of xdist: tables would have another form
    return kept | {"HOME": str(home), "RAY_USAGE_STATS_ENABLED": "0"}


@pytest.fixture(scope="session")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of an undisturbed run of the small digits job; to be copied, not changed."""
    folder = tmp_path_factory.mktemp("calm")
    options = [word for override in SMALL_OVERRIDES for word in ("--set", override)]
    subprocess.run(
        [
            *(sys.executable, "-m", "prism_ray", "distill", str(REPOSITORY / "jobs" / "digits-ipc10.yaml")),
            *(*options, "--store", str(folder / "run")),
        ],
        cwd=folder,
        env=_environment(folder),
        capture_output=True,
        timeout=240,
        check=True,
    )
    return folder / "run"


@pytest.fixture
def store_with_teachers(calm: Path, tmp_path: Path) -> Path:
    """A store of the small digits job of which only the squeeze stage is done."""
    store = tmp_path / "run"
    copy_store(calm, store, lambda unit: unit.startswith("squeeze/"))
    return store


@pytest.fixture
def start_cli(
    tmp_path: Path, environment: dict[str, str]
) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start `prism-ray ARGUMENTS` in tmp_path; what still runs at the end of the test is killed."""
    started: list[subprocess.Popen[str]] = []
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell's background jobs have it, and theirs
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def start(*arguments: str | Path, **more: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "prism_ray", *map(str, arguments)],
            cwd=tmp_path,
            env=environment | more,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def cli(
    start_cli: Callable[..., "subprocess.Popen[str]"],
) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Run `prism-ray ARGUMENTS` to its end and return what it printed."""

    def run(
        *arguments: str | Path, timeout: float = 240.0, **more: str
    ) -> "subprocess.CompletedProcess[str]":
        process = start_cli(*arguments, **more)
        out, err = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    return run


@pytest.fixture
def local(tmp_path: Path) -> StoreFiles:
    """A store in a folder that does not exist yet."""
    return StoreFiles(str(tmp_path / "run"))


@pytest.fixture(params=["local", "memory"])
def files(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[StoreFiles]:
    """A store in a folder, then one behind a URL; users cannot have the latter, which is in memory."""
    if request.param == "local":
        yield StoreFiles(str(tmp_path / "run"))
        return
    monkeypatch.setitem(STORE_SCHEMES, "memory", "fsspec")
    location = f"memory://prism-{uuid.uuid4().hex}"
    yield StoreFiles(location)
    system, root = fsspec.core.url_to_fs(location)
    if system.exists(root):
        system.rm(root, recursive=True)


@pytest.fixture
def make_run() -> Callable[..., Run]:
    """Describe a small run; `changes` are a__b=value for the setting a.b."""

    def make(num_threads: int = 1, identity: str = "some data", **changes: Any) -> Run:
        values: dict[str, Any] = {
            "store": "somewhere",
            "data": {"source": "digits", "image_size": 8},
            "teachers": {"pool": [{"name": name, "arch": "timm:x"} for name in ("a", "b")]},
            "recover": {"ipc": 2, "primary": "a", "iterations": 9, "iterations_step": 0},
            "relabel": {"epochs": 4, "epochs_per_unit": 2},
            "evaluate": {"student": {"arch": "timm:x"}, "num_students": 1},
        }
        for key, value in changes.items():
            node = values
            *sections, name = key.split("__")
            for section in sections:
                node = node.setdefault(section, {})
            node[name] = value
        facts = DataFacts(("x", "y", "z"), (5, 5, 5), num_test_images=3, channels=1, identity=identity)
        return new_run(parse_config(values, "test"), facts, num_threads)

    return make
