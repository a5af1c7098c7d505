"""Actors on one machine: what a second one adds, how they start, what they keep. python benchmarks/actors.py

scaling: images per second of two actors against one, a thread each, with real units of recover on Ray.
cold: a new process until it has loaded four teachers from a store, and the same again for a second batch.
start: `distill` with a local Ray until an actor lives, until its stages begin, and whole.
"""

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import click
import psutil
from asking import asked
from listener import Listener

from prism_ray.config import Config, load_config
from prism_ray.data import open_data
from prism_ray.run import Ledger, Run, new_run, read_progress, save_run
from prism_ray.store import Commit, StoreFiles

DIGITS = Path(__file__).resolve().parents[1] / "jobs" / "digits.yaml"
ARCHS = (
    "torchvision:resnet18",
    "torchvision:mobilenet_v2",
    "torchvision:shufflenet_v2_x1_0",
    "torchvision:efficientnet_b0",
)
_SIZE = 64


def make_config(store: Path, actors: int, batches: int, iterations: int, archs: Sequence[str]) -> Config:
    """Return the config of a run with that many batches of ten digits; the teachers have random weights."""
    import safetensors.torch
    from setups import make_network

    store.mkdir(exist_ok=True)
    pool = []
    for number, arch in enumerate(archs):
        path = store / f"{number}.safetensors"
        if not path.exists():
            safetensors.torch.save_file(make_network(arch, 10, _SIZE, number).state_dict(), path)
        pool.append({"name": f"t{number}", "arch": f"{arch}@{path}"})
    values = (
        f"teachers.pool={json.dumps(pool)}",
        "teachers.check_accuracy=false",
        f"data.image_size={_SIZE}",
        f"recover.ipc={batches}",
        "recover.primary=t0",
        f"recover.iterations={iterations}",
        "recover.iterations_step=0",
        "recover.selection={inclusion_probability: 1.0, redraw: round}",
        "image_sets={prism: {}}",
        f"orchestrate.actors={actors}",
        "orchestrate.threads_per_actor=1",
    )
    return load_config(DIGITS, list(values), store=str(store / f"{actors}-actors"))


def begin(config: Config) -> tuple[StoreFiles, Run]:
    """Write the run into its store, with its teachers, in this process."""
    import torch

    from prism_ray.teachers.weight_files import weights_sha256
    from prism_ray.work.worker import Worker

    torch.set_num_threads(1)
    files = StoreFiles(config.store_url)
    weights = {teacher.name: weights_sha256(teacher, "teachers.pool") for teacher in config.teachers.pool}
    run = save_run(files, new_run(config, open_data(config.data).facts(), 1, weights))
    worker = Worker(run, files, torch.device("cpu"))
    for unit in run.plan.units("squeeze"):
        worker.do(unit)
    return files, run


@dataclass
class Watch(Listener):
    """The dispatcher's listener: takes the times."""

    done_at: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)  # of each unit
    cpu: list[float] = field(default_factory=list)  # of all actors until then

    def done(self, commit: Commit) -> None:
        self.done_at.append(time.monotonic())
        self.seconds.append(commit.seconds)
        self.cpu.append(sum(_cpu_of_actors()))


def _cpu_of_actors() -> list[float]:
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "WorkerActor" in " ".join(process.cmdline()) or "WorkerActor" in process.name():
                found.append(process.cpu_times().user + process.cpu_times().system)
        except psutil.Error:
            continue
    return found


def do_batches(store: Path, actors: int, batches: int, iterations: int) -> Watch:
    """Recover the batches with so many actors on a local Ray."""
    from prism_ray.orchestrate.environment import prepare_for_local_ray

    config = make_config(store, actors, batches, iterations, ARCHS[:2])
    files, run = begin(config)
    prepare_for_local_ray()
    from prism_ray.orchestrate.cluster import connect
    from prism_ray.orchestrate.dispatch import Dispatcher
    from prism_ray.orchestrate.flow import Flow

    watch = Watch()
    with (
        connect(config, 1) as shape,
        Dispatcher(config, files, shape, watch, Ledger(files)) as dispatcher,
    ):
        dispatcher.first_actor()
        dispatcher.do(run, Flow(run.plan, ("recover",), read_progress(files, run).done))
    return watch


@click.group(help=(__doc__ or "").partition("\n")[0])
def main() -> None:
    print(f"{psutil.cpu_count()} cores, load {psutil.getloadavg()[0]:.1f}", flush=True)


