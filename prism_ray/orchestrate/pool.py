"""The driver's pool of actors: hands out what the scheduler says, replaces actors that die, records failures.

Actors are never restarted by Ray (max_restarts=0): the pool makes new ones, which may come up on another
node, and it can count. Keys and small statistics pass through here; pixels never do.
"""

import json
import time
import uuid
from collections.abc import Callable, Iterable, Set
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, Self

import ray
from ray.exceptions import RayError, RayTaskError

from prism_ray.config import Config
from prism_ray.errors import BY_NAME, OrchestrateError
from prism_ray.orchestrate.actor import ActorInfo, UnitFailure, WorkerActor
from prism_ray.orchestrate.cluster import Shape
from prism_ray.orchestrate.scheduler import Scheduler
from prism_ray.store import Commit, Run, StoreFiles, layout
from prism_ray.units import Unit

_TICK_S = 0.5
_CHECK_TIMEOUT_S = 300.0


class Listener(Protocol):
    """Who is told how a stage goes on."""

    def done(self, commit: Commit) -> None: ...

    def failed(self, failure: UnitFailure, again: bool) -> None: ...

    def tick(self) -> None: ...


@dataclass(frozen=True)
class _Flight:
    """A call under way; `unit` is None for the actor's first sign of life."""

    actor: str
    unit: Unit | None


