"""The scheduler as a pure state machine, under sequences of faults that hypothesis makes."""

import random
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prism_ray.config import OrchestrateConfig
from prism_ray.orchestrate.losses import Death, Fate, Losses
from prism_ray.orchestrate.scheduler import Ready, Scheduler
from prism_ray.stages import Unit
from prism_ray.stages.collect import CollectUnit
from prism_ray.stages.evaluate import EvaluateUnit
from prism_ray.stages.formation import Slot
from prism_ray.stages.recover import RecoverUnit
from prism_ray.stages.relabel import RelabelUnit
from prism_ray.stages.squeeze import SqueezeUnit
from prism_ray.store import Failure

QUEUED: tuple[str, ...] = ("recover", "relabel")


def batch(number: int, teachers: tuple[str, ...] = ("t0",)) -> RecoverUnit:
    return RecoverUnit("a", f"b{number:06d}", (Slot(0, number),), (5,), (teachers,), number)


def batches(count: int) -> Iterator[RecoverUnit]:
    return (batch(number) for number in range(count))


def networks_of(unit: Unit) -> Iterable[str]:
    return unit.teachers if isinstance(unit, RecoverUnit) else ()


def scheduler_of(units: Iterable[Unit], straggler_factor: float = 0.0) -> Scheduler:
    return Scheduler(Ready(units), networks_of, straggler_factor, QUEUED)


@dataclass
class World:
    """Actors that run what they are given, the first of their units at a time, and what came of it."""

    scheduler: Scheduler
    losses: Losses
    held: dict[str, list[str]] = field(default_factory=dict)
    committed: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    now: float = 0.0
    num_born: int = 0

    def bear(self) -> None:
        name = f"a{self.num_born}"
        self.num_born += 1
        self.scheduler.add_actor(name)
        self.held[name] = []

    def dispatch(self) -> None:
        given_out = True
        while given_out:
            given_out = False
            for name, queue in self.held.items():
                unit = self.scheduler.assign(name, self.now)
                if unit is not None:
                    assert unit.id not in queue
                    queue.append(unit.id)
                    assert len(queue) <= 2
                    given_out = True

    def happen(self, event: str, name: str) -> None:
        """Let something happen to an actor that has something to do."""
        running = self.held[name][0]
        if event in ("die", "preempt"):
            death = Death("host", "killed", machine_taken=event == "preempt")
            attempt = self.scheduler.attempt(name)
            assert (attempt is None) == (running in self.committed)
            assert attempt is None or attempt.unit_id == running
            self.scheduler.lost(name, self.losses.after_death(death, attempt).fate)
            del self.held[name]
            self.failures[running] += event == "die"
            self.bear()
            return
        if event == "drain":
            self.scheduler.leaving(name)
            self.bear()
            return
        self.held[name].pop(0)
        if event in ("fail", "stop"):
            self.failures[running] += event == "fail"
            error = {"fail": "EngineError", "stop": "UnitStopped"}[event]
            attempt = self.scheduler.attempt(name, running)
            decision = self.losses.after_failure(Failure(running, error, "", "", "host"), attempt)
            self.scheduler.ended(name, running, self.now, decision.fate)
            assert (decision.fate is Fate.SET_ASIDE) <= (running in self.scheduler.set_aside)
        else:
            self.committed[running] += 1
            others = self.scheduler.done(name, running, self.now)
            assert (others is None) == (self.committed[running] > 1)
            for other in others or ():
                assert self.held[other][0] == running


