"""What follows when an attempt at a unit fails or an actor dies: the one place where that is decided. Pure.

The dispatcher says what was lost and carries out the Decision. The budgets are counted here. A new way to
treat a dead actor is a case in `after_death`, one to treat a failed attempt a case in `after_failure`. This
module knows neither Ray nor a clock, and is tested without them.
"""

from dataclasses import dataclass, replace
from enum import Enum

from prism_ray.config import OrchestrateConfig
from prism_ray.errors import (
    BY_NAME,
    IncompleteError,
    OrchestrateError,
    PrismRayError,
    UnitStopped,
    UsageError,
)
from prism_ray.store import Failure


class Fate(Enum):
    """What becomes of the unit whose attempt was lost."""

    FREE = "it is tried again; the attempt is neither counted nor recorded"
    COUNTED = "it is tried again; the attempt is counted and recorded as a failure"
    SET_ASIDE = "it is recorded as a failure, and left out until `retry`"


@dataclass(frozen=True)
class Attempt:
    """An attempt at a unit that is not committed yet."""

    unit_id: str
    num_failed: int  # attempts at the unit that were counted before this one
    runs_elsewhere: bool  # at another actor, too


@dataclass(frozen=True)
class Death:
    """An actor that died, or whose answer was lost so that it is not trusted any more."""

    host: str | None  # None if it never started
    error: str  # the class of Ray's error
    reason: str  # what Ray says
    machine_taken: bool  # its machine is leaving, gone or out of reach


@dataclass(frozen=True)
class Decision:
    """What follows from a loss. It is carried out in the order of the fields."""

    fate: Fate = Fate.FREE
    replaces: bool = True  # another actor may take the place of one that died
    message: str | None = None  # for the user
    error: PrismRayError | None = None  # ends the run


class Losses:
    """Decides about the losses of a run, and counts them."""

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
        """An actor has answered about a unit: actors do get something done."""
        self.num_deaths_in_a_row = 0

    def after_failure(self, failure: Failure, attempt: Attempt | None) -> Decision:
        """Decides about an attempt that ended without a commit, None if another one was committed first."""
        kind = BY_NAME.get(failure.error, PrismRayError)
        if issubclass(kind, UsageError):  # every attempt would end like this one
            return Decision(error=kind(failure.message))
        if issubclass(kind, UnitStopped):
            return Decision()
        if attempt is None:
            return Decision(
                message=f"{failure.unit_id} is done, but failed where it ran a second time: {failure.message}"
            )
        return self._count(attempt)

    def after_death(self, death: Death, attempt: Attempt | None) -> Decision:
        """Decides about a dead actor and the attempt that ran there, None if there was none."""
        if death.machine_taken:
            return self._after_preemption(death, attempt)
        self.num_deaths_in_a_row += 1
        decision = Decision() if attempt is None else self._count(attempt)
        if self.num_deaths_in_a_row > self._max_actors + self._settings.max_attempts:
            error = OrchestrateError(
                f"{self.num_deaths_in_a_row} actors died one after another without finishing anything; the "
                f"last said: {death.reason}"
            )
            return replace(decision, error=error)
        return decision

    def _after_preemption(self, death: Death, attempt: Attempt | None) -> Decision:
        """Nobody was at fault: the unit pays nothing, and only a budget of its own ends the run."""
        self.num_preempted += 1
        message = error = None
        if attempt is not None:
            message = f"{attempt.unit_id} goes on elsewhere: the machine of its actor was taken away"
        budget = self._settings.preemption_budget
        if budget is not None and self.num_preempted > budget:
            error = OrchestrateError(
                f"{self.num_preempted} actors were lost with their machines, more than "
                f"orchestrate.preemption_budget = {budget}; the last said: {death.reason}"
            )
        return Decision(message=message, error=error)

    def _count(self, attempt: Attempt) -> Decision:
        """Counts an attempt as failed; the last one that is allowed sets the unit aside."""
        is_last = attempt.num_failed + 1 >= self._settings.max_attempts
        return self._set_aside(attempt) if is_last else Decision(Fate.COUNTED)

    def _set_aside(self, attempt: Attempt) -> Decision:
        """Sets a unit aside, unless another attempt at it is running, which may succeed."""
        if attempt.runs_elsewhere:
            return Decision(Fate.COUNTED)
        self.num_set_aside += 1
        budget = self._settings.error_budget
        if self.num_set_aside <= budget:
            return Decision(Fate.SET_ASIDE)
        error = IncompleteError(
            f"{self.num_set_aside} units failed for good, more than orchestrate.error_budget = {budget}; the "
            f"last was {attempt.unit_id}"
        )
        return Decision(Fate.SET_ASIDE, error=error)
