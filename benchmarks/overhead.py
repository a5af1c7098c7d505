"""What watching a run costs: loss curves, heartbeats and trackers, on and off in turn, in pairs.

    python benchmarks/overhead.py engine            # the loop of recover in this process
    python benchmarks/overhead.py runs              # the stage recover of whole runs, with Ray

"Off" in whole runs is a copy of the package in which the curve, the heartbeats and live.json do nothing, with
`trackers: []`. Wall seconds are those of people; CPU seconds say more on a machine that has other work.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import psutil
import torch
from setups import Job, first_pixels, make_networks, make_setting

import prism_ray
from prism_ray.recover.curve import CurveRecorder
from prism_ray.recover.engine import recover_batch
from prism_ray.recover.setting import RecoverSetting
from prism_ray.store import StoreFiles
from prism_ray.work.checkpoints import Control, StoreCheckpoints

DIGITS = Path(__file__).parents[1] / "jobs" / "digits-ipc10.yaml"
ASK_EVERY_S = 2.0  # as the driver asks its actors
# In the copy of the package that does without: file, what is there, what comes in its place.
WITHOUT = (
    ("recover/curve.py", "        row = self._rows.get(iteration)\n", "        row = None\n"),
    ("run/live.py", "        self._thread.start()\n", "        pass\n"),
    ("run/live.py", "        self._thread.join(self._every_s)\n        self._also()\n", ""),
)


@click.group()
def main() -> None:
    pass


@main.command()
@click.option("--rounds", default=7, show_default=True, help="Pairs.")
@click.option("--iterations", default=300, show_default=True)
@click.option("--batch", default=20, show_default=True, help="Images per batch.")
@click.option("--threads", default=1, show_default=True, help="CPU threads.")
def engine(rounds: int, iterations: int, batch: int, threads: int) -> None:
    """Measure the loop of recover with curve and heartbeats, and without."""
    torch.set_num_threads(threads)
    job = Job(("timm:test_resnet",), batch, 32, torch.device("cpu"), classes=10)
    setting, x = make_setting(job, make_networks(job), iterations), first_pixels(job)
    wall: dict[str, list[float]] = {"on": [], "off": []}
    cpu: dict[str, list[float]] = {"on": [], "off": []}
    for number in range(rounds + 1):
        for way in ("on", "off") if number % 2 else ("off", "on"):
            before = time.perf_counter(), time.process_time()
            _on(setting, x) if way == "on" else _off(setting, x)
            if number:  # the first round warms up
                wall[way].append(time.perf_counter() - before[0])
                cpu[way].append(time.process_time() - before[1])
    click.echo(f"{iterations} iterations of {batch} images, {threads} thread(s), {rounds} pairs")
    _tell("wall seconds", wall)
    _tell("CPU seconds", cpu)
    shares = sorted(_share_of_calls(setting, x) for _ in range(3))
    click.echo(f"CPU seconds inside the calls for curve and heartbeat: {100 * shares[1]:.3f} % of the loop's")


def _on(setting: RecoverSetting, x: torch.Tensor) -> None:
    """As in an actor: the loop reports each iteration, and another thread asks now and then."""
    control, end = Control(), threading.Event()

    def ask() -> None:
        while not end.wait(ASK_EVERY_S):
            control.now(setting.unit.id)

    thread = threading.Thread(target=ask)
    thread.start()
    with tempfile.TemporaryDirectory() as folder:
        recover_batch(setting, x.clone(), _checkpoints(setting, control, folder))
    end.set()
    thread.join()


def _share_of_calls(setting: RecoverSetting, x: torch.Tensor) -> float:
    """Return the share of the loop's CPU time that is spent in what "on" adds to it, without noise."""
    spent = 0.0

    def timed(function: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: object) -> None:
            nonlocal spent
            before = time.thread_time()
            function(*arguments)
            spent += time.thread_time() - before

        return call

    record, report = CurveRecorder.record, Control.report
    CurveRecorder.record = timed(record)  # type: ignore[method-assign]
    Control.report = timed(report)  # type: ignore[method-assign]
    before = time.thread_time()
    try:
        _on(setting, x)
    finally:
        CurveRecorder.record, Control.report = record, report  # type: ignore[method-assign]
    return spent / (time.thread_time() - before)


def _off(setting: RecoverSetting, x: torch.Tensor) -> None:
    class Silent(Control):
        def report(self, *arguments: object, **options: object) -> None:
            pass

    record = CurveRecorder.record
    CurveRecorder.record = lambda self, iteration, losses: None  # type: ignore[method-assign]
    try:
        with tempfile.TemporaryDirectory() as folder:
            recover_batch(setting, x.clone(), _checkpoints(setting, Silent(), folder))
    finally:
        CurveRecorder.record = record  # type: ignore[method-assign]