@given(
    num_units=st.integers(0, 12),
    num_actors=st.integers(1, 4),
    max_attempts=st.integers(1, 3),
    factor=st.sampled_from([0.0, 1.0]),
    faults=st.lists(
        st.sampled_from(["done", "done", "done", "fail", "die", "preempt", "drain", "stop"]), max_size=80
    ),
    choices=st.randoms(use_true_random=False),
)
def test_every_unit_ends_exactly_once(
    num_units: int,
    num_actors: int,
    max_attempts: int,
    factor: float,
    faults: list[str],
    choices: random.Random,
) -> None:
    """Catches a unit lost with its actor, counted twice, or tried more often than allowed."""
    scheduler = scheduler_of(batches(num_units), factor)
    losses = Losses(OrchestrateConfig(max_attempts=max_attempts), num_actors)
    world = World(scheduler, losses)
    for _ in range(num_actors):
        world.bear()
    events = iter(faults)
    while not scheduler.finished:
        world.dispatch()
        busy = [name for name, queue in world.held.items() if queue]
        assert busy, "units are pending, yet no actor was given any"
        world.now += choices.random()
        world.happen(next(events, "done"), choices.choice(busy))
    expected = sorted(unit.id for unit in batches(num_units))
    assert sorted([*world.committed, *scheduler.set_aside]) == expected
    assert scheduler.num_done == len(world.committed)
    assert losses.num_set_aside == len(scheduler.set_aside)
    if factor == 0.0:
        assert set(world.committed.values()) <= {1}
        assert all(world.failures[unit_id] == max_attempts for unit_id in scheduler.set_aside)
    assert all(world.failures[unit_id] >= max_attempts for unit_id in scheduler.set_aside)


def test_units_are_drawn_lazily() -> None:
    """Catches a scheduler that lists all units of a stage, which a million of them would not survive."""
    drawn = []

    def endless() -> Iterator[RecoverUnit]:
        number = 0
        while True:
            drawn.append(number)
            yield batch(number)
            number += 1

    scheduler = scheduler_of(endless())
    scheduler.add_actor("a")
    assert scheduler.assign("a", 0.0) is not None
    assert scheduler.assign("a", 0.0) is not None
    assert scheduler.assign("a", 0.0) is None
    assert len(drawn) < 1000


def test_one_unit_waits_at_each_actor_if_there_are_many() -> None:
    """Catches long units, of which there are few, waiting behind each other while actors are idle."""
    scheduler = scheduler_of([*batches(3), SqueezeUnit("t0", 0), SqueezeUnit("t1", 1)])
    scheduler.add_actor("a")
    scheduler.add_actor("b")
    assert scheduler.assign("a", 0.0) == SqueezeUnit("t0", 0)  # needs nothing loaded
    assert scheduler.assign("a", 0.0) is None  # nothing behind something long
    assert scheduler.assign("b", 0.0) == SqueezeUnit("t1", 1)
    scheduler.done("b", "squeeze/t1", 1.0)
    assert scheduler.assign("b", 1.0) == batch(0)
    assert scheduler.assign("b", 1.0) == batch(1)
    assert scheduler.assign("b", 1.0) is None


class Walked(dict[str, Any]):
    """A mapping that counts how often somebody goes through all of it."""

    num_walks = 0

    def items(self) -> Any:
        self.num_walks += 1
        return super().items()

    def values(self) -> Any:
        self.num_walks += 1
        return super().values()

    def __iter__(self) -> Iterator[str]:
        self.num_walks += 1
        return super().__iter__()


def test_the_choice_of_a_unit_does_not_look_at_every_actor() -> None:
    """Catches a unit that costs more the more actors there are, though it has failed at none."""
    scheduler = scheduler_of(batches(1000), straggler_factor=4.0)
    scheduler._actors = actors = Walked()
    names = [f"a{number}" for number in range(64)]
    for name in names:
        scheduler.add_actor(name)
    running = {name: scheduler.assign(name, 0.0) for name in names}
    for name, unit in running.items():
        assert unit is not None
        scheduler.done(name, unit.id, 1.0, ("t0",))
        assert scheduler.assign(name, 1.0) is not None
    assert actors.num_walks == 0


