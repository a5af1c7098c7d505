"""The Ray actors of a run: how they are created, watched, called and ended.

Actors are never restarted by Ray (max_restarts=0). New ones are created here instead, which may come up on
another node. What an actor works on, and what follows when it dies, is decided elsewhere.
"""

import time
import uuid
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from prism_ray.config import Config
from prism_ray.errors import OrchestrateError
from prism_ray.orchestrate.actor import ActorInfo, ActorUsage, UnitDone
from prism_ray.orchestrate.losses import Death
from prism_ray.orchestrate.nodes import NodeWatch
from prism_ray.orchestrate.patience import Patience
from prism_ray.orchestrate.scaling import Shape
from prism_ray.run import Run
from prism_ray.stages import Unit
from prism_ray.store import Failure, StoreFiles

_TICK_S = 0.5
_ANSWER_TIMEOUT_S = 300.0
_STOP_TIMEOUT_S = 1.5  # for actors to keep the state of their units; a Ray job has 3 s to end
_USAGE_EVERY_S = 10.0

Answer = tuple[str, Unit | None, ActorInfo | UnitDone | Failure | Death]  # of an actor, about a unit


@dataclass
class _Actor:
    """An actor as the driver knows it."""

    handle: Any
    info: ActorInfo | None = None  # once it has started; only then it gets units
    units: dict["ray.ObjectRef[Any]", Unit] = field(default_factory=dict)
    idle_since: float = field(default_factory=time.monotonic)
    is_leaving: bool = False  # its node is
    num_steps: int | None = None  # of its units, when it was asked last


