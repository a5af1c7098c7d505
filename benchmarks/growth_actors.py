"""The driver's work for a unit against the number of actors. The units make nothing; all else is real.

Actors are threads of this process, or real actors of a local Ray under the real dispatcher. Ray's actors are
also slowed down, all together to the same rate, so that answers come one by one as in a real run, and the
cores are not what limits them.
"""

import os
import random
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from time import perf_counter, process_time, thread_time
from typing import NamedTuple

from laws import Series
from listener import Listener
from scale import begin, idle_actor, run_threads

from prism_ray.config import Config
from prism_ray.orchestrate.cluster import connect
from prism_ray.orchestrate.dispatch import Dispatcher
from prism_ray.orchestrate.scheduler import Ready
from prism_ray.run import Ledger, Run
from prism_ray.stages import Unit
from prism_ray.store import Commit, StoreFiles


class Quiet(Listener):
    """The dispatcher's listener that looks at nothing."""

    def done(self, commit: Commit) -> None:
        pass


class Cost(NamedTuple):
    """Seconds by unit."""

    wall: float
    cpu: float  # of the driver's own thread
    process: float  # of all threads of the driver's process, those of Ray's client included


class _Stopwatch:
    def __init__(self) -> None:
        self._started = self._now()

    def stop(self, num_units: int) -> Cost:
        pairs = zip(self._now(), self._started, strict=True)
        return Cost(*((now - then) / num_units for now, then in pairs))

    def _now(self) -> tuple[float, float, float]:
        return perf_counter(), thread_time(), process_time()


def _begin(folder: str, num_units: int, num_actors: int) -> tuple[Config, StoreFiles, Run]:
    """Write a run of at least so many batches into a store."""
    return begin(folder, 100 * (1 + num_units // 100), num_actors)


def threads(num_actors: int, num_units: int) -> Cost:
    """Measure units that threads do."""
    with tempfile.TemporaryDirectory(prefix="growth-") as folder:
        _, files, run = _begin(folder, num_units, num_actors)
        source = Ready(islice(run.plan.units("recover"), num_units))
        watch = _Stopwatch()
        run_threads(files, run, source, num_actors, 0.0, Quiet())
        return watch.stop(num_units)


def ray_actors(
    counts: Sequence[int], rounds: int, num_units: int, rate: float
) -> Iterator[tuple[int, str, Cost]]:
    """Measure units that actors of a local Ray do; yield their number, the kind of units, and the cost.

    Units of the kind "Ray" take no time. Of the kind "Ray, slow" each sleeps for about as long as lets all
    actors together do `rate` units a second; not all for as long, or answers would come in bursts. The actors
    of one number are among those of the next.
    """
    most = max(counts)
    with tempfile.TemporaryDirectory(prefix="growth-") as folder, ExitStack() as stack:
        config, files, run = _begin(folder, len(counts) * (2 * rounds * num_units + 2 * most), most)
        slow: dict[str, float] = {}  # seconds by the id of a unit
        draw = random.Random(0)
        units = run.plan.units("recover")
        batches: list[tuple[int, str, list[Unit]]] = []
        for count in counts:
            batches.append((count, "", list(islice(units, 2 * count))))  # warms up
            for _ in range(rounds):
                batches.append((count, "Ray", list(islice(units, num_units))))
                batches.append((count, "Ray, slow", list(islice(units, num_units))))
                slow |= {unit.id: draw.uniform(0.5, 1.5) * count / rate for unit in batches[-1][2]}
        shape = stack.enter_context(connect(config, 1))
        actor_class = idle_actor(lambda unit: slow.get(unit.id, 0.0))
        dispatcher = stack.enter_context(
            Dispatcher(config, files, shape, Quiet(), Ledger(files), actor_class=actor_class)
        )
        for count, kind, batch in batches:
            dispatcher.actors._shape = replace(shape, min_actors=count, max_actors=count)
            while len(dispatcher.actors.ready) < count:
                dispatcher._adjust_actors()
                dispatcher._take_answers()
            watch = _Stopwatch()
            dispatcher.do(run, Ready(batch))
            if kind:
                yield count, kind, watch.stop(len(batch))


def measure(
    of_threads: Sequence[int], of_ray: Sequence[int], rounds: int, num_units: int, rate: float
) -> list[Series]:
    """Return the series of all kinds of actors, by their number."""
    found: dict[str, dict[float, list[Cost]]] = {}

    def note(count: int, kind: str, cost: Cost) -> None:
        found.setdefault(kind, {}).setdefault(count, []).append(cost)
        print(f"{count} actors, {kind}: {1e3 * cost.wall:.2f} ms, driver {1e3 * cost.cpu:.2f} ms", flush=True)

    for number in range(rounds + 1):
        for count in of_threads[:: 1 if number % 2 else -1]:
            cost = threads(count, num_units if number else num_units // 10)
            if number:  # the first round warms up
                note(count, "threads", cost)
    if of_ray:
        os.environ |= {"RAY_worker_niceness": "0"}
        for count, kind, cost in ray_actors(sorted(of_ray), rounds, num_units // 3, rate):
            note(count, kind, cost)
    return [
        Series.of(
            f"{kind}, {name}",
            "s",
            {x: [getattr(cost, name) for cost in by_count[x]] for x in sorted(by_count)},
        )
        for kind, by_count in found.items()
        for name in Cost._fields
    ]