def test_waiting_units_of_a_dead_actor_cost_no_attempt() -> None:
    """Catches a unit being set aside because it merely waited at an actor that died."""
    scheduler = scheduler_of(batches(2))
    scheduler.add_actor("a")
    first, second = scheduler.assign("a", 0.0), scheduler.assign("a", 0.0)
    assert first is not None
    scheduler.lost("a", Fate.SET_ASIDE)
    assert scheduler.set_aside == [first.id]
    scheduler.add_actor("b")
    assert scheduler.assign("b", 0.0) == second


def test_an_attempt_says_how_its_unit_stands() -> None:
    """Catches attempts of one unit counted for another, and a decision about a unit that is done already."""
    scheduler = scheduler_of([*batches(6), batch(6)], straggler_factor=1.0)
    scheduler.add_actor("a")
    assert scheduler.attempt("a") is None
    assert scheduler.assign("a", 0.0) == batch(0)
    assert scheduler.assign("a", 0.0) == batch(1)
    scheduler.ended("a", batch(1).id, 1.0, Fate.COUNTED)
    attempt = scheduler.attempt("a")
    assert attempt is not None
    assert (attempt.unit_id, attempt.num_failed, attempt.runs_elsewhere) == (batch(0).id, 0, False)
    assert scheduler.attempt("a", batch(1).id) is None
    assert scheduler.assign("a", 1.0) == batch(1)
    attempt = scheduler.attempt("a", batch(1).id)
    assert attempt is not None
    assert attempt.num_failed == 1
    scheduler.done("a", batch(0).id, 1.0)
    scheduler.done("a", batch(1).id, 2.0)
    for number in range(2, 6):
        scheduler.assign("a", 2.0)
        scheduler.done("a", batch(number).id, 2.0)
    assert scheduler.assign("a", 2.0) == batch(6)
    scheduler.add_actor("b")
    assert scheduler.assign("b", 100.0) == batch(6)
    attempt = scheduler.attempt("a")
    assert attempt is not None
    assert attempt.runs_elsewhere
    scheduler.done("b", batch(6).id, 101.0)
    assert scheduler.attempt("a") is None  # another was first


def test_plan_order_is_kept_among_equals() -> None:
    """Catches handing out units out of the plan's order, which would starve the stages that follow."""
    scheduler = scheduler_of(batches(500))
    scheduler.add_actor("a")
    given_out = []
    while (unit := scheduler.assign("a", 0.0)) is not None:
        given_out.append(unit.id)
        scheduler.done("a", unit.id, 0.0, ["t0"])
    assert given_out == [unit.id for unit in batches(500)]


def test_a_broken_actor_does_not_use_up_the_attempts() -> None:
    """Catches a failed unit going straight back to the actor that fails everything."""
    scheduler = scheduler_of(batches(20))
    scheduler.add_actor("bad")
    scheduler.add_actor("good")
    running = None
    for turn in range(200):
        if (unit := scheduler.assign("bad", 0.0)) is not None:
            scheduler.ended("bad", unit.id, 0.0, Fate.COUNTED)
        running = running or scheduler.assign("good", 0.0)
        if turn % 5 == 0 and running is not None:  # the good one works while the bad one fails at once
            scheduler.done("good", running.id, 0.0)
            running = None
    assert scheduler.finished
    assert scheduler.set_aside == []
    assert scheduler.num_done == 20


def test_a_failed_unit_does_not_wait_for_an_actor_that_gets_no_more() -> None:
    """Catches a unit kept for an actor on a machine that is going away, for ever."""
    scheduler = scheduler_of(batches(2))
    scheduler.add_actor("a")
    scheduler.add_actor("leaving")
    assert scheduler.assign("leaving", 0.0) == batch(0)
    assert scheduler.assign("a", 0.0) == batch(1)
    scheduler.leaving("leaving")
    scheduler.ended("a", batch(1).id, 0.0, Fate.COUNTED)
    assert scheduler.assign("leaving", 0.0) is None
    assert scheduler.assign("a", 0.0) == batch(1)


