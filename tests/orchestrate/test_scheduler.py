"""The scheduler as a pure state machine, under sequences of faults that hypothesis makes."""

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from prism_ray.orchestrate.scheduler import Scheduler
from prism_ray.plan import SqueezeUnit


def units(count: int) -> Iterator[SqueezeUnit]:
    for number in range(count):
        yield SqueezeUnit(f"t{number}", seed=number)


@given(
    num_units=st.integers(0, 12),
    num_actors=st.integers(1, 4),
    depth=st.integers(1, 3),
    max_attempts=st.integers(1, 3),
    faults=st.lists(st.sampled_from(["done", "done", "fail", "die"]), max_size=60),
    choices=st.randoms(use_true_random=False),
)
def test_every_unit_ends_exactly_once(
    num_units: int,
    num_actors: int,
    depth: int,
    max_attempts: int,
    faults: list[str],
    choices: object,
) -> None:
    """Catches a unit that is lost with its actor, done twice, or tried more often than allowed."""
    scheduler = Scheduler(units(num_units), max_attempts, depth)
    held: dict[str, list[str]] = {}
    started: dict[str, int] = {}
    finished: list[str] = []
    num_born = 0
    for _ in range(num_actors):
        scheduler.add_actor(f"a{num_born}")
        held[f"a{num_born}"] = []
        num_born += 1
    events = iter(faults)
    while not scheduler.finished:
        for actor, queue in held.items():
            while (unit := scheduler.assign(actor)) is not None:
                queue.append(unit.id)
                assert len(queue) <= depth
        busy = [actor for actor, queue in held.items() if queue]
        assert busy, "units are pending, yet no actor was given any"
        actor = choices.choice(busy)  # type: ignore[attr-defined]
        running = held[actor][0]
        event = next(events, "done")
        if event == "die":
            started[running] = started.get(running, 0) + 1
            lost = scheduler.lost(actor)
            assert lost is not None
            assert lost.id == running
            del held[actor]
            scheduler.add_actor(f"a{num_born}")
            held[f"a{num_born}"] = []
            num_born += 1
        else:
            held[actor].pop(0)
            started[running] = started.get(running, 0) + 1
            if event == "fail":
                again = scheduler.failed(actor, running)
                assert again == (running not in scheduler.set_aside)
            else:
                scheduler.done(actor, running)
                finished.append(running)
    assert sorted(finished + scheduler.set_aside) == sorted(unit.id for unit in units(num_units))
    assert scheduler.num_done == len(finished)
    assert all(count <= max_attempts for count in started.values())
    assert all(started[unit_id] == max_attempts for unit_id in scheduler.set_aside)


def test_units_are_drawn_lazily() -> None:
    """Catches a scheduler that lists all units of a stage, which a million of them would not survive."""
    drawn = []

    def endless() -> Iterator[SqueezeUnit]:
        number = 0
        while True:
            drawn.append(number)
            yield SqueezeUnit(f"t{number}", seed=number)
            number += 1

    scheduler = Scheduler(endless(), max_attempts=3, queue_depth=2)
    scheduler.add_actor("a")
    assert scheduler.assign("a") is not None
    assert scheduler.assign("a") is not None
    assert scheduler.assign("a") is None
    assert len(drawn) <= 3


def test_waiting_units_of_a_dead_actor_cost_no_attempt() -> None:
    """Catches a unit being set aside because it merely waited at an actor that died."""
    scheduler = Scheduler(units(2), max_attempts=1, queue_depth=2)
    scheduler.add_actor("a")
    first, second = scheduler.assign("a"), scheduler.assign("a")
    assert first is not None
    assert second is not None
    scheduler.lost("a")
    assert scheduler.set_aside == [first.id]
    scheduler.add_actor("b")
    assert scheduler.assign("b") == second


def test_plan_order_is_kept() -> None:
    """Catches handing out units out of the plan's order, which would starve the stages that follow."""
    scheduler = Scheduler(units(5), max_attempts=1, queue_depth=5)
    scheduler.add_actor("a")
    given_out = [unit.id for unit in iter(lambda: scheduler.assign("a"), None)]
    assert given_out == [unit.id for unit in units(5)]


def test_a_broken_actor_does_not_use_up_the_attempts() -> None:
    """Catches a failed unit going straight back to the actor that fails everything."""
    scheduler = Scheduler(units(20), max_attempts=3, queue_depth=1)
    scheduler.add_actor("bad")
    scheduler.add_actor("good")
    running = None
    for turn in range(200):
        if (unit := scheduler.assign("bad")) is not None:
            scheduler.failed("bad", unit.id)
        running = running or scheduler.assign("good")
        if turn % 5 == 0 and running is not None:  # the good one works while the bad one fails at once
            scheduler.done("good", running.id)
            running = None
    assert scheduler.finished
    assert scheduler.set_aside == []
    assert scheduler.num_done == 20
