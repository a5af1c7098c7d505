"""Parts taken from other points: only whole ones, only of the same settings and weights."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from prism_ray.run import Run, RunProgress
from prism_ray.store import Commit, PartFile, StoreFiles, read_commit, read_part, write_commit
from prism_ray.store.sweeps import SweepRecord, write_sweep
from prism_ray.sweep.sharing import Lenders, Member, num_to_take, shares

SQUEEZE, BATCH = "squeeze/a", "recover/distilled/i00000-c00000"


@pytest.fixture
def members(files: StoreFiles, make_run: Callable[..., Run]) -> list[Member]:
    """Three points with the same settings; all commits are made by the tests."""
    write_sweep(files, SweepRecord("s", {"s.a": {}, "s.b": {}, "s.c": {}}))
    run = make_run()
    return [
        Member(name, StoreFiles(f"{files.location}/{name}"), run, RunProgress(run.plan, {}))
        for name in ("s.a", "s.b", "s.c")
    ]


def commit(member: Member, unit_id: str, data: bytes = b"weights", **stats: object) -> Commit:
    name = f"teachers/{unit_id.replace('/', '-')}-0.safetensors"
    member.files.create(name, data)
    part = PartFile(name, len(data), hashlib.sha256(data).hexdigest())
    made = Commit(unit_id, member.fingerprint_of(unit_id), (part,), dict(stats), 2.0, "here", "now")
    write_commit(member.files, made)
    member.progress.add(made)
    return made


def test_a_commit_refers_to_the_file_of_the_one_that_has_it(members: list[Member]) -> None:
    """Catches a copy, a reference to a reference, and a point that refers to itself."""
    a, b, c = members
    made = commit(a, SQUEEZE)
    lenders = Lenders(members)
    taken = lenders.take(b, SQUEEZE)
    assert taken is not None
    assert taken.files[0].name == f"elsewhere/s.a/{made.files[0].name}"
    assert replace(taken, files=made.files) == made
    assert read_part(b.files, read_commit(b.files, SQUEEZE).files[0]) == b"weights"
    assert list(b.files.list("teachers")) == []
    b.progress.add(taken)

    a.files.delete("commits/squeeze/a.json")
    del a.progress.sizes[SQUEEZE]
    assert Lenders(members).take(c, SQUEEZE) == taken
    assert Lenders(members).take(a, SQUEEZE) == made


def test_a_damaged_part_is_not_taken(members: list[Member]) -> None:
    """Catches damage of one point that spreads to the others, and to each again after its repair."""
    a, b, c = members
    part = commit(a, SQUEEZE).files[0]
    a.files.replace(part.name, b"WEIGHTS")
    assert Lenders(members).take(b, SQUEEZE) is None
    commit(c, SQUEEZE)
    taken = Lenders(members).take(b, SQUEEZE)
    assert taken is not None
    assert taken.files[0].name.startswith("elsewhere/s.c/")
    a.files.delete(part.name)
    assert Lenders([a, b]).take(b, SQUEEZE) is None


def test_a_unit_made_with_other_weights_is_not_taken(members: list[Member]) -> None:
    """Catches images of another teacher in a run: on two kinds of machines weights differ."""
    a, b, _ = members
    mine = commit(b, SQUEEZE, b"other weights")
    commit(a, BATCH, b"images", weights={"a": "0" * 64})
    assert Lenders(members).take(b, BATCH) is None
    commit(members[2], BATCH, b"images", weights={"a": mine.files[0].sha256})
    assert Lenders(members).take(b, BATCH) is not None


def test_other_settings_have_other_units(members: list[Member], make_run: Callable[..., Run]) -> None:
    """Catches a unit that is taken because only its name is the same."""
    a, b, _ = members
    commit(a, BATCH)
    run = make_run(recover__bn_weight=0.5)
    other = Member("s.b", b.files, run, RunProgress(run.plan, {}))
    assert Lenders([a, other]).take(other, BATCH) is None


def test_a_forecast_counts_what_is_shared(members: list[Member], make_run: Callable[..., Run]) -> None:
    """Catches a forecast that promises more sharing than there is."""
    run = make_run(recover__bn_weight=0.5)
    other = Member("s.x", members[0].files, run, RunProgress(run.plan, {}))
    found = shares([*members[:2], other])
    assert found["s.a"]["squeeze"] == 0
    assert found["s.b"] == {stage.stage: stage.num_units for stage in other.progress.stages}
    assert found["s.x"]["squeeze"] == 2
    num_batches = next(stage.num_units for stage in other.progress.stages if stage.stage == "recover")
    assert 0 < found["s.x"]["recover"] < num_batches  # those of the control


def test_what_is_taken_is_known_before(members: list[Member], make_run: Callable[..., Run]) -> None:
    """Catches an estimate of a sweep that counts units which nobody has to make, or forgets some."""
    num_units = sum(stage.num_units for stage in members[0].progress.stages)
    assert num_to_take(members[:2], members[:2]).total() == num_units  # all of the second point
    run = make_run(recover__bn_weight=0.5)
    other = Member("s.x", members[0].files, run, RunProgress(run.plan, {}))
    assert num_to_take([other], [other]).total() == 0
    members[0].progress.sizes[SQUEEZE] = -1  # it has this one, and is not in the call
    assert num_to_take([other], members[:1]) == {"squeeze": 1}
