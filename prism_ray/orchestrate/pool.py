"""The driver's pool of actors: hands out what the scheduler says, replaces actors that die, keeps failures.

Actors are never restarted by Ray (max_restarts=0): the pool makes new ones, which may come up on another
node, and it can count. Keys and small statistics pass through here; pixels never do.
"""

import time
import uuid
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from typing import Any, Self

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from prism_ray.config import Config
from prism_ray.errors import BY_NAME, IncompleteError, OrchestrateError, UsageError
from prism_ray.orchestrate.actor import ActorInfo, ActorUsage, UnitDone, WorkerActor
from prism_ray.orchestrate.losses import Death, Decision, Fate, Losses
from prism_ray.orchestrate.nodes import NodeWatch
from prism_ray.orchestrate.patience import Patience
from prism_ray.orchestrate.progress import Listener
from prism_ray.orchestrate.scaling import Shape
from prism_ray.orchestrate.scheduler import Policy, Scheduler, Source
from prism_ray.store import Failure, Ledger, Run, StoreFiles, record_failure, set_aside
from prism_ray.units import Stage, Unit

_TICK_S = 0.5
_CHECK_TIMEOUT_S = 300.0
_STOP_TIMEOUT_S = 1.5  # for actors to keep the state of their units; a Ray job has 3 s to end
_USAGE_EVERY_S = 10.0
_QUEUED: tuple[Stage, ...] = ("recover", "relabel")  # many and alike: one waits at each actor
_LABELS: tuple[Stage, ...] = ("relabel", "evaluate")


@dataclass
class _Member:
    """An actor of the pool."""

    handle: Any
    info: ActorInfo | None = None  # once it has given a sign of life; only then it gets units
    units: dict["ray.ObjectRef[Any]", Unit] = field(default_factory=dict)
    idle_since: float = field(default_factory=time.monotonic)
    is_leaving: bool = False  # its node is
    usage: ActorUsage | None = None


