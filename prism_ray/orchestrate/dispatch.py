"""The dispatcher: gives units to actors, and passes their answers to scheduler, ledger and user.

scheduler.py decides which unit an actor gets, losses.py what follows from a loss. Keys and small statistics
pass through here; pixels never do.
"""

import time
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import replace
from typing import Any, Protocol, Self

from prism_ray.config import Config
from prism_ray.errors import BY_NAME, IncompleteError, OrchestrateError, UsageError
from prism_ray.orchestrate.actor import ActorInfo, ActorUsage, UnitDone, WorkerActor
from prism_ray.orchestrate.actors import Actors
from prism_ray.orchestrate.display import Listener
from prism_ray.orchestrate.jobs import Job, JobUnit
from prism_ray.orchestrate.losses import Attempt, Death, Decision, Fate, Losses
from prism_ray.orchestrate.metrics import Metrics
from prism_ray.orchestrate.scaling import Shape
from prism_ray.orchestrate.scheduler import Ready, Scheduler, Source
from prism_ray.run import Ledger, Run
from prism_ray.run.calls import Call
from prism_ray.stages import Unit, stages
from prism_ray.store import Failure, StoreFiles, record_failure, set_aside


class SharedSource(Source, Protocol):
    """A source of the units of several runs."""

    def set_aside(self, unit: JobUnit) -> None:
        """The unit failed in all its attempts."""

    def is_over(self, unit: Unit) -> bool:
        """Return whether the unit's run has ended, so that the unit must not begin."""


def _raise(error: Exception) -> None:
    raise error


