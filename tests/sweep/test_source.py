"""The units of several points as one source: each once, in the order of stages, whatever fails."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from prism_ray.errors import IncompleteError, UsageError
from prism_ray.orchestrate.actor import UnitDone
from prism_ray.orchestrate.dispatch import Dispatcher
from prism_ray.orchestrate.jobs import Job, JobUnit
from prism_ray.orchestrate.losses import Losses
from prism_ray.orchestrate.scaling import Shape
from prism_ray.run import Ledger, Run, RunProgress
from prism_ray.stages import stage_names, stage_of
from prism_ray.store import (
    Commit,
    Failure,
    PartFile,
    StoreFiles,
    read_commit,
    read_failures,
    units_set_aside,
    write_commit,
)
from prism_ray.store.sweeps import SweepRecord, write_sweep
from prism_ray.sweep.sharing import Lenders, Member
from prism_ray.sweep.source import ActivePoint, SweepSource

PART = b"a part"


class World:
    """Some points with stores, whose units are committed by hand as an actor would."""

    def __init__(self, folder: StoreFiles, runs: dict[str, Run]) -> None:
        write_sweep(folder, SweepRecord("s", {name: {} for name in runs}))
        self.members = [
            Member(name, StoreFiles(f"{folder.location}/{name}"), run, RunProgress(run.plan, {}))
            for name, run in runs.items()
        ]
        self.lenders = Lenders(self.members)
        self.taken: list[str] = []
        self.ended: list[str] = []
        self.points = [
            ActivePoint(number, member, Ledger(member.files), set(), self._check)
            for number, member in enumerate(self.members)
        ]
        self.source = SweepSource(
            self.points,
            self.lenders,
            lambda point, commit: self.taken.append(f"{point.member.folder}:{commit.unit}"),
            lambda point: self.ended.append(point.member.folder),
        )

    def _check(self, names: Any, left_out: set[str]) -> None:
        if any(stage_of(unit) in names for unit in left_out):
            raise IncompleteError("left out")

    def take_all(self) -> list[JobUnit]:
        found = []
        while (unit := self.source.take()) is not None:
            assert isinstance(unit, JobUnit)
            found.append(unit)
        return found

    def commit(self, unit: JobUnit) -> None:
        made = self.make(unit)
        self.source.done(unit)
        self.members[unit.number].progress.add(made)

    def make(self, unit: JobUnit) -> Commit:
        """Write a unit's part and commit, as an actor does."""
        member = self.members[unit.number]
        name = f"teachers/{unit.unit.id.replace('/', '-')}"
        member.files.create(name, PART)
        digest = "0" * 64  # of files of this call, which are not hashed again
        parts = (PartFile(name, len(PART), digest),)
        fingerprint = member.run.fingerprint_of(unit.unit.id)
        made = Commit(unit.unit.id, fingerprint, parts, {}, 1.0, "here", "now")
        write_commit(member.files, made)
        return made

    def work_off(self) -> list[str]:
        """Commit all units as they come; return their ids."""
        made = []
        while units := self.take_all():
            for unit in units:
                made.append(unit.id)
                self.commit(unit)
        return made


@pytest.fixture
def world(local: StoreFiles, make_run: Callable[..., Run]) -> World:
    """Two points that differ in a setting of recover, and one that differs from the first in the students."""
    runs = {
        "s.a": make_run(recover__bn_weight=0.1),
        "s.b": make_run(recover__bn_weight=1.0),
        "s.c": make_run(recover__bn_weight=0.1, evaluate__loss="kl"),
    }
    return World(local, runs)


def test_each_unit_is_made_once_and_all_points_end(world: World) -> None:
    """Catches a teacher squeezed three times, and a point that waits for ever."""
    made = world.work_off()
    assert world.ended == ["s.a", "s.b", "s.c"] or set(world.ended) == {"s.a", "s.b", "s.c"}
    assert len(made) == len(set(made))
    assert [unit for unit in made if stage_of(unit) == "squeeze"] == ["squeeze/0:a", "squeeze/0:b"]
    assert all(member.progress.complete for member in world.members)
    of_c = [unit for unit in made if "/2:" in unit]
    assert {stage_of(unit) for unit in of_c} == {"evaluate"}
    order = {name: number for number, name in enumerate(stage_names())}
    firsts = [order[stage_of(unit)] for unit in made]
    assert firsts[:2] == [0, 0]
    for member in world.members[1:]:
        assert read_commit(member.files, "squeeze/a").is_shared


def test_a_point_waits_only_for_what_it_shares(world: World) -> None:
    """Catches actors that idle while a point could go on."""
    first = world.take_all()
    assert [unit.id for unit in first] == ["squeeze/0:a", "squeeze/0:b"]
    world.commit(first[0])
    assert world.take_all() == []  # all need the second teacher
    assert world.taken == ["s.b:squeeze/a", "s.c:squeeze/a"]
    world.commit(first[1])
    ready = {(unit.number, stage_of(unit.unit.id)) for unit in world.take_all()}
    assert (0, "recover") in ready
    assert (1, "recover") in ready
    assert 2 not in {number for number, _ in ready}  # its images are those of the first


def test_a_unit_that_fails_ends_the_points_that_need_it(world: World) -> None:
    """Catches a sweep that never ends, and a point that is called complete without its teacher."""
    one, other = world.take_all()
    world.source.set_aside(one)
    world.commit(other)
    assert world.take_all() == []
    errors = [str(point.error) for point in world.points]
    assert errors[0] == "left out"
    assert all("squeeze/a failed at the point s.a" in error for error in errors[1:])
    assert set(world.ended) == {"s.a", "s.b", "s.c"}