class WorkerPool:
    """The actors of a run; they live from stage to stage, with what they have loaded. Used as a context."""

    def __init__(
        self,
        config: Config,
        files: StoreFiles,
        shape: Shape,
        check: Callable[[], None] = lambda: None,
        actor_class: Any = WorkerActor,
    ) -> None:
        """`check` is called now and then, and may raise to end the work."""
        self._actor_class = actor_class
        self._config = config
        self._settings = config.orchestrate
        self._files = files
        self.ledger = Ledger(files)
        self._shape = shape
        self._check = check
        self._nodes = NodeWatch()
        self._members: dict[str, _Member] = {}
        self._calls: dict[ray.ObjectRef[Any], str] = {}  # all calls under way -> actor
        self._patience = Patience(self._settings, shape)
        self._asked_usage_at = time.monotonic()
        self.losses = Losses(config.orchestrate, shape.max_actors)
        self.num_hits = self.num_loads = 0  # of teachers, in the caches of all actors
        for _ in range(shape.min_actors):
            self._add_actor()

    def check(self, num_classes: int, in_store: Set[str], say: Callable[[str], None]) -> None:
        """Let the first actor that lives build the config's networks; raise what is wrong with them.

        Files of weights of the teachers `in_store` are not asked for.

        While none lives, `say` is told now and then what the run waits for.
        """
        while True:
            name = self._first_actor(say)
            try:
                answer = self._members[name].handle.check_networks.remote(self._config, num_classes, in_store)
                problem = ray.get(answer, timeout=_CHECK_TIMEOUT_S)
                break
            except RayActorError as error:
                self._replace(name, str(error))
            except RayError as error:
                raise OrchestrateError(f"an actor could not try the networks out: {error}") from error
        if problem is not None:
            kind = BY_NAME.get(problem.error)
            raise kind(problem.message) if kind else OrchestrateError(problem.traceback)

    def do(self, run: Run, source: Source, listener: Listener) -> list[str]:
        """Do all units that come from `source`; return the ids of those that failed for good.

        Raises the error of a unit that failed because of the user's input, OrchestrateError if actors cannot
        start, keep dying or get nothing done, IncompleteError if more units failed than the budget allows.
        """
        policy = Policy(self._settings.straggler_factor, _QUEUED)
        scheduler = Scheduler(source, policy, run.plan.networks_of)
        held_run = ray.put(run)
        self.losses.begin_stage()
        for name, member in self._members.items():
            if member.info and not member.is_leaving:
                self._introduce(name, scheduler)
        self._patience.got_on()
        while not scheduler.finished:
            self._fit(scheduler)
            self._dispatch(held_run, scheduler, listener)
            for reference in self._wait():
                self._receive(reference, scheduler, listener)
            self._look_at_nodes(scheduler, listener)
            self._look_at_progress()
            self._check()
            listener.tick()
        self._free_all()
        return scheduler.set_aside

    def usage(self) -> list[ActorUsage]:
        """Return what each live actor has used so far."""
        handles = [member.handle for member in self._members.values() if member.info]
        try:
            answers: list[ActorUsage] = ray.get(
                [handle.usage.remote() for handle in handles], timeout=_CHECK_TIMEOUT_S
            )
        except RayError:
            return []
        return answers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        """End the actors; if work is cut short, after they have kept the state of their units."""
        if kind is not None and issubclass(kind, KeyboardInterrupt | IncompleteError | UsageError):
            self._keep_states()
        for member in self._members.values():
            ray.kill(member.handle)
        self._members.clear()
        self.ledger.close()

    # Actors come and go

    def _add_actor(self) -> None:
        name = uuid.uuid4().hex[:8]
        options: dict[str, Any] = {"num_cpus": self._shape.num_threads, "num_gpus": self._shape.num_gpus}
        if self._settings.accelerator_type is not None:
            options["accelerator_type"] = self._settings.accelerator_type
        if self._settings.label_selector:
            options["label_selector"] = self._settings.label_selector
        handle = self._actor_class.options(**options).remote(
            self._files, self._shape.num_threads, self._shape.num_gpus > 0
        )
        self._members[name] = _Member(handle)
        self._calls[handle.start.remote()] = name

    def _introduce(self, name: str, scheduler: Scheduler) -> None:
        """Let the scheduler know an actor, and what it is for."""
        preferred: tuple[Stage, ...] = ()
        if self._settings.label_actors:
            num_before = list(self._members).index(name)
            preferred = _LABELS if num_before < self._settings.label_actors else ("recover",)
        scheduler.add_actor(name, preferred)

    def _remove(self, name: str) -> None:
        ray.kill(self._members.pop(name).handle)
        self._calls = {reference: actor for reference, actor in self._calls.items() if actor != name}
        self._patience.actor_gone()

    def _fit(self, scheduler: Scheduler) -> None:
        """Have as many actors as there is work for; end those that have been idle for long."""
        staying = [member for member in self._members.values() if not member.is_leaving]
        num_busy = sum(bool(member.units) for member in staying)
        wanted = self._shape.wanted(num_busy, scheduler.num_waiting)
        for _ in range(wanted - len(staying)):
            self._add_actor()
        now = time.monotonic()
        too_many = len(staying) - wanted
        for name, member in list(self._members.items()):
            is_idle = not member.units and now - member.idle_since > self._settings.idle_actor_s
            if too_many > 0 and is_idle and not member.is_leaving:
                if member.info:
                    scheduler.lost(name)
                self._remove(name)
                too_many -= 1

    def _look_at_nodes(self, scheduler: Scheduler, listener: Listener) -> None:
        """Let actors on nodes that are leaving keep the state of their units, and give them no more."""
        draining = self._nodes.draining()
        for name, member in list(self._members.items()):
            if member.info and member.info.node_id in draining and not member.is_leaving:
                member.is_leaving = True
                scheduler.leaving(name)
                member.handle.stop.remote()
                listener.message(f"{member.info.host} is leaving; its actor {name} gets no more work")
            if member.is_leaving and not member.units:
                scheduler.lost(name)
                self._remove(name)

    def _free_all(self) -> None:
        """End the actors that still run what others were quicker with."""
        for name, member in list(self._members.items()):
            if member.units:
                self._remove(name)
                if len(self._members) < self._shape.min_actors:
                    self._add_actor()

    def _keep_states(self) -> None:
        """Tell all units to keep their state and end; wait for that, but not for long."""
        calls = [reference for member in self._members.values() for reference in member.units]
        for member in self._members.values():
            if member.units:
                member.handle.stop.remote()
        if calls:
            ray.wait(calls, num_returns=len(calls), timeout=_STOP_TIMEOUT_S)

    # Work goes out and comes back

    def _dispatch(self, run: "ray.ObjectRef[Run]", scheduler: Scheduler, listener: Listener) -> None:
        """Fill the actors round by round, so that each has one unit before any has two."""
        assigned = True
        while assigned:
            assigned = False
            for name, member in self._members.items():
                if member.info is None or member.is_leaving:
                    continue
                unit = scheduler.assign(name, time.monotonic())
                if unit is not None:
                    reference = member.handle.do.remote(run, unit)
                    member.units[reference] = unit
                    self._calls[reference] = name
                    listener.began(unit)
                    assigned = True

    def _wait(self) -> list["ray.ObjectRef[Any]"]:
        """Return the calls that have ended, waiting a little for the first."""
        calls = list(self._calls)
        if not calls:
            time.sleep(_TICK_S)
            return []
        ready, rest = ray.wait(calls, num_returns=1, timeout=_TICK_S)
        if ready and rest:
            ready += ray.wait(rest, num_returns=len(rest), timeout=0)[0]
        return list(ready)

    def _receive(self, reference: "ray.ObjectRef[Any]", scheduler: Scheduler, listener: Listener) -> None:
        name = self._calls.pop(reference, None)
        if name is None:  # of an actor that has gone meanwhile
            return
        member = self._members[name]
        unit = member.units.pop(reference, None)
        try:
            result = ray.get(reference)
        except RayError as error:
            if isinstance(error, RayTaskError) and unit is not None:
                result = _unreported(unit, error)
            else:  # the actor died, or its node with the answer; the rest is guesswork
                self._lose(name, str(error), scheduler, listener)
                return
        if isinstance(result, ActorInfo):
            member.info = result
            member.idle_since = time.monotonic()
            self._patience.got_on()
            self._introduce(name, scheduler)
        elif isinstance(result, ActorUsage):
            if member.usage is None or member.usage.num_steps != result.num_steps:
                self._patience.got_on()
            member.usage = result
        elif unit is not None:
            member.idle_since = time.monotonic()
            self._patience.got_on()
            self._conclude(name, unit, result, scheduler, listener)

    def _conclude(
        self, name: str, unit: Unit, result: UnitDone | Failure, scheduler: Scheduler, listener: Listener
    ) -> None:
        """Take in how a unit has ended."""
        self.losses.unit_answered()
        now = time.monotonic()
        if isinstance(result, UnitDone):
            self.num_hits += result.num_hits
            self.num_loads += result.num_loads
            others = scheduler.done(name, unit.id, now, result.teachers)
            if others is not None:
                self.ledger.add(result.commit)
                listener.done(result.commit)
            for other in others or ():
                self._members[other].handle.stop.remote(unit.id)
            return
        decision = self.losses.after_failure(result, scheduler.attempt(name, unit.id))
        scheduler.ended(name, unit.id, now, decision.fate)
        self._carry_out(decision, result, listener)

    def _carry_out(self, decision: Decision, failure: Failure | None, listener: Listener) -> None:
        if failure is not None and decision.fate is not Fate.FREE:
            record_failure(self._files, failure)
            if decision.fate is Fate.SET_ASIDE:
                set_aside(self._files, failure)
            listener.failed(failure, again=decision.fate is Fate.COUNTED)
        if decision.message is not None:
            listener.message(decision.message)
        if decision.error is not None:
            raise decision.error

    def _lose(self, name: str, reason: str, scheduler: Scheduler, listener: Listener) -> None:
        """An actor is gone, or not to be trusted: give its units back and put a new one in its place."""
        death = self._death(name, reason)
        attempt = scheduler.attempt(name) if self._members[name].info else None
        decision = self.losses.after_death(death, attempt)
        if self._members[name].info:
            scheduler.lost(name, decision.fate)
        self._remove(name)
        failure = (
            Failure(attempt.unit_id, "ActorDied", reason, reason, death.host or "unknown")
            if attempt
            else None
        )
        self._carry_out(decision, failure, listener)

    def _replace(self, name: str, reason: str) -> None:
        """An actor is gone before it got a unit."""
        decision = self.losses.after_death(self._death(name, reason), None)
        self._remove(name)
        if decision.error is not None:
            raise decision.error
        self._add_actor()

    def _death(self, name: str, reason: str) -> Death:
        info = self._members[name].info
        taken = info is not None and self._nodes.was_taken(info.node_id)
        return Death(name, info.host if info else None, "", reason, taken)

    # Waiting has an end

    def _first_actor(self, say: Callable[[str], None]) -> str:
        """Return the name of an actor that lives, waiting for the first."""
        next_word = time.monotonic() + self._settings.log_interval_s
        while True:
            for reference in self._wait():
                name = self._calls.pop(reference)
                try:
                    self._members[name].info = ray.get(reference)
                except RayActorError as error:
                    self._replace(name, str(error))
                except RayError as error:
                    raise OrchestrateError(f"an actor could not start: {error}") from error
            for name, member in self._members.items():
                if member.info:
                    return name
            self._look_at_progress()
            if time.monotonic() >= next_word:
                next_word += self._settings.log_interval_s
                say(f"waiting for an actor to start; {self._patience.asked_and_there(len(self._members))}")

    def _look_at_progress(self) -> None:
        """Ask the actors how far they are, now and then; raise OrchestrateError if they do not get on."""
        alive = [member for member in self._members.values() if member.info]
        busy_with = [unit for member in alive for unit in member.units.values()]
        self._patience.look(len(self._members), busy_with if alive else None)
        now = time.monotonic()
        if now - self._asked_usage_at >= min(_USAGE_EVERY_S, self._settings.stall_timeout_s / 4):
            self._asked_usage_at = now
            for name, member in self._members.items():
                if member.info and member.units:
                    self._calls[member.handle.usage.remote()] = name


def _unreported(unit: Unit, error: RayTaskError) -> Failure:
    """The actor lives but could not even say what went wrong: its arguments, its imports."""
    return Failure(unit.id, type(error).__name__, str(error), str(error), host="unknown")
