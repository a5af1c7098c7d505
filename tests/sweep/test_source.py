"""The units of several points as one source: each once, in the order of stages, whatever fails."""

from collections.abc import Callable
from typing import Any

import pytest

from prism_ray.errors import IncompleteError, UsageError
from prism_ray.orchestrate.jobs import JobUnit
from prism_ray.run import Ledger, Run, RunProgress
from prism_ray.stages import stage_names, stage_of
from prism_ray.store import Commit, PartFile, StoreFiles, read_commit, write_commit
from prism_ray.store.sweeps import SweepRecord, write_sweep
from prism_ray.sweep.sharing import Lenders, Member, is_shared
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
        member = self.members[unit.number]
        name = f"teachers/{unit.unit.id.replace('/', '-')}"
        member.files.create(name, PART)
        digest = "0" * 64  # of files of this call, which are not hashed again
        parts = (PartFile(name, len(PART), digest),)
        fingerprint = member.run.fingerprint_of(unit.unit.id)
        made = Commit(unit.unit.id, fingerprint, parts, {}, 1.0, "here", "now")
        write_commit(member.files, made)
        self.source.done(unit)
        member.progress.add(made)

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
        assert is_shared(read_commit(member.files, "squeeze/a"))


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