class Dispatcher:
    """Lets the actors of a run do its units. Used as a context."""

    def __init__(
        self,
        config: Config,
        files: StoreFiles,
        shape: Shape,
        listener: Listener,
        ledger: Ledger,
        check_lease: Callable[[], None] = lambda: None,
        actor_class: Any = WorkerActor,
    ) -> None:
        """`check_lease` is called regularly, and may raise to end the work."""
        self._config = config
        self._settings = config.orchestrate
        self._files = files
        self._listener = listener
        self._check_lease = check_lease
        self._scheduler = Scheduler(Ready(()))
        self._sharing = [stage.name for stage in stages() if stage.shares and shape.num_sharing > 1]
        self._jobs: dict[int, Job] = {}  # of several runs
        self._shared: SharedSource | None = None  # the source of their units
        self.actors = Actors(config, files, shape, actor_class)
        self.losses = Losses(self._settings, shape.max_actors * shape.num_sharing)
        self._ledger = ledger
        self.metrics = Metrics(files.location.rstrip("/").rpartition("/")[2])
        self.num_hits = self.num_loads = 0  # of teachers, in the caches of all actors
        self._devices: set[str] = set()  # of the actors
        self._gpus_per_actor = shape.num_gpus
        self._began = time.monotonic()

    def counted(self) -> Call:
        """Return what was counted so far; may be called from another thread."""
        return Call(
            round(time.monotonic() - self._began, 1),
            self.num_hits,
            self.num_loads,
            self.losses.num_preempted,
            self._gpus_per_actor,
            tuple(sorted(self._devices)),
        )

    def check_networks(
        self, class_names: Sequence[str], in_store: Set[str], config: Config | None = None
    ) -> None:
        """Lets the first actor that starts build the networks of a config; raises what is wrong with them.

        The config is by default that of the dispatcher. The files of weights of the teachers `in_store` are
        not needed.
        """
        while True:
            name = self.first_actor()
            problem = self.actors.check_networks(name, config or self._config, class_names, in_store)
            if not isinstance(problem, Death):
                break
            self._take_death(name, problem)
        if problem is not None:
            kind = BY_NAME.get(problem.error)
            raise kind(problem.message) if kind else OrchestrateError(problem.traceback)

    def first_actor(self) -> str:
        """Waits until an actor has started, and tells the user regularly why none has; returns its name."""
        next_message = time.monotonic() + self._settings.log_interval_s
        while not self.actors.ready:
            self._adjust_actors()
            self._take_answers()
            if time.monotonic() >= next_message:
                next_message += self._settings.log_interval_s
                resources = self.actors.patience.describe_resources(len(self.actors.names))
                self._listener.message(f"waiting for an actor to start; {resources}")
        return self.actors.ready[0]

    def do(self, run: Run, source: Source) -> list[str]:
        """Does all units that come from `source`; returns the ids of those that were set aside.

        Raises the error of a unit that failed because of the user's input, OrchestrateError if actors cannot
        start, keep dying or make no progress, IncompleteError if more units failed than the budget allows.
        """
        self._only = Job(0, run, self._files, self._listener, self._ledger, self.losses, _raise)
        self.losses.begin_stage()
        self.actors.begin_stage(run)
        self._work_off(source, run.plan.teachers_of)
        return self._scheduler.set_aside

    def do_jobs(self, jobs: Sequence[Job], source: SharedSource) -> None:
        """Does all units of several runs that come from `source`, side by side.

        What ends a single run (wrong input, too many failed units) ends only the run that it is about. Raises
        OrchestrateError as `do`.
        """
        self._jobs, self._shared = {job.number: job for job in jobs}, source
        plans = {job.number: job.run.plan for job in jobs}

        def teachers_of(unit: Unit) -> Iterable[str]:
            assert isinstance(unit, JobUnit)
            return plans[unit.number].teachers_of(unit.unit)

        self.losses.begin_stage()
        self.actors.begin_jobs({job.number: job.run for job in jobs})
        self._work_off(source, teachers_of)

    def _work_off(self, source: Source, teachers_of: Callable[[Unit], Iterable[str]]) -> None:
        queued = [stage.name for stage in stages() if stage.many]
        factor = self._settings.straggler_factor
        self._scheduler = Scheduler(source, teachers_of, factor, queued, self._sharing)
        for name in self.actors.ready:
            self._introduce(name)
        while not self._scheduler.finished:
            self._adjust_actors()
            self._assign()
            self._take_answers()
            self._check_lease()
            self._listener.tick(self.actors.now)
        self.actors.end_stage()

    def _job_of(self, unit: Unit) -> tuple[Job, Unit]:
        """Returns the run that a unit belongs to, and the unit as that run knows it."""
        return (self._jobs[unit.number], unit.unit) if isinstance(unit, JobUnit) else (self._only, unit)

    def _attempt(self, name: str, unit: Unit) -> Attempt | None:
        """Returns the attempt of an actor at a unit, under the unit's own id."""
        attempt = self._scheduler.attempt(name, unit.id)
        return attempt and replace(attempt, unit_id=self._job_of(unit)[1].id)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        """Ends the actors; if the run is interrupted, after their units have saved checkpoints."""
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt | IncompleteError | UsageError)
        self.actors.end_all(saves_checkpoints=interrupted)
        self._ledger.close()

    def _introduce(self, name: str) -> None:
        """Adds an actor to the scheduler, with the stages that it prefers."""
        num_for_labels = self._settings.label_actors
        is_for_labels = self.actors.names.index(name) < num_for_labels
        preferred = [stage.name for stage in stages() if num_for_labels and stage.labels == is_for_labels]
        self._scheduler.add_actor(name, preferred, is_shared=self.actors.is_shared(name))

    def _adjust_actors(self) -> None:
        """Gives actors on leaving nodes no more units, and keeps as many as there is work for."""
        for name, host in self.actors.tell_leaving().items():
            self._scheduler.leaving(name)
            self._listener.message(f"{host} is leaving; its actor {name} gets no more work")
        for name in self.actors.keep_number(*self._scheduler.num_waiting_by_kind):
            self._scheduler.lost(name)

    def _assign(self) -> None:
        """Gives out units round by round, so that each actor has one before any has two."""
        assigned = True
        while assigned:
            assigned = False
            for name in self.actors.ready:
                unit = self._scheduler.assign(name, time.monotonic())
                if unit is not None:
                    self.actors.give(name, unit)
                    job, its_unit = self._job_of(unit)
                    job.listener.began(its_unit)
                    assigned = True

    def _take_answers(self) -> None:
        for name, unit, result in self.actors.answers():
            if isinstance(result, Death):
                self._take_death(name, result)
            elif isinstance(result, ActorInfo):
                self._devices.add(result.device)
                self._introduce(name)
            elif isinstance(result, ActorUsage):
                for problem in result.problems:
                    self._listener.message(problem)
            elif unit is not None:
                self._take_result(name, unit, result)
        self.actors.expect_progress()

    def _take_result(self, name: str, unit: Unit, result: UnitDone | Failure) -> None:
        self.losses.unit_answered()
        now, (job, _) = time.monotonic(), self._job_of(unit)
        if isinstance(result, Failure):
            decision = job.losses.after_failure(result, self._attempt(name, unit))
            self._scheduler.ended(name, unit.id, now, decision.fate)
            self._carry_out(decision, result, unit)
            return
        self.num_hits += result.num_hits
        self.num_loads += result.num_loads
        others = self._scheduler.done(name, unit.id, now, result.teachers)
        self.metrics.done(result, is_first=others is not None)
        if others is not None:  # no other attempt was first
            job.ledger.add(result.commit)
            job.listener.done(result.commit)
        for other in others or ():
            self.actors.stop_unit(other, unit.id)

    def _take_death(self, name: str, death: Death) -> None:
        unit = self._scheduler.running_at(name)
        attempt = self._attempt(name, unit) if unit is not None else None
        decision = self.losses.after_death(death, attempt)
        if death.machine_taken:
            self.metrics.preempted()
        self._scheduler.lost(name, decision.fate)
        self.actors.remove(name, replaces=decision.replaces)
        failure = None
        if attempt is not None:
            host = death.host or "unknown"
            failure = Failure(attempt.unit_id, "ActorDied", death.reason, death.reason, host)
        self._carry_out(decision, failure, unit)

    def _carry_out(self, decision: Decision, failure: Failure | None, unit: Unit | None) -> None:
        """Records the failure of a unit, if there is one, tells the user, and ends the run on an error."""
        job = None if unit is None else self._job_of(unit)[0]
        if job is not None and failure is not None and decision.fate is not Fate.FREE:
            record_failure(job.files, failure)
            if decision.fate is Fate.SET_ASIDE:
                set_aside(job.files, failure)
                if self._shared is not None and isinstance(unit, JobUnit):
                    self._shared.set_aside(unit)
            job.listener.failed(failure, again=decision.fate is Fate.COUNTED)
            self.metrics.failed(failure.unit_id, again=decision.fate is Fate.COUNTED)
        if decision.message is not None:
            self._listener.message(decision.message)
        if decision.error is not None:
            if job is None or not isinstance(decision.error, UsageError | IncompleteError):
                raise decision.error
            job.fail(decision.error)
        if self._shared is not None:
            self._scheduler.discard(self._shared.is_over)
