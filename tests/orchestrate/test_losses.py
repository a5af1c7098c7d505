"""What follows from a loss, decided without Ray: laws over sequences that hypothesis makes."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prism_ray.config import OrchestrateConfig
from prism_ray.errors import BY_NAME, IncompleteError, OrchestrateError, UsageError
from prism_ray.orchestrate.losses import Attempt, Death, Decision, Fate, Losses
from prism_ray.store import Failure

ATTEMPT = Attempt("recover/a/b0", num_failed=0, runs_elsewhere=False)
KILLED = Death("host", "killed by the system", machine_taken=False)
PREEMPTED = replace(KILLED, machine_taken=True)
USER_ERRORS = sorted(name for name, kind in BY_NAME.items() if issubclass(kind, UsageError))

attempts = st.builds(
    Attempt, st.sampled_from(["recover/a/b0", "relabel/a/g0"]), st.integers(0, 9), st.booleans()
)
settings = st.builds(
    OrchestrateConfig,
    max_attempts=st.integers(1, 5),
    error_budget=st.integers(0, 5),
    preemption_budget=st.none() | st.integers(0, 5),
)


def failure(error: str = "EngineError") -> Failure:
    return Failure("recover/a/b0", error, "what went wrong", "a traceback", "host")


def losses_of(max_actors: int = 2, **settings: int) -> Losses:
    return Losses(OrchestrateConfig(**settings), max_actors)


@given(settings, st.lists(st.none() | attempts, max_size=30))
def test_preemption_costs_no_unit_an_attempt_and_no_other_budget(
    settings: OrchestrateConfig, lost: list[Attempt | None]
) -> None:
    """Catches a run on spot machines that gives its units up, or itself, because machines go."""
    losses = Losses(settings, max_actors=1)
    for number, attempt in enumerate(lost, start=1):
        decision = losses.after_death(PREEMPTED, attempt)
        assert decision.fate is Fate.FREE
        budget = settings.preemption_budget
        assert (decision.error is not None) == (budget is not None and number > budget)
    assert (losses.num_set_aside, losses.num_deaths_in_a_row) == (0, 0)


@given(settings, st.lists(attempts, max_size=40), st.data())
def test_the_run_ends_exactly_when_the_error_budget_is_exceeded(
    settings: OrchestrateConfig, lost: list[Attempt], data: st.DataObject
) -> None:
    """Catches a run that goes on losing units, or that ends although its budget allows one more."""
    losses = Losses(settings, max_actors=1000)
    num_set_aside = 0
    for attempt in lost:
        died = data.draw(st.booleans())
        decision = losses.after_death(KILLED, attempt) if died else losses.after_failure(failure(), attempt)
        is_last = attempt.num_failed + 1 >= settings.max_attempts and not attempt.runs_elsewhere
        num_set_aside += is_last
        assert decision.fate is (Fate.SET_ASIDE if is_last else Fate.COUNTED)
        exceeded = is_last and num_set_aside > settings.error_budget
        assert isinstance(decision.error, IncompleteError) == exceeded
        assert exceeded or decision.error is None
    losses.begin_stage()
    assert losses.num_set_aside == 0


@given(st.sampled_from(USER_ERRORS), st.none() | attempts, settings)
def test_an_error_of_the_users_always_ends_the_run(
    error: str, attempt: Attempt | None, settings: OrchestrateConfig
) -> None:
    """Catches wrong input that is tried again at every actor, or that is kept as a failure of its unit."""
    decision = Losses(settings, max_actors=1).after_failure(failure(error), attempt)
    assert type(decision.error) is BY_NAME[error]
    assert str(decision.error) == "what went wrong"
    assert decision.fate is Fate.FREE


@given(st.lists(st.sampled_from(["dead", "preempted", "answer"]), max_size=40), st.integers(1, 4))
def test_only_deaths_in_a_row_end_the_run(events: list[str], max_actors: int) -> None:
    """Catches a long run ended by deaths that lie weeks apart, and actors that die for ever."""
    losses = losses_of(max_actors, max_attempts=2)
    in_a_row = 0
    for event in events:
        if event == "answer":
            in_a_row = 0
            losses.unit_answered()
            continue
        in_a_row += event == "dead"
        decision = losses.after_death(KILLED if event == "dead" else PREEMPTED, None)
        assert isinstance(decision.error, OrchestrateError) == (event == "dead" and in_a_row > max_actors + 2)


def test_a_unit_that_was_told_to_stop_pays_nothing() -> None:
    """Catches a node that leaves, or another attempt that was first, counted as a failure."""
    losses = losses_of(max_attempts=1, error_budget=0)
    assert losses.after_failure(failure("UnitStopped"), ATTEMPT) == Decision()


@pytest.mark.parametrize("error", ["EngineError", "ValueError", "UnitStopped"])
def test_a_second_attempt_costs_nothing_once_the_unit_is_done(error: str) -> None:
    """Catches a unit set aside that another actor has committed."""
    losses = losses_of(max_attempts=1, error_budget=0)
    decision = losses.after_failure(failure(error), None)
    assert (decision.fate, decision.error) == (Fate.FREE, None)
    assert (decision.message is None) == (error == "UnitStopped")
    assert losses.after_death(KILLED, None) == Decision()


def test_what_ends_a_run_says_why() -> None:
    """Catches an end of a run that names neither the setting nor what the last actor said."""
    losses = losses_of(max_actors=1, max_attempts=1, error_budget=0, preemption_budget=0)
    aside = losses.after_failure(failure(), ATTEMPT)
    assert "more than orchestrate.error_budget = 0; the last was recover/a/b0" in str(aside.error)
    taken = losses.after_death(PREEMPTED, ATTEMPT)
    assert "orchestrate.preemption_budget = 0; Ray's last message was: killed by the system" in str(
        taken.error
    )
    assert taken.message is not None
    assert taken.message.startswith("recover/a/b0 continues elsewhere")
    for _ in range(2):
        losses.after_death(KILLED, None)
    died = losses.after_death(KILLED, replace(ATTEMPT, num_failed=5))
    assert "3 actors died one after another" in str(died.error)  # rather than the budget of units
    assert died.fate is Fate.SET_ASIDE