def test_a_straggler_is_run_elsewhere_and_the_first_commit_wins() -> None:
    """Catches a slow machine that holds up the end of a run, and units that count twice for it."""
    scheduler = scheduler_of(batches(7), straggler_factor=3.0)
    scheduler.add_actor("quick")
    scheduler.add_actor("slow")
    assert scheduler.assign("slow", 0.0) == batch(0)
    now = 0.0
    for number in range(1, 7):
        assert scheduler.assign("quick", now) == batch(number)
        now += 1.0
        assert scheduler.done("quick", batch(number).id, now) == []
        if number < 6:
            assert scheduler.assign("quick", now) is not None  # of the window; not a straggler while there is
            scheduler.ended("quick", batch(number + 1).id, now, Fate.FREE)
    assert scheduler.assign("quick", 6.0) == batch(0)
    assert scheduler.assign("quick", 6.0) is None
    scheduler.add_actor("third")
    assert scheduler.assign("third", 60.0) is None  # twice is enough
    assert not scheduler.finished
    assert scheduler.done("quick", batch(0).id, 61.0) == ["slow"]
    assert scheduler.finished
    assert scheduler.done("slow", batch(0).id, 62.0) is None
    assert scheduler.num_done == 7


def test_nothing_is_slow_before_there_is_a_median() -> None:
    """Catches the first units of a run all being done twice."""
    scheduler = scheduler_of(batches(1), straggler_factor=3.0)
    scheduler.add_actor("a")
    scheduler.add_actor("b")
    assert scheduler.assign("a", 0.0) == batch(0)
    assert scheduler.assign("b", 1e6) is None


def test_units_of_another_kind_are_no_stragglers() -> None:
    """Catches a method whose batches take ten times as long as another's being run twice throughout."""
    long = RecoverUnit("g-vbsm", "j0000000", (Slot(0, 0),), (5,), (("t0",),), 0)
    scheduler = scheduler_of([*batches(6), long], straggler_factor=3.0)
    scheduler.add_actor("a")
    scheduler.add_actor("b")
    for number in range(6):
        assert scheduler.assign("a", float(number)) == batch(number)
        scheduler.done("a", batch(number).id, number + 1.0)
    assert scheduler.assign("a", 6.0) == long
    assert scheduler.assign("b", 1000.0) is None


def test_an_actor_gets_what_it_prefers_before_all_else() -> None:
    """Catches actors kept for labels that recover images while there are images to label."""
    label = RelabelUnit("a", 0, (), 0, 1, 0)
    scheduler = scheduler_of([batch(0), batch(1), label])
    scheduler.add_actor("images", preferred_stages=("recover",))
    scheduler.add_actor("labels", preferred_stages=("relabel", "evaluate"))
    assert scheduler.assign("labels", 0.0) == label
    assert scheduler.assign("images", 0.0) == batch(0)
    assert scheduler.assign("labels", 0.0) == batch(1)  # rather than nothing


@pytest.mark.parametrize("later", [RelabelUnit("a", 0, (), 0, 1, 0), EvaluateUnit("a", "s", 0, 0)])
def test_later_stages_go_first(later: Unit) -> None:
    """Catches labels and students that wait until the last image is made."""
    scheduler = scheduler_of([*batches(5), CollectUnit("median", "t0", 0, 1, 0), later])
    scheduler.add_actor("a")
    assert scheduler.assign("a", 0.0) == later


def student(number: int) -> EvaluateUnit:
    return EvaluateUnit("a", "student", number, number)


