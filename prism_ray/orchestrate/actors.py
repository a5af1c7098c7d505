"""The Ray actors of a run: how they are created, watched, called and ended.

Ray never restarts an actor (max_restarts=0). New ones are created here instead, perhaps on another node.
Other modules decide what an actor works on, and what follows when it dies.
"""

import time
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from prism_ray.config import Config
from prism_ray.errors import OrchestrateError
from prism_ray.orchestrate.actor import ActorInfo, ActorUsage, UnitDone
from prism_ray.orchestrate.jobs import JobUnit
from prism_ray.orchestrate.losses import Death
from prism_ray.orchestrate.nodes import NodeWatch
from prism_ray.orchestrate.patience import Patience
from prism_ray.orchestrate.scaling import Load, Shape
from prism_ray.run import Run
from prism_ray.run.live import ActorNow, UnitNow
from prism_ray.stages import Unit
from prism_ray.store import Failure, StoreFiles

_TICK_S = 0.5
_ANSWER_TIMEOUT_S = 300.0
_STOP_TIMEOUT_S = 1.5  # for actors to save checkpoints; a Ray job has 3 s to end
_USAGE_EVERY_S = 2.0
_USAGES_PER_S = 16.0  # at most; each costs the driver a millisecond or two

# actor, its unit, what it says
Answer = tuple[str, Unit | None, ActorInfo | ActorUsage | UnitDone | Failure | Death]


@dataclass
class _Actor:
    """An actor as the driver knows it."""

    handle: Any
    info: ActorInfo | None = None  # None until it has started; only then it gets units
    units: dict["ray.ObjectRef[Any]", Unit] = field(default_factory=dict)
    idle_since: float = field(default_factory=time.monotonic)
    is_leaving: bool = False  # with its node
    is_shared: bool = False  # see scaling.py
    usage: ActorUsage | None = None  # the last one