def _checkpoints(setting: RecoverSetting, control: Control, folder: str) -> StoreCheckpoints:
    return StoreCheckpoints(StoreFiles(folder), setting.unit.id, "", 3600.0, control)


@main.command()
@click.option("--rounds", default=5, show_default=True, help="Pairs.")
@click.option("--iterations", default=300, show_default=True, help="Of each of the four batches.")
def runs(rounds: int, iterations: int) -> None:
    """Measure the stage recover of whole runs, with everything on and with nothing."""
    wall: dict[str, list[float]] = {"on": [], "off": []}
    cpu: dict[str, list[float]] = {"on": [], "off": []}
    driver: dict[str, list[float]] = {"on": [], "off": []}
    with tempfile.TemporaryDirectory(prefix="overhead-") as folder:
        without = _package_without(Path(folder))
        squeezed = Path(folder, "squeezed")
        _call("squeeze", squeezed, iterations, without, "[]")
        for number in range(rounds):
            for way in ("on", "off") if number % 2 else ("off", "on"):
                store = Path(folder, f"{way}-{number}")
                shutil.copytree(squeezed, store)
                trackers = "[tensorboard, mlflow]" if way == "on" else "[]"
                package = Path(prism_ray.__file__).parents[1] if way == "on" else without
                of_actor, of_driver = _call("recover", store, iterations, package, trackers)
                commits = (store / "commits" / "recover" / "distilled").glob("*.json")
                wall[way].append(sum(json.loads(path.read_text())["seconds"] for path in commits))
                cpu[way].append(of_actor)
                driver[way].append(of_driver)
    click.echo(f"stage recover: 4 batches of 20 images, {iterations} iterations, 1 actor, {rounds} pairs")
    _tell("seconds of its units", wall)
    _tell("CPU seconds of the actor", cpu)
    _tell("CPU seconds of the driver", driver)


def _package_without(folder: Path) -> Path:
    """Return a folder with a copy of the package that keeps no curve and sends no heartbeat."""
    target = folder / "without"
    shutil.copytree(Path(prism_ray.__file__).parent, target / "prism_ray")
    for name, before, after in WITHOUT:
        path = target / "prism_ray" / name
        text = path.read_text()
        assert text.count(before) == 1, f"{name} has changed: {before!r}"
        path.write_text(text.replace(before, after))
    return target


def _call(stage: str, store: Path, iterations: int, package: Path, trackers: str) -> tuple[float, float]:
    """Do a stage of the small digits job; return the CPU seconds of its actor and of its driver."""
    settings = (
        "teachers.pool=[{name: resnet, arch: 'timm:test_resnet'}]",
        "teachers.squeeze.epochs=1",
        "recover.ipc=8",
        "recover.ipc_indices_per_batch=2",
        f"recover.iterations={iterations}",
        "recover.iterations_step=0",
        "orchestrate.actors=1",
        "orchestrate.threads_per_actor=1",
        f"trackers={trackers}",
    )
    options = [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, "-m", "prism_ray", stage, str(DIGITS), *options, "--store", str(store), "-q"]
    environment = os.environ | {"PYTHONPATH": str(package), "OMP_NUM_THREADS": "1"}
    process = psutil.Popen(command, env=environment, cwd=store.parent, stdout=subprocess.DEVNULL)
    actors: dict[int, float] = {}
    own = 0.0
    while process.poll() is None:
        try:
            own = sum(process.cpu_times()[:2])
            for child in process.children(recursive=True):
                if "WorkerActor" in "".join(child.cmdline()[:1]):
                    actors[child.pid] = sum(child.cpu_times()[:2])
        except psutil.Error:
            pass
        time.sleep(0.2)
    assert process.returncode == 0, f"{stage} ended with {process.returncode}"
    return sum(actors.values()), own


def _tell(what: str, values: dict[str, Sequence[float]] | dict[str, list[float]]) -> None:
    """Print the medians, and the ratio on / off of the pairs."""
    ratios = sorted(on / off for on, off in zip(values["on"], values["off"], strict=True))
    medians = ", ".join(f"{way} {statistics.median(each):.2f}" for way, each in values.items())
    middle = statistics.median(ratios)
    click.echo(
        f"{what}: {medians}; more with everything on: {100 * (middle - 1):+.1f} % "
        f"({100 * (ratios[0] - 1):+.1f} to {100 * (ratios[-1] - 1):+.1f})"
    )


if __name__ == "__main__":
    main()