def test_a_point_that_ends_early_leaves_its_units_to_the_others(world: World) -> None:
    """Catches points that wait for a point that has ended, or that end with it."""
    first = world.take_all()
    world.source.fail(0, UsageError("too large for the device"))
    assert world.source.is_over(first[0])
    assert "s.a" not in world.ended
    made = world.work_off()
    assert "squeeze/1:a" in made
    assert [point.error is None for point in world.points] == [False, True, True]
    assert [member.progress.complete for member in world.members] == [False, True, True]
    world.commit(first[0])  # an actor was still at it
    assert world.take_all() == []
    assert set(world.ended) == {"s.a", "s.b", "s.c"}


def test_units_set_aside_before_are_not_asked_of_others(
    local: StoreFiles, make_run: Callable[..., Run]
) -> None:
    """Catches a point that cannot go on because of the record of another one."""
    world = World(local, {"s.a": make_run(), "s.b": make_run(evaluate__loss="kl")})
    world.points[0].left_out.add("squeeze/a")
    made = world.work_off()
    assert "squeeze/1:a" in made
    assert world.points[0].error is not None
    assert world.points[1].error is None


class Hands:
    """Actors without Ray: two that do what they are given at once, or fail at it."""

    max_actors = 2
    names = ready = ("x", "y")

    def __init__(self, world: World, failure_at: Callable[[JobUnit], Exception | None]) -> None:
        self._world = world
        self._failure_at = failure_at
        self._given: list[tuple[str, JobUnit]] = []
        self.given: list[str] = []

    def now(self) -> tuple[()]:
        return ()

    def give(self, name: str, unit: JobUnit) -> None:
        self._given.append((name, unit))
        self.given.append(unit.id)

    def answers(self) -> Iterator[tuple[str, JobUnit, UnitDone | Failure]]:
        while self._given:
            name, unit = self._given.pop(0)
            error = self._failure_at(unit)
            if error is not None:
                kind = type(error).__name__
                yield name, unit, Failure(unit.unit.id, kind, str(error), "Traceback", "here")
            else:
                yield name, unit, UnitDone(self._world.make(unit), (), 0, 0)

    def tell_leaving(self) -> dict[str, str]:
        return {}

    def keep_number(self, *num_waiting: int) -> list[str]:
        return []

    def is_shared(self, name: str) -> bool:
        return False

    def begin_jobs(self, runs: Any) -> None: ...
    def stop_unit(self, name: str, unit_id: str) -> None: ...
    def expect_progress(self) -> None: ...
    def end_stage(self) -> None: ...


class Heard:
    """A listener that adds to the progress of its point."""

    def __init__(self, progress: RunProgress) -> None:
        self.progress = progress
        self.failed_units: list[str] = []

    def began(self, unit: Any) -> None: ...
    def message(self, text: str) -> None: ...
    def tick(self, actors: object) -> None: ...

    def done(self, commit: Commit) -> None:
        self.progress.add(commit)

    def failed(self, failure: Failure, again: bool) -> None:
        self.failed_units.append(failure.unit_id)


def dispatch(
    world: World, failure_at: Callable[[JobUnit], Exception | None]
) -> tuple[Hands, Sequence[Heard]]:
    """Let the real dispatcher work off all points."""
    config, files = world.members[0].run.config, world.members[0].files
    heard = [Heard(member.progress) for member in world.members]
    dispatcher = Dispatcher(config, files, Shape(2, 2, 1, 0.0), heard[0], Ledger(files))
    dispatcher.actors = hands = Hands(world, failure_at)  # type: ignore[assignment]
    jobs = [
        Job(
            point.number,
            point.member.run,
            point.member.files,
            heard[point.number],
            point.ledger,
            Losses(config.orchestrate, 2),
            lambda error, number=point.number: world.source.fail(number, error),  # type: ignore[misc]
        )
        for point in world.points
    ]
    dispatcher.do_jobs(jobs, world.source)
    return hands, heard


def test_the_dispatcher_works_off_all_points(world: World) -> None:
    """Catches commits that are told to another point, and a loop that does not end."""
    hands, heard = dispatch(world, lambda unit: None)
    assert len(hands.given) == len(set(hands.given))
    assert all(each.progress.complete for each in heard)
    assert [point.error for point in world.points] == [None, None, None]


def test_a_unit_that_keeps_failing_is_set_aside_at_its_point(world: World) -> None:
    """Catches a failure recorded in another store or under another id, and a sweep that ends with it."""

    def failure_at(unit: JobUnit) -> Exception | None:
        is_wrong = unit.number == 1 and unit.unit.id.startswith("recover/distilled/")
        return RuntimeError("not finite") if is_wrong else None

    _, heard = dispatch(world, failure_at)
    assert [each.progress.complete for each in heard] == [True, False, True]
    files = world.members[1].files
    aside = units_set_aside(files)
    assert aside
    assert all(unit.startswith("recover/distilled/i") for unit in aside)
    attempts = [failure.unit_id for failure in read_failures(files)]
    max_attempts = world.members[1].run.config.orchestrate.max_attempts
    assert attempts.count(aside[0]) == max_attempts
    assert heard[1].failed_units.count(aside[0]) == max_attempts
    assert not units_set_aside(world.members[0].files)
    assert isinstance(world.points[1].error, IncompleteError)


def test_wrong_input_of_a_point_ends_that_point_alone(world: World) -> None:
    """Catches a batch that is too large for the device and ends all points, or is tried again for ever."""

    def failure_at(unit: JobUnit) -> Exception | None:
        return UsageError("too large") if unit.number == 0 and stage_of(unit.unit.id) == "recover" else None

    hands, heard = dispatch(world, failure_at)
    assert str(world.points[0].error) == "too large"
    assert [each.progress.complete for each in heard] == [False, True, True]
    assert sum(unit.startswith("recover/0:") for unit in hands.given) <= 4  # those that actors had already
