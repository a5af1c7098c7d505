"""Units on their way to trackers: once each, whatever is killed, and never in the way of the run."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from prism_ray.run import load_run, read_progress
from prism_ray.run import tracking as tracking_module
from prism_ray.run.tracking import Tracking
from prism_ray.store import StoreFiles
from prism_ray.trackers.tensorboard import TensorBoard
from tests.run.test_points import all_items
from tests.sites import install
from tests.trackers.logged import logged

TRACKERS = ["tensorboard", "mlflow"]

# Sends the units of a store to a tracker; with a number, the process ends itself at the n-th call of `state`,
# before or after it, or when the n-th record is written.
SENDING = """
import os, sys
from dataclasses import replace
from prism_ray.run import load_run, read_progress, tracking
from prism_ray.store import StoreFiles
from prism_ray.trackers import find_tracker

store, name, where, number = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
kind, calls = find_tracker(name), 0

def ending(inner):
    def call(*arguments):
        global calls
        calls += 1
        if calls == number and where != "after":
            os._exit(9)
        result = inner(*arguments)
        if calls == number:
            os._exit(9)
        return result
    return call

tracking._CHUNK = 3
if where == "record":
    tracking._Feeder._save = ending(tracking._Feeder._save)
elif where != "never":
    kind.state = ending(kind.state)
files = StoreFiles(store)
run = load_run(files)
run = replace(run, config=run.config.model_copy(update={"trackers": (name,)}))
with tracking.Tracking(print, is_all=bool(os.environ.get("IS_ALL", "yes"))) as sending:
    sending.begin(files, run, read_progress(files, run))
print(sorted({"torch", "ray"} & set(sys.modules)))
"""


def send(
    store: Path, name: str, where: str = "never", number: int = 0, **more: str
) -> "subprocess.CompletedProcess[str]":
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    return subprocess.run(
        [sys.executable, "-c", SENDING, str(store), name, where, str(number)],
        env=environment | more,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def store(calm: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(calm, tmp_path / "run"))


def check_all_is_there_once(store: Path, name: str) -> None:
    expected = {(item.tag, item.step) for item in all_items(store)}
    found = Counter(logged(store, name))
    assert set(found) == expected
    assert set(found.values()) == {1}


@pytest.mark.parametrize("name", TRACKERS)
def test_all_units_are_sent_once_and_the_driver_loads_no_torch(store: Path, name: str) -> None:
    """Catches what is lost or doubled by a second call, and a tracker that brings torch into the driver."""
    first = send(store, name)
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines()[-1] == "[]"
    assert str(store / "trackers" / name) in first.stdout
    check_all_is_there_once(store, name)
    second = send(store, name)
    assert second.stdout.splitlines() == ["[]"]  # it was not even opened
    check_all_is_there_once(store, name)


@pytest.mark.parametrize("name", TRACKERS)
@pytest.mark.parametrize(("where", "number"), [("before", 3), ("after", 2), ("record", 2), ("record", 5)])
def test_a_call_that_is_killed_doubles_nothing(store: Path, name: str, where: str, number: int) -> None:
    """Catches points that come twice: the tracker has them, and the record does not say so yet."""
    assert send(store, name, where, number).returncode == 9
    assert send(store, name, where, number + 1).returncode in (9, 0)
    done = send(store, name)
    assert done.returncode == 0, done.stderr
    check_all_is_there_once(store, name)


@pytest.mark.parametrize("name", TRACKERS)
def test_a_lost_record_doubles_nothing(store: Path, name: str) -> None:
    """Catches a record that someone deleted, after which everything comes a second time."""
    assert send(store, name).returncode == 0
    (store / "trackers" / f"{name}.json").unlink()
    done = send(store, name)
    assert done.returncode == 0, done.stderr
    check_all_is_there_once(store, name)


@contextmanager
def dead_server() -> Iterator[int]:
    """A port that takes every connection and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield server.getsockname()[1]