def test_students_go_to_actors_that_share_a_place_and_nothing_else_does() -> None:
    """Catches a batch in a quarter of a GPU, and a student that has a whole one for itself."""
    units = [*(student(number) for number in range(3)), batch(0)]
    scheduler = Scheduler(Ready(units), networks_of, 3.0, QUEUED, ("evaluate",))
    assert scheduler.num_waiting_by_kind == (1, 3)
    scheduler.add_actor("whole")
    scheduler.add_actor("s0", is_shared=True)
    scheduler.add_actor("s1", is_shared=True)
    assert scheduler.assign("whole", 0.0) == batch(0)
    assert scheduler.assign("whole", 0.0) is None
    assert [scheduler.assign(name, 0.0) for name in ("s0", "s1")] == [student(0), student(1)]
    scheduler.ended("s0", student(0).id, 1.0, Fate.COUNTED)
    assert scheduler.num_waiting_by_kind == (0, 2)
    assert scheduler.assign("s0", 1.0) == student(2)  # another actor that may have it is there
    scheduler.lost("s1", Fate.FREE)
    scheduler.done("s0", student(2).id, 2.0)
    # The whole actor, which may not have it, is not waited for.
    assert scheduler.assign("s0", 2.0) is not None


def test_a_slow_student_is_run_again_only_where_students_may_be() -> None:
    """Catches a second attempt at a student that takes a whole GPU from the batches."""
    units = [student(number) for number in range(7)]
    scheduler = Scheduler(Ready(units), networks_of, 3.0, QUEUED, ("evaluate",))
    scheduler.add_actor("slow", is_shared=True)
    scheduler.add_actor("quick", is_shared=True)
    assert scheduler.assign("slow", 0.0) == student(0)
    for number in range(1, 7):
        assert scheduler.assign("quick", float(number)) == student(number)
        scheduler.done("quick", student(number).id, number + 1.0)
    scheduler.add_actor("whole")
    assert scheduler.assign("whole", 100.0) is None
    assert scheduler.assign("quick", 100.0) == student(0)


class Cache:
    """The networks of one actor: those used last stay."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.held: OrderedDict[str, None] = OrderedDict()

    def use(self, names: Iterable[str]) -> None:
        for name in names:
            self.held[name] = None
            self.held.move_to_end(name)
        while len(self.held) > self.size:
            self.held.popitem(last=False)


@pytest.mark.parametrize("num_actors", [1, 4])
@pytest.mark.parametrize("cache_size", [4, 5])
def test_nine_of_ten_networks_are_found_loaded(num_actors: int, cache_size: int) -> None:
    """Catches batches going round the actors in turn, each of which loads its teachers for every batch.

    PRISM's draws over a pool of five: the primary, and each of the other four with probability one half, at
    most three of them. With room for four networks an actor cannot hold all of the pool.
    """
    rng = random.Random(1)
    units = []
    for number in range(1000):
        others = [name for name in ("t1", "t2", "t3", "t4") if rng.random() < 0.5][:3]
        units.append(batch(number, ("t0", *others)))
    scheduler = scheduler_of(units)
    caches = {f"a{k}": Cache(cache_size) for k in range(num_actors)}
    running: dict[str, list[RecoverUnit]] = {name: [] for name in caches}
    for name in caches:
        scheduler.add_actor(name)
    found = asked = 0
    while not scheduler.finished:
        for name, held in running.items():
            while (unit := scheduler.assign(name, 0.0)) is not None:
                assert isinstance(unit, RecoverUnit)
                held.append(unit)
        name = rng.choice([name for name, held in running.items() if held])
        unit = running[name].pop(0)
        found += len(caches[name].held.keys() & set(unit.teachers))
        asked += len(unit.teachers)
        caches[name].use(unit.teachers)
        scheduler.done(name, unit.id, 0.0, caches[name].held)
    assert found / asked >= 0.9


def test_a_unit_that_suits_nobody_is_done_all_the_same() -> None:
    """Catches a rare teacher's batches being put off to the end of a long run."""
    rare = batch(999_999, ("rare",))
    scheduler = scheduler_of([batch(0), rare, *(batch(number) for number in range(1, 1000))])
    scheduler.add_actor("a")
    given_out = []
    while rare not in given_out:
        unit = scheduler.assign("a", 0.0)
        assert unit is not None
        scheduler.done("a", unit.id, 0.0, ["t0"])
        given_out.append(unit)
    assert 60 < len(given_out) < 70