@main.command(help="Two actors against one.")
@click.option("--batches", default=12, show_default=True, help="Units of a round, for each actor.")
@click.option("--iterations", default=20, show_default=True)
@click.option("--rounds", default=7, show_default=True)
def scaling(batches: int, iterations: int, rounds: int) -> None:
    rates: dict[int, list[float]] = {1: [], 2: []}
    cpu: dict[int, list[float]] = {1: [], 2: []}
    busy: list[float] = []
    for number in range(rounds):
        for actors in (1, 2) if number % 2 else (2, 1):
            found = asked(__file__, "batches", str(actors), str(batches * actors), str(iterations))
            done_at, seconds, used = found["done_at"], found["seconds"], found["cpu"]
            first = 2 * actors  # units until all actors are warm
            wall, count = done_at[-1] - done_at[first - 1], len(done_at) - first
            rates[actors].append(10.0 * count / wall)
            cpu[actors].append((used[-1] - used[first - 1]) / count)
            if actors == 2:
                busy.append(sum(seconds[first:]) / (2 * wall))
    ratios = sorted(two / one for one, two in zip(rates[1], rates[2], strict=True))
    work = median(one / two for one, two in zip(cpu[1], cpu[2], strict=True))
    print(f"images a second: one actor {median(rates[1]):.2f}, two {median(rates[2]):.2f}; ratio", end=" ")
    print(f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}, {rounds} rounds)")
    print(f"processor's seconds of a unit, one actor over two: {work:.2f}; two are busy {median(busy):.0%}")


@main.command(help="A new process until it has four teachers.")
@click.option("--rounds", default=7, show_default=True)
def cold(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        begin(make_config(Path(folder), 1, 2, 2, ARCHS))
        found = [asked(__file__, "load", folder) for _ in range(rounds)]
    _print("process and imports", [each["imported"] for each in found])
    _print("four teachers", [each["loaded"] for each in found])
    _print("the same teachers for a second batch", [each["again"] for each in found])
    print(f"teachers loaded for the second batch: {max(each['num_loads'] for each in found)}")


@main.command(help="distill until its stages begin.")
@click.option("--actors", default=2, show_default=True)
@click.option("--rounds", default=7, show_default=True)
def start(actors: int, rounds: int) -> None:
    found = [asked(__file__, "begin", str(actors)) for _ in range(rounds)]
    for name in found[0]:
        _print(name, [each[name] for each in found])


def _print(name: str, values: Sequence[float]) -> None:
    print(f"{name}: {median(values):.2f} s ({min(values):.2f} to {max(values):.2f}, {len(values)} rounds)")


@main.command(hidden=True)
@click.argument("actors", type=int)
@click.argument("count", type=int)
@click.argument("iterations", type=int)
def batches(actors: int, count: int, iterations: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        watch = do_batches(Path(folder), actors, count, iterations)
    print(json.dumps(vars(watch)))


@main.command(hidden=True)
@click.argument("folder", type=click.Path(path_type=Path))
def load(folder: Path) -> None:
    import torch

    from prism_ray.run import load_run
    from prism_ray.work.worker import Worker

    torch.set_num_threads(1)
    files = StoreFiles(str(folder / "1-actors"))
    run = load_run(files)
    worker = Worker(run, files, torch.device("cpu"))
    times = [time.time() - psutil.Process().create_time()]
    for _ in range(2):
        started = time.perf_counter()
        for teacher in run.config.teachers.pool:
            worker._context.teacher(teacher.name)
        times.append(time.perf_counter() - started)
        loads = worker.teachers.take_counts()[1]
    imported, loaded, again = times
    print(json.dumps({"imported": imported, "loaded": loaded, "again": again, "num_loads": loads}))


@main.command("begin", hidden=True)
@click.argument("actors", type=int)
def begin_stages(actors: int) -> None:
    from prism_ray.pipeline import distill

    with tempfile.TemporaryDirectory() as folder:
        pool = "teachers.pool=[{name: resnet, arch: 'timm:test_resnet'}]"
        values = [pool, "teachers.squeeze.epochs=1", f"orchestrate.actors={actors}"]
        config = load_config(DIGITS, values, store=folder)
        called = time.time()
        outcome = distill(config, str(DIGITS), ["squeeze"])
        begun = (Path(folder) / "plan.json").stat().st_mtime - called  # written just before the stages begin
    whole = time.time() - psutil.Process().create_time()
    print(json.dumps({"first actor": outcome.start_seconds, "stages begin": begun, "whole": whole}))


if __name__ == "__main__":
    main()