class Actors:
    """The actors of a run, by name. They live from stage to stage and keep what they have loaded."""

    def __init__(self, config: Config, files: StoreFiles, shape: Shape, actor_class: Any) -> None:
        self._config = config
        self._settings = config.orchestrate
        self._files = files
        self._shape = shape
        self._actor_class = actor_class
        self._nodes = NodeWatch()
        self._patience = Patience(self._settings, shape)
        self._actors: dict[str, _Actor] = {}
        self._calls: dict[ray.ObjectRef[Any], str] = {}  # all calls under way -> actor
        self._num_not_replaced = 0
        self._asked_usage_at = time.monotonic()

    @property
    def names(self) -> list[str]:
        """Names of all actors, the oldest first."""
        return list(self._actors)

    @property
    def ready(self) -> list[str]:
        """Names of the actors that can be given units."""
        return [name for name, actor in self._actors.items() if actor.info and not actor.is_leaving]

    def begin_stage(self, run: Run) -> None:
        """Takes the run that the units from now on belong to."""
        self._run = ray.put(run)
        self._patience.got_on()

    def give(self, name: str, unit: Unit) -> None:
        """Gives an actor a unit."""
        actor = self._actors[name]
        reference = actor.handle.do.remote(self._run, unit)
        actor.units[reference] = unit
        self._calls[reference] = name

    def stop_unit(self, name: str, unit_id: str) -> None:
        """Tells an actor that a unit need not be done any more."""
        self._actors[name].handle.stop.remote(unit_id)

    def answers(self) -> Iterator[Answer]:
        """Yields what actors answer, waiting a little for the first. One that died is to be removed."""
        for reference in self._ended_calls():
            name = self._calls.pop(reference, None)
            if name is None:  # of an actor that was removed meanwhile
                continue
            actor = self._actors[name]
            unit = actor.units.pop(reference, None)
            result = self._result(name, reference, unit)
            if isinstance(result, ActorUsage):
                if actor.num_steps != result.num_steps:
                    self._patience.got_on()
                actor.num_steps = result.num_steps
                continue
            if not isinstance(result, Death):
                self._patience.got_on()
                actor.idle_since = time.monotonic()
            if isinstance(result, ActorInfo):
                actor.info = result
            yield name, unit, result

    def _ended_calls(self) -> list["ray.ObjectRef[Any]"]:
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
                # The actor lives but could not even say what went wrong: its arguments, its imports.
                return Failure(unit.id, type(error).__name__, str(error), str(error), host="unknown")
            return self._death(name, error)  # or its node died, with the answer; the rest is guesswork

    def _death(self, name: str, error: RayError) -> Death:
        info = self._actors[name].info
        taken = info is not None and self._nodes.was_taken(info.node_id)
        return Death(info.host if info else None, type(error).__name__, str(error), taken)

    def keep_number(self, num_waiting: int) -> list[str]:
        """Creates actors while there is work for more; ends those idle for long that it is too little for.

        Also ends those without units whose nodes are leaving. `num_waiting` units could be begun now. Returns
        the names of the actors that were ended.
        """
        staying = [actor for actor in self._actors.values() if not actor.is_leaving]
        wanted = self._shape.wanted(sum(bool(actor.units) for actor in staying), num_waiting)
        wanted = min(wanted, max(1, self._shape.max_actors - self._num_not_replaced))
        for _ in range(wanted - len(staying)):
            self._create()
        num_too_many = len(staying) - wanted
        idle_before = time.monotonic() - self._settings.idle_actor_s
        ended = []
        for name, actor in self._actors.items():
            is_idle = num_too_many > 0 and actor.idle_since < idle_before
            if not actor.units and (actor.is_leaving or is_idle):
                ended.append(name)
                num_too_many -= not actor.is_leaving
        self.remove(*ended)
        return ended

    def _create(self) -> None:
        options: dict[str, Any] = {"num_cpus": self._shape.num_threads, "num_gpus": self._shape.num_gpus}
        if self._settings.accelerator_type is not None:
            options["accelerator_type"] = self._settings.accelerator_type
        if self._settings.label_selector:
            options["label_selector"] = self._settings.label_selector
        handle = self._actor_class.options(**options).remote(
            self._files, self._shape.num_threads, self._shape.num_gpus > 0
        )
        name = uuid.uuid4().hex[:8]
        self._actors[name] = _Actor(handle)
        self._calls[handle.start.remote()] = name

    def remove(self, *names: str, replaces: bool = True) -> None:
        """Ends actors. One that is not replaced lowers the number of actors for the rest of the run."""
        for name in names:
            ray.kill(self._actors.pop(name).handle)
            self._num_not_replaced += not replaces
            self._patience.actor_gone()
        self._calls = {call: name for call, name in self._calls.items() if name in self._actors}

    def tell_leaving(self) -> dict[str, str]:
        """Tells actors whose nodes began to leave to keep their units' state; returns names and hosts."""
        draining = self._nodes.draining()
        leaving = {}
        for name, actor in self._actors.items():
            if actor.info and actor.info.node_id in draining and not actor.is_leaving:
                actor.is_leaving = True
                actor.handle.stop.remote()
                leaving[name] = actor.info.host
        return leaving

    def end_stage(self) -> None:
        """Ends the actors on leaving nodes, and those still busy with what others were quicker with."""
        self.remove(*(name for name, actor in self._actors.items() if actor.units or actor.is_leaving))

    def end_all(self, keeps_states: bool) -> None:
        """Ends all actors. With `keeps_states` it waits, but not for long, until units have kept theirs."""
        busy = [actor for actor in self._actors.values() if actor.units and keeps_states]
        for actor in busy:
            actor.handle.stop.remote()
        calls = [reference for actor in busy for reference in actor.units]
        if calls:
            ray.wait(calls, num_returns=len(calls), timeout=_STOP_TIMEOUT_S)
        self.remove(*self._actors)

    def check_networks(self, name: str, num_classes: int, in_store: Set[str]) -> Failure | Death | None:
        """Lets an actor build the config's networks; returns what is wrong with them, or that it died."""
        call = self._actors[name].handle.check_networks.remote(self._config, num_classes, in_store)
        try:
            problem: Failure | None = ray.get(call, timeout=_ANSWER_TIMEOUT_S)
        except RayActorError as error:
            return self._death(name, error)
        except RayError as error:
            raise OrchestrateError(f"an actor could not try the networks out: {error}") from error
        return problem

    def expect_progress(self) -> None:
        """Asks actors how far they are, now and then; raises OrchestrateError if none starts or gets on."""
        started = [actor for actor in self._actors.values() if actor.info]
        busy_with = [unit for actor in started for unit in actor.units.values()]
        self._patience.look(len(self._actors), busy_with if started else None)
        now = time.monotonic()
        if now - self._asked_usage_at >= min(_USAGE_EVERY_S, self._settings.stall_timeout_s / 4):
            self._asked_usage_at = now
            for name, actor in self._actors.items():
                if actor.info and actor.units:
                    self._calls[actor.handle.usage.remote()] = name

    def asked_and_there(self) -> str:
        """Says what the actors ask of the cluster, and what it has."""
        return self._patience.asked_and_there(len(self._actors))

    def usage(self) -> list[ActorUsage]:
        """Returns what each live actor has used so far."""
        calls = [actor.handle.usage.remote() for actor in self._actors.values() if actor.info]
        try:
            answers: list[ActorUsage] = ray.get(calls, timeout=_ANSWER_TIMEOUT_S)
        except RayError:
            return []
        return answers