class Actors:
    """The actors of a run, by name. They live from stage to stage and keep what they have loaded."""

    def __init__(self, config: Config, files: StoreFiles, shape: Shape, actor_class: Any) -> None:
        self._settings = config.orchestrate
        self._files = files
        self._shape = shape
        self._actor_class = actor_class
        self._nodes = NodeWatch()
        self.patience = Patience(self._settings, shape)
        self._actors: dict[str, _Actor] = {}
        self._calls: dict[ray.ObjectRef[Any], str] = {}  # all unanswered calls -> actor
        self._num_not_replaced = 0
        self._num_created = 0
        self._usage_requested_at = time.monotonic()

    @property
    def max_actors(self) -> int:
        return self._shape.max_actors

    @property
    def names(self) -> list[str]:
        """Names of all actors, the oldest first."""
        return list(self._actors)

    @property
    def ready(self) -> list[str]:
        """Names of the actors that can be given units."""
        return [name for name, actor in self._actors.items() if actor.info and not actor.is_leaving]

    def is_shared(self, name: str) -> bool:
        """Returns whether an actor shares a place with others."""
        return self._actors[name].is_shared

    def begin_stage(self, run: Run) -> None:
        """Sets the run that the next units belong to."""
        self._run = ray.put(run)
        self.patience.note_progress()

    def begin_jobs(self, runs: Mapping[int, Run]) -> None:
        """Sets the runs, by their number, that the next units belong to."""
        self._runs = {number: ray.put(run) for number, run in runs.items()}
        self.patience.note_progress()

    def give(self, name: str, unit: Unit) -> None:
        """Gives an actor a unit."""
        actor = self._actors[name]
        run = self._runs[unit.number] if isinstance(unit, JobUnit) else self._run
        reference = actor.handle.do.remote(run, unit)
        actor.units[reference] = unit
        self._calls[reference] = name

    def stop_unit(self, name: str, unit_id: str) -> None:
        """Tells an actor that a unit is not needed any more."""
        self._actors[name].handle.stop.remote(unit_id)

    def answers(self) -> Iterator[Answer]:
        """Yields the actors' answers, after a short wait for the first. The caller removes dead actors."""
        for reference in self._answered_calls():
            name = self._calls.pop(reference, None)
            if name is None:  # of an actor that was removed meanwhile
                continue
            actor = self._actors[name]
            unit = actor.units.pop(reference, None)
            result = self._result(name, reference, unit)
            if isinstance(result, ActorUsage):
                before, actor.usage = actor.usage, result
                if before is None or before.num_steps != result.num_steps:
                    self.patience.note_progress()
                if before is None or before.problems != result.problems:
                    yield name, None, result
                continue
            if not isinstance(result, Death):
                self.patience.note_progress()
                actor.idle_since = time.monotonic()
            if isinstance(result, ActorInfo):
                actor.info = result
            yield name, unit, result

    def _answered_calls(self) -> list["ray.ObjectRef[Any]"]:
        calls = list(self._calls)
        if not calls:
            time.sleep(_TICK_S)
            return []
        ready, rest = ray.wait(calls, num_returns=1, timeout=_TICK_S)
        if ready and rest:
            ready += ray.wait(rest, num_returns=len(rest), timeout=0)[0]
        return list(ready)

    def _result(self, name: str, reference: "ray.ObjectRef[Any]", unit: Unit | None) -> Any:
        try:
            return ray.get(reference)
        except RayError as error:
            if unit is not None and isinstance(error, RayTaskError):
                # The actor lives but could not report the error: its arguments or imports are at fault.
                return Failure(unit.id, type(error).__name__, str(error), str(error), host="unknown")
            return self._death(name, error)  # the actor or its node died; otherwise its answer is lost

    def _death(self, name: str, error: RayError) -> Death:
        info = self._actors[name].info
        taken = info is not None and self._nodes.was_taken(info.node_id)
        return Death(info.host if info else None, str(error), taken)

    def keep_number(self, num_waiting: int, num_waiting_to_share: int = 0) -> list[str]:
        """Creates and ends actors to match the amount of work; returns the names of those ended.

        `num_waiting` units could begin now at whole actors, `num_waiting_to_share` at shared ones. Actors
        above the wanted number are ended after they were idle for `idle_actor_s`, or at once if units wait
        for actors of the other kind. Those on leaving nodes are ended as soon as they have no unit.
        """
        kinds: dict[bool, list[_Actor]] = {False: [], True: []}  # is_shared -> actors
        for actor in self._actors.values():
            if not actor.is_leaving:
                kinds[actor.is_shared].append(actor)
        num_busy = {kind: sum(bool(actor.units) for actor in actors) for kind, actors in kinds.items()}
        max_actors = max(1, self._shape.max_actors - self._num_not_replaced)
        shape = replace(
            self._shape, min_actors=min(self._shape.min_actors, max_actors), max_actors=max_actors
        )
        whole, shared = Load(num_busy[False], num_waiting), Load(num_busy[True], num_waiting_to_share)
        wanted = dict(zip((False, True), shape.wanted(whole, shared), strict=True))
        num_too_many = {kind: len(actors) - wanted[kind] for kind, actors in kinds.items()}
        is_needed = {False: shared.num_waiting > 0, True: whole.num_waiting > 0}  # the place of the kind
        for kind, excess in num_too_many.items():
            for _ in range(-excess):
                self._create(is_shared=kind)
        idle_before = time.monotonic() - self._settings.idle_actor_s
        ended = []
        for name, actor in self._actors.items():
            kind = actor.is_shared
            is_idle = num_too_many[kind] > 0 and (is_needed[kind] or actor.idle_since < idle_before)
            if not actor.units and (actor.is_leaving or is_idle):
                ended.append(name)
                num_too_many[kind] -= not actor.is_leaving
        self.remove(*ended)
        return ended

    def _create(self, is_shared: bool) -> None:
        settings, num_threads, num_gpus = self._settings, self._shape.num_threads, self._shape.num_gpus
        options: dict[str, Any] = {**self._shape.request(is_shared)}
        if settings.accelerator_type is not None:
            options["accelerator_type"] = settings.accelerator_type
        if settings.label_selector:
            options["label_selector"] = settings.label_selector
        self._num_created += 1
        name = f"actor-{self._num_created}"
        run = self._files.location.rstrip("/").rpartition("/")[2]
        options["name"] = f"{run} {name} on {'GPU' if num_gpus else 'CPU'}"  # in Ray's dashboard
        handle = self._actor_class.options(**options).remote(self._files, num_threads, num_gpus > 0)
        self._actors[name] = _Actor(handle, is_shared=is_shared)
        self._calls[handle.start.remote()] = name

    def remove(self, *names: str, replaces: bool = True) -> None:
        """Ends actors. One that is not replaced lowers the number of actors for the rest of the run."""
        for name in names:
            ray.kill(self._actors.pop(name).handle)
            self._num_not_replaced += not replaces
            self.patience.note_loss()
        self._calls = {call: name for call, name in self._calls.items() if name in self._actors}

    def tell_leaving(self) -> dict[str, str]:
        """Tells actors on nodes that began to leave to save checkpoints; returns their names and hosts."""
        draining = self._nodes.draining()
        leaving = {}
        for name, actor in self._actors.items():
            if actor.info and actor.info.node_id in draining and not actor.is_leaving:
                actor.is_leaving = True
                actor.handle.stop.remote()
                leaving[name] = actor.info.host
        return leaving

    def end_stage(self) -> None:
        """Ends actors on leaving nodes, and those still busy with units that others have finished."""
        self.remove(*(name for name, actor in self._actors.items() if actor.units or actor.is_leaving))

    def end_all(self, saves_checkpoints: bool) -> None:
        """Ends all actors. With `saves_checkpoints` it first gives their units a short time to save."""
        busy = [actor for actor in self._actors.values() if actor.units and saves_checkpoints]
        for actor in busy:
            actor.handle.stop.remote()
        calls = [reference for actor in busy for reference in actor.units]
        if calls:
            ray.wait(calls, num_returns=len(calls), timeout=_STOP_TIMEOUT_S)
        self.remove(*self._actors)

    def check_networks(
        self, name: str, config: Config, class_names: Sequence[str], in_store: Set[str]
    ) -> Failure | Death | None:
        """Lets an actor build the networks of a config; returns what is wrong with them, or that it died."""
        call = self._actors[name].handle.check_networks.remote(config, class_names, in_store)
        try:
            problem: Failure | None = ray.get(call, timeout=_ANSWER_TIMEOUT_S)
        except RayActorError as error:
            return self._death(name, error)
        except RayError as error:
            raise OrchestrateError(f"an actor could not check the networks: {error}") from error
        return problem

    def expect_progress(self) -> None:
        """Raises OrchestrateError if no actor starts or makes progress; asks them regularly for it."""
        has_started = any(actor.info for actor in self._actors.values())
        busy = [(name, actor) for name, actor in self._actors.items() if actor.info and actor.units]
        busy_with = [unit for _, actor in busy for unit in actor.units.values()]
        self.patience.raise_if_too_long(len(self._actors), busy_with if has_started else None)
        now = time.monotonic()
        every_s = min(max(_USAGE_EVERY_S, len(busy) / _USAGES_PER_S), self._settings.stall_timeout_s / 4)
        if now - self._usage_requested_at >= every_s:
            self._usage_requested_at = now
            for name, actor in busy:
                self._calls[actor.handle.usage.remote()] = name

    def now(self) -> tuple[ActorNow, ...]:
        """Returns what each actor that has started is doing, as it said last."""
        return tuple(
            ActorNow(
                name=name,
                host=actor.info.host,
                pid=actor.info.pid,
                device=actor.info.device,
                units=tuple(_unit_now(unit, actor.usage) for unit in actor.units.values()),
                teachers=actor.usage.teachers if actor.usage else (),
                device_bytes=actor.usage.device_bytes if actor.usage else 0,
            )
            for name, actor in self._actors.items()
            if actor.info is not None
        )

    def usage(self) -> list[ActorUsage]:
        """Returns what each live actor has used so far."""
        calls = [actor.handle.usage.remote() for actor in self._actors.values() if actor.info]
        try:
            answers: list[ActorUsage] = ray.get(calls, timeout=_ANSWER_TIMEOUT_S)
        except RayError:
            return []
        return answers


def _unit_now(unit: Unit, usage: ActorUsage | None) -> UnitNow:
    """Return how far a unit is; in a sweep it is named with its point."""
    said = {each.unit: each for each in usage.units} if usage else {}
    now = said.get(unit.id, UnitNow(unit.id))
    if isinstance(unit, JobUnit):
        now = replace(now, unit=f"{unit.files.location.rpartition('/')[2]}: {unit.unit.id}")
    return now