def test_a_server_that_never_answers_is_reported_once_and_delays_five_seconds(store: Path) -> None:
    """Catches a run that waits for MLflow's own two minutes times eight."""
    with dead_server() as port:
        started = time.monotonic()
        uri = f"http://127.0.0.1:{port}"
        done = send(store, "mlflow", "never", 0, MLFLOW_TRACKING_URI=uri, IS_ALL="")
        seconds = time.monotonic() - started
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()[:-1]
    assert line.startswith("tracker mlflow: not all was sent when the call ended. The run does not depend")
    assert seconds < 100, seconds  # with the start of Python on a busy machine
    later = send(store, "mlflow")
    assert later.returncode == 0, later.stderr
    check_all_is_there_once(store, "mlflow")


def test_a_package_that_is_missing_is_reported_once(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a traceback, and a folder of wandb's that Python takes for the package."""
    said: list[str] = []
    for package in ("prism_no_such_package", "prism_folder"):
        (tmp_path / "prism_folder").mkdir(exist_ok=True)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setattr(TensorBoard, "package", package)
        files = StoreFiles(str(store))
        run = load_run(files)
        run = replace(run, config=run.config.model_copy(update={"trackers": ("tensorboard",)}))
        with Tracking(said.append) as sending:
            for _ in range(3):  # the points of a sweep
                sending.begin(files, run, read_progress(files, run))
        (line,) = said
        assert f"the package {package} is not installed; pip install 'prism-ray[tensorboard]'" in line
        said.clear()
    assert not (store / "trackers").exists()


def test_a_tracker_that_fails_is_reported_once_and_tried_again(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a tracker that is given up after one error, and points that its half-done attempt left."""
    said: list[str] = []
    num_calls = 0
    log = TensorBoard.log

    def failing(self: TensorBoard, items: list[object]) -> None:
        nonlocal num_calls
        num_calls += 1
        log(self, items)  # type: ignore[arg-type]
        if num_calls in (2, 3):
            raise OSError("the disk is away")

    monkeypatch.setattr(TensorBoard, "log", failing)
    monkeypatch.setattr(tracking_module, "_TRY_AGAIN_S", 0.05)
    monkeypatch.setattr(tracking_module, "_SEND_EVERY_S", 0.05)
    monkeypatch.setattr(tracking_module, "_CHUNK", 3)
    files = StoreFiles(str(store))
    run = load_run(files)
    run = replace(run, config=run.config.model_copy(update={"trackers": ("tensorboard",)}))
    with Tracking(said.append) as sending:
        sending.begin(files, run, read_progress(files, run))
        ends = time.monotonic() + 100.0
        while num_calls < 5 or len(logged(store, "tensorboard")) < len(all_items(store)):
            assert time.monotonic() < ends
            time.sleep(0.1)
    problems = [line for line in said if "the disk is away" in line]
    assert len(problems) == 1
    check_all_is_there_once(store, "tensorboard")


def test_a_tracker_that_hangs_is_named_while_the_run_goes_on(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a driver that waits in `add`, a queue without bounds, and a hang that nobody is told of."""
    said: list[str] = []
    released = threading.Event()
    opened: list[TensorBoard] = []

    def hang(tracker: TensorBoard, items: object) -> None:
        opened.append(tracker)
        released.wait(60.0)

    monkeypatch.setattr(TensorBoard, "log", hang)
    monkeypatch.setattr(tracking_module, "_HANGS_S", 0.1)
    monkeypatch.setattr(tracking_module, "_QUEUE", 2)
    files = StoreFiles(str(store))
    run = load_run(files)
    run = replace(run, config=run.config.model_copy(update={"trackers": ("tensorboard",)}))
    progress = read_progress(files, run)
    started = time.monotonic()
    with Tracking(said.append) as sending:
        add = sending.begin(files, run, progress)
        time.sleep(1.0)
        begun = time.monotonic()
        for commit in list(progress.commits.values()) * 100:
            add(commit)
        assert time.monotonic() - begun < 30.0
    assert time.monotonic() - started < 50.0  # the tracker hangs for a minute
    assert sum("gives no answer" in line or "not all was sent" in line for line in said) == 1
    released.set()
    time.sleep(0.5)  # the thread ends, and leaves the tracker as it is
    for tracker in opened:
        tracker.close()  # else a later test is warned of an open file


def test_a_tracker_of_another_package_runs(
    store: Path, cli: Callable[..., "CompletedProcess[str]"], tmp_path: Path
) -> None:
    """Catches the example of docs/trackers.md that does not work, a finished run that sends nothing, and a
    store that cannot be read where the package is not installed."""
    site = install(tmp_path, Path(__file__).parents[2] / "docs" / "trackers.md", "prism_lines")
    options = [store / "config.yaml", "--store", store, "--set", "trackers=[lines]"]
    refused = cli("distill", *options)
    assert refused.returncode == 2
    assert "'lines' is not a tracker; the trackers are tensorboard, wandb, mlflow, trackio" in refused.stderr
    done = cli("distill", *options, PYTHONPATH=os.pathsep.join([str(site), *sys.path]))
    assert done.returncode == 0, done.stderr
    (path,) = (store / "trackers" / "lines").glob("*.jsonl")
    assert str(path) in done.stdout
    lines = [tuple(json.loads(line)[:2]) for line in path.read_text().splitlines()]
    assert len(set(lines)) == len(lines) > 100
    shown = cli("status", store)
    assert shown.returncode == 0, shown.stderr


@pytest.mark.slow  # by the seconds that it waits for a sign of life
def test_a_tracker_that_hangs_does_not_keep_the_process(
    store: Path, cli: Callable[..., "CompletedProcess[str]"], tmp_path: Path
) -> None:
    """Catches a command that said its last word and stays, because a tracker's package waits at exit."""
    site = install(tmp_path, Path(__file__).parents[2] / "docs" / "trackers.md", "prism_lines")
    (site / "prism_lines.py").write_text(
        "import atexit, threading, time\n"
        "from prism_ray.trackers import Tracker\n"
        "class Lines(Tracker):\n"
        "    name = 'lines'\n"
        "    where = 'nowhere'\n"
        "    def __init__(self, run): atexit.register(time.sleep, 300)\n"
        "    def log(self, items): threading.Event().wait(300)\n"
        "    def state(self): return {}\n"
        "    def close(self): pass\n"
    )
    options = [store / "config.yaml", "--store", store, "--set", "trackers=[lines]"]
    done = cli("distill", *options, PYTHONPATH=os.pathsep.join([str(site), *sys.path]), timeout=100.0)
    assert done.returncode == 0, done.stderr
    assert "tracker lines: not all was sent when the call ended" in done.stdout


@pytest.mark.ray
def test_a_run_that_is_killed_and_resumed_has_one_run_in_each_tracker(
    store_with_teachers: Path,
    start_cli: Callable[..., "subprocess.Popen[str]"],
    cli: Callable[..., "CompletedProcess[str]"],
    digits_config: Path,
    small_options: list[str],
) -> None:
    """Catches a second run in the tracker after a resume, and points that are there twice or not at all."""
    store = store_with_teachers
    arguments = ["distill", digits_config, "--store", store, *small_options]
    arguments += ["--set", "trackers=[tensorboard, mlflow]"]
    process = start_cli(*arguments)
    ends = time.monotonic() + 200.0
    while not (store / "trackers" / "tensorboard").exists() or not list(store.glob("commits/recover/*/*")):
        assert time.monotonic() < ends
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.kill()
    process.communicate()
    done = cli(*arguments)
    assert done.returncode == 0, done.stderr
    for name in TRACKERS:
        check_all_is_there_once(store, name)
