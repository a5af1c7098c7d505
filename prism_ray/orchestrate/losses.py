"""The consequences of a failed attempt or a dead actor. They are decided here and nowhere else. Pure.

The dispatcher reports a loss and carries out the Decision; the budgets are counted here. A new rule for dead
actors belongs into `after_death`, one for failed attempts into `after_failure`.
"""

from dataclasses import dataclass, replace
from enum import Enum

from prism_ray.config import OrchestrateConfig
from prism_ray.errors import BY_NAME, IncompleteError, OrchestrateError, UnitStopped, UsageError
from prism_ray.store import Failure


class Fate(Enum):
    """The consequence of a lost attempt for its unit."""

    FREE = "it is tried again; the attempt is neither counted nor recorded"
    COUNTED = "it is tried again; the attempt is counted and recorded as a failure"
    SET_ASIDE = "it is recorded as a failure, and left out until `retry`"


@dataclass(frozen=True)
class Attempt:
    """An attempt at a unit that is not committed yet."""

    unit_id: str
    num_failed: int  # attempts at the unit that were counted before this one
    runs_elsewhere: bool  # another actor runs the unit too


@dataclass(frozen=True)
class Death:
    """An actor that died, or whose answer was lost so that it is not trusted any more."""

    host: str | None  # None if it never started
    reason: str  # the message of Ray's error
    machine_taken: bool  # its machine is leaving, gone or out of reach


@dataclass(frozen=True)
class Decision:
    """The consequences of a loss. They are carried out in the order of the fields."""

    fate: Fate = Fate.FREE
    replaces: bool = True  # a new actor may replace one that died
    message: str | None = None  # for the user
    error: Exception | None = None  # ends the run


class Losses:
    """The losses of a run, decided and counted."""

    def __init__(self, settings: OrchestrateConfig, max_actors: int) -> None:
        self._settings = settings
        self._max_actors = max_actors
        self.num_set_aside = 0  # units, in this stage
        self.num_preempted = 0  # actors that were lost with their machines
        self.num_deaths_in_a_row = 0  # of other actors, since the last answer about a unit

    def begin_stage(self) -> None:
        """Counts the units that are set aside from 0."""
        self.num_set_aside = 0

    def unit_answered(self) -> None:
        """An actor has answered about a unit, so actors can work."""
        self.num_deaths_in_a_row = 0

    def after_failure(self, failure: Failure, attempt: Attempt | None) -> Decision:
        """Decides about an attempt without a commit; `attempt` is None if another one was committed first."""
        kind = BY_NAME.get(failure.error, Exception)
        if issubclass(kind, UsageError):  # every attempt would end like this one
            return Decision(error=kind(failure.message))
        if issubclass(kind, UnitStopped):
            return Decision()
        if attempt is None:
            message = f"{failure.unit_id} is done, but a second attempt at it failed: {failure.message}"
            return Decision(message=message)
        return self._count(attempt)

    def after_death(self, death: Death, attempt: Attempt | None) -> Decision:
        """Decides about a dead actor and the attempt that ran there; None if there was none."""
        if death.machine_taken:
            return self._after_preemption(death, attempt)
        self.num_deaths_in_a_row += 1
        decision = Decision() if attempt is None else self._count(attempt)
        if self.num_deaths_in_a_row <= self._max_actors + self._settings.max_attempts:
            return decision
        error = OrchestrateError(
            f"{self.num_deaths_in_a_row} actors died one after another, and no unit was finished meanwhile; "
            f"Ray's last message was: {death.reason}"
        )
        return replace(decision, error=error)

    def _after_preemption(self, death: Death, attempt: Attempt | None) -> Decision:
        """The machine was taken away: the attempt is not counted, and preemptions have their own budget."""
        self.num_preempted += 1
        message = error = None
        if attempt is not None:
            message = f"{attempt.unit_id} continues elsewhere: the machine of its actor was taken away"
        budget = self._settings.preemption_budget
        if budget is not None and self.num_preempted > budget:
            error = OrchestrateError(
                f"{self.num_preempted} actors were lost with their machines, more than "
                f"orchestrate.preemption_budget = {budget}; Ray's last message was: {death.reason}"
            )
        return Decision(message=message, error=error)

    def _count(self, attempt: Attempt) -> Decision:
        """Counts a failed attempt. The last one sets the unit aside, unless another one is still running."""
        if attempt.num_failed + 1 < self._settings.max_attempts or attempt.runs_elsewhere:
            return Decision(Fate.COUNTED)
        self.num_set_aside += 1
        budget = self._settings.error_budget
        if self.num_set_aside <= budget:
            return Decision(Fate.SET_ASIDE)
        error = IncompleteError(
            f"{self.num_set_aside} units failed in all their attempts, more than orchestrate.error_budget = "
            f"{budget}; the last was {attempt.unit_id}"
        )
        return Decision(Fate.SET_ASIDE, error=error)
