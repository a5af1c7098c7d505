"""A run of a million batches without pixels: the real plan, flow, scheduler, commits and ledger.

The actors compute nothing: each sleeps for `--seconds` and commits. They are threads of this process, or with
`--ray` real actors on a local Ray. Prints the driver's resident memory as it goes, units per second, how busy
the actors were, and how long it takes to see from the store alone how far the run is.
"""

import argparse
import os
import queue
import resource
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import psutil
import ray
from listener import Listener

from prism_ray.config import Config, parse_config
from prism_ray.data import DataFacts
from prism_ray.orchestrate.actor import ActorInfo, ActorUsage, UnitDone
from prism_ray.orchestrate.cluster import connect
from prism_ray.orchestrate.dispatch import Dispatcher
from prism_ray.orchestrate.display import Listener as DispatchListener
from prism_ray.orchestrate.flow import Flow
from prism_ray.orchestrate.scheduler import Scheduler, Source
from prism_ray.run import Ledger, Run, new_run, read_progress, save_run
from prism_ray.stages import Unit
from prism_ray.store import Commit, StoreFiles, write_commit

_CLASSES = 1000
_PER_BATCH = 10


def _commit(files: StoreFiles, run: Run, unit: Unit, seconds: float) -> Commit:
    """Do a unit that makes nothing."""
    if seconds:
        time.sleep(seconds)
    commit = Commit(unit.id, run.fingerprint_of(unit.id), (), {}, seconds, "here", "now")
    write_commit(files, commit)
    return commit


def idle_actor(seconds_of: Callable[[Unit], float]) -> Any:
    """Return a class of Ray actors for the dispatcher whose units take some time and make nothing."""

    @ray.remote(max_restarts=0, max_task_retries=0, concurrency_groups={"units": 2, "control": 1})
    class IdleActor:
        """Like the real one it has one device, which a unit needs for a while."""

        def __init__(self, files: StoreFiles, num_threads: int, use_gpu: bool) -> None:
            self._files = files
            self._run: Run | None = None
            self._device = threading.Lock()

        @ray.method(concurrency_group="control")
        def start(self) -> ActorInfo:
            return ActorInfo(socket.gethostname(), os.getpid(), ray.get_runtime_context().get_node_id())

        @ray.method(concurrency_group="units")
        def do(self, run: Run, unit: Unit) -> UnitDone:
            if self._run != run:
                self._run = run
            with self._device:
                return UnitDone(_commit(self._files, self._run, unit, seconds_of(unit)), (), 0, 0)

        @ray.method(concurrency_group="control")
        def stop(self, unit_id: str | None = None) -> None:
            pass

        @ray.method(concurrency_group="control")
        def usage(self) -> ActorUsage:
            return ActorUsage(0, 0)

    return IdleActor


@dataclass
class Watch(Listener):
    """The dispatcher's listener: prints how it goes."""

    every: int
    num_done: int = 0
    times: list[float] = field(default_factory=list)  # when each `every` units were done

    def done(self, commit: Commit) -> None:
        self.num_done += 1
        if self.num_done % self.every == 0:
            self.times.append(time.monotonic())
            resident = psutil.Process().memory_info().rss / 10**6
            print(f"{self.num_done:>9,} units, driver {resident:.0f} MB", flush=True)

    @property
    def units_per_second(self) -> float:
        """Between the first time and the one before the last."""
        return self.every * (len(self.times) - 2) / (self.times[-2] - self.times[0])