class WorkerPool:
    """The actors of a run; they live from stage to stage, with what they have loaded. Used as a context."""

    def __init__(self, config: Config, files: StoreFiles, shape: Shape) -> None:
        self._config = config
        self._files = files
        self._shape = shape
        self._actors: dict[str, Any] = {}
        self._flights: dict[ray.ObjectRef[Any], _Flight] = {}
        self._alive: set[str] = set()  # actors that have given a sign of life; only they get units
        self._none_alive_since = time.monotonic()
        self._deaths_in_a_row = 0
        for _ in range(shape.num_actors):
            self._add_actor()

    def check(self, num_classes: int, in_store: Set[str], say: Callable[[str], None]) -> None:
        """Let the first actor that lives build the config's networks; raise what is wrong with them.

        Files of weights of the teachers `in_store` are not asked for.

        While none lives, `say` is told now and then what the run waits for.
        """
        self._wait_for_first_actor(say)
        actor = self._actors[next(iter(self._alive))]
        try:
            answer = actor.check.remote(self._config, num_classes, in_store)
            problem = ray.get(answer, timeout=_CHECK_TIMEOUT_S)
        except RayError as error:
            raise OrchestrateError(f"an actor died while it tried the networks out: {error}") from error
        if problem is not None:
            kind = BY_NAME.get(problem.error)
            raise kind(problem.message) if kind else OrchestrateError(problem.traceback)

    def do(self, run: Run, units: Iterable[Unit], queue_depth: int, listener: Listener) -> list[str]:
        """Do all units; return the ids of those that failed for good.

        Raises the error of a unit that failed because of the user's input, OrchestrateError if actors
        cannot start or keep dying.
        """
        scheduler = Scheduler(units, self._config.orchestrate.max_attempts, queue_depth)
        for name in self._alive:
            scheduler.add_actor(name)
        while not scheduler.finished:
            self._dispatch(run, scheduler)
            ready, _ = ray.wait(list(self._flights), num_returns=1, timeout=_TICK_S)
            for reference in ready:
                self._receive(reference, scheduler, listener)
            self._check_start()
            listener.tick()
        return scheduler.set_aside

    def peak_bytes(self) -> int:
        """Return the sum over the live actors of the largest resident size each has had."""
        sizes = [self._actors[name].peak_bytes.remote() for name in self._alive]
        try:
            return sum(ray.get(sizes, timeout=_CHECK_TIMEOUT_S))
        except RayError:
            return 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """End the actors at once."""
        for actor in self._actors.values():
            ray.kill(actor)
        self._actors.clear()

    def _add_actor(self) -> None:
        name = uuid.uuid4().hex[:8]
        actor = WorkerActor.options(  # type: ignore[attr-defined]
            num_cpus=self._shape.num_threads, num_gpus=self._shape.num_gpus
        ).remote(self._files, self._shape.num_threads, self._shape.num_gpus > 0)
        self._actors[name] = actor
        self._flights[actor.start.remote()] = _Flight(name, None)

    def _dispatch(self, run: Run, scheduler: Scheduler) -> None:
        """Fill the actors round by round, so that each has one unit before any has two."""
        assigned = True
        while assigned:
            assigned = False
            for name in self._alive:
                unit = scheduler.assign(name)
                if unit is not None:
                    self._flights[self._actors[name].do.remote(run, unit)] = _Flight(name, unit)
                    assigned = True

    def _receive(self, reference: "ray.ObjectRef[Any]", scheduler: Scheduler, listener: Listener) -> None:
        flight = self._flights.pop(reference, None)
        if flight is None:  # of an actor that died meanwhile
            return
        try:
            result = ray.get(reference)
        except RayError as error:
            if isinstance(error, RayTaskError) and flight.unit is not None:
                result = _unreported(flight.unit, error)
            else:  # the actor died, or its node with the answer; the rest is guesswork
                self._replace(flight.actor, str(error), scheduler, listener)
                return
        if isinstance(result, ActorInfo):
            self._alive.add(flight.actor)
            scheduler.add_actor(flight.actor)
            return
        self._deaths_in_a_row = 0
        assert flight.unit is not None
        if isinstance(result, Commit):
            scheduler.done(flight.actor, flight.unit.id)
            listener.done(result)
            return
        if result.is_usage_error:
            raise BY_NAME[result.error](result.message)
        again = scheduler.failed(flight.actor, flight.unit.id)
        self._record(result, scheduler.num_failed_attempts(flight.unit.id))
        listener.failed(result, again)

    def _replace(self, name: str, reason: str, scheduler: Scheduler, listener: Listener) -> None:
        """An actor is gone, or not to be trusted: give its units back and put a new one in its place."""
        ray.kill(self._actors.pop(name))
        self._flights = {ref: flight for ref, flight in self._flights.items() if flight.actor != name}
        running = None
        if name in self._alive:
            running = scheduler.lost(name)
            self._alive.remove(name)
            self._none_alive_since = time.monotonic()
        if running is not None:
            failure = UnitFailure(running.id, "ActorDied", reason, reason, host="unknown")
            self._record(failure, scheduler.num_failed_attempts(running.id))
            listener.failed(failure, again=running.id not in scheduler.set_aside)
        self._deaths_in_a_row += 1
        if self._deaths_in_a_row > self._shape.num_actors + self._config.orchestrate.max_attempts:
            raise OrchestrateError(
                f"{self._deaths_in_a_row} actors died one after another without finishing anything; the "
                f"last said: {reason}"
            )
        self._add_actor()

    def _record(self, failure: UnitFailure, number: int) -> None:
        """Keep the traceback of a failed attempt in the store; numbers go on over a resume."""
        record = {
            **asdict(failure),
            "attempt": number,
            "failed_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        text = json.dumps(record, indent=1).encode()
        while not self._files.create(layout.failure(failure.unit_id, number), text):
            number += 1

    def _wait_for_first_actor(self, say: Callable[[str], None]) -> None:
        next_word = time.monotonic() + self._config.orchestrate.log_interval_s
        while not self._alive:
            ready, _ = ray.wait(list(self._flights), num_returns=1, timeout=_TICK_S)
            for reference in ready:
                try:
                    ray.get(reference)
                except RayError as error:
                    raise OrchestrateError(f"an actor could not start: {error}") from error
                self._alive.add(self._flights.pop(reference).actor)
            self._check_start()
            if time.monotonic() >= next_word:
                next_word += self._config.orchestrate.log_interval_s
                say(f"waiting for an actor to start; {self._asked_and_there()}")

    def _check_start(self) -> None:
        limit = self._config.orchestrate.actor_start_timeout_s
        if self._alive or time.monotonic() - self._none_alive_since < limit:
            return
        raise OrchestrateError(
            f"no actor could start within {limit:.0f} s (orchestrate.actor_start_timeout_s): "
            f"{self._asked_and_there()}; lower orchestrate.threads_per_actor or "
            "orchestrate.gpus_per_actor, or enlarge the cluster"
        )

    def _asked_and_there(self) -> str:
        """Say what an actor asks for, and what the cluster has."""
        there = ray.cluster_resources()  # type: ignore[no-untyped-call]
        free = ray.available_resources()  # type: ignore[no-untyped-call]
        counts = [f"{kind} {free.get(kind, 0):g} of {there.get(kind, 0):g}" for kind in ("CPU", "GPU")]
        return (
            f"each of {self._shape.num_actors} asks for {self._shape.num_threads} CPUs and "
            f"{self._shape.num_gpus:g} GPUs, and the cluster has free: {', '.join(counts)}"
        )


def _unreported(unit: Unit, error: RayTaskError) -> UnitFailure:
    """The actor lives but could not even say what went wrong: its arguments, its imports."""
    return UnitFailure(unit.id, type(error).__name__, str(error), str(error), host="unknown")