def run_threads(
    files: StoreFiles, run: Run, source: Source, num_actors: int, seconds: float, watch: DispatchListener
) -> None:
    """Do the units with threads as actors; what the dispatcher does, without Ray."""
    scheduler = Scheduler(source, run.plan.teachers_of, straggler_factor=4.0, queued_stages=("recover",))
    ledger = Ledger(files)
    answers: queue.SimpleQueue[tuple[str, Unit, Commit]] = queue.SimpleQueue()
    actors = {f"a{number}": ThreadPoolExecutor(1) for number in range(num_actors)}

    def dispatch(name: str) -> None:
        while (unit := scheduler.assign(name, time.monotonic())) is not None:
            actors[name].submit(work, name, unit)

    def work(name: str, unit: Unit) -> None:
        answers.put((name, unit, _commit(files, run, unit, seconds)))

    for name in actors:
        scheduler.add_actor(name)
        dispatch(name)
    while not scheduler.finished:
        name, unit, commit = answers.get(timeout=60 + 10 * seconds)
        scheduler.done(name, unit.id, time.monotonic(), run.plan.teachers_of(unit))
        ledger.add(commit)
        watch.done(commit)
        dispatch(name)
    ledger.close()
    for executor in actors.values():
        executor.shutdown()


def run_ray(config: Config, files: StoreFiles, run: Run, flow: Flow, seconds: float, watch: Watch) -> None:
    """Do the units with the real dispatcher."""
    with (
        connect(config, 1) as shape,
        Dispatcher(
            config, files, shape, watch, Ledger(files), actor_class=idle_actor(lambda _: seconds)
        ) as dispatcher,
    ):
        dispatcher.do(run, flow)


def make_config(store: str, num_units: int, num_actors: int) -> Config:
    """Return a config of so many batches; nothing of it is ever loaded."""
    return parse_config(
        {
            "store": store,
            "data": {"source": "digits", "image_size": 32},
            "teachers": {"pool": [{"name": name, "arch": "timm:x"} for name in "abcde"]},
            "image_sets": {"distilled": {}},
            "recover": {
                "ipc": max(1, num_units * _PER_BATCH // _CLASSES),
                "primary": "a",
                "images_per_batch": _PER_BATCH,
            },
            "relabel": {"images_per_group": 1000},
            "evaluate": {"student": {"arch": "timm:x"}},
            "orchestrate": {"actors": num_actors, "threads_per_actor": 1},
        },
        "scale",
    )


def begin(store: str, num_units: int, num_actors: int) -> tuple[Config, StoreFiles, Run]:
    """Write a run of so many batches into a store."""
    config = make_config(store, num_units, num_actors)
    facts = DataFacts(tuple(map(str, range(_CLASSES))), (1000,) * _CLASSES, 1000, 3, "none")
    files = StoreFiles(store)
    return config, files, save_run(files, new_run(config, facts, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--units", type=int, default=1_000_000, help="a multiple of 100")
    parser.add_argument("--actors", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=0.0, help="that an actor sleeps for each unit")
    parser.add_argument("--ray", action="store_true", help="actors of Ray instead of threads")
    parser.add_argument("--store", help="a folder to keep; by default a temporary one")
    arguments = parser.parse_args()
    num_actors, seconds = arguments.actors, arguments.seconds
    os.environ |= {"RAY_worker_niceness": "0"}
    store = arguments.store or tempfile.mkdtemp(prefix="prism-scale-")
    config, files, run = begin(store, arguments.units, num_actors)
    watch = Watch(max(1, arguments.units // 20))
    flow = Flow(run.plan, ("recover",), read_progress(files, run).done)
    cpu = time.process_time()
    if arguments.ray:
        run_ray(config, files, run, flow, seconds, watch)
    else:
        run_threads(files, run, flow, num_actors, seconds, watch)
    cpu = time.process_time() - cpu
    if len(watch.times) > 2:
        speed = watch.units_per_second
        print(f"{speed:.0f} units/s; {1e3 * cpu / watch.num_done:.2f} ms of CPU each here")
        if seconds:
            print(f"{num_actors} actors, busy {speed * seconds / num_actors:.1%} of the time")
    print(f"largest resident size {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")
    started = time.monotonic()
    done = next(stage for stage in read_progress(files, run).stages if stage.stage == "recover")
    print(f"the store says {done.num_done:,} of {done.num_units:,}, in {time.monotonic() - started:.1f} s")
    print(f"largest resident size {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")
    if not arguments.store:
        shutil.rmtree(store)


if __name__ == "__main__":
    main()
