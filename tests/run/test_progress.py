"""How far a run is, from its commits alone."""

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from prism_ray.run import Run, read_progress, save_run
from prism_ray.stages import Unit, stage_names
from prism_ray.store import Commit, StoreFiles, layout, write_commit, write_part
from prism_ray.store.commits import sha256_of_file
from tests import filled


def finish(files: StoreFiles, run: Run, unit: Unit, data: bytes = b"work") -> str:
    """Commit a unit with one file; return the file's name."""
    part = write_part(files, lambda attempt: f"files/{unit.id}-{attempt}", data)
    write_commit(files, Commit(unit.id, run.fingerprint_of(unit.id), (part,), {"a": 1}, 1.0, "here", "now"))
    return part.name


@pytest.fixture
def run(make_run: Callable[..., Run]) -> Run:
    """3 classes in batches of 2, IPC 2: 2 teachers, 8 batches, 4 label units, 2 measures, 2 students."""
    return make_run(recover__images_per_batch=2)


def counts(files: StoreFiles, run: Run) -> list[tuple[int, int]]:
    return [(stage.num_done, stage.num_units) for stage in read_progress(files, run).stages]


def test_an_empty_store_has_done_nothing(files: StoreFiles, run: Run) -> None:
    """A fresh run that is complete, because no unit is missing among none."""
    progress = read_progress(files, run)
    assert [stage.stage for stage in progress.stages] == list(stage_names())
    assert counts(files, run) == [(0, 2), (0, 0), (0, 8), (0, 4), (0, 2), (0, 2)]
    assert not progress.complete
    assert [stage.stage for stage in progress.stages if stage.complete] == ["collect"]  # has no units
    assert (set(progress.done), progress.damaged) == (set(), {})


def test_finished_units_are_counted_in_their_stage(files: StoreFiles, run: Run) -> None:
    """Progress that counts files, attempts or the other image set."""
    units = {stage: list(run.plan.units(stage)) for stage in stage_names()}
    done = [*units["squeeze"], *units["recover"][5:7], units["relabel"][0]]
    for unit in done:
        finish(files, run, unit)
    assert counts(files, run) == [(2, 2), (0, 0), (2, 8), (1, 4), (0, 2), (0, 2)]
    progress = read_progress(files, run)
    assert [stage.complete for stage in progress.stages] == [True, True, False, False, False, False]
    assert set(progress.done) == {unit.id for unit in done}
    assert progress.commits[done[0].id].stats == {"a": 1}
    assert not progress.complete


def test_a_run_is_complete_when_every_unit_is(files: StoreFiles, run: Run) -> None:
    """Exit code 0 with one student missing; or 3 with all there."""
    units = list(itertools.chain.from_iterable(run.plan.units(stage) for stage in stage_names()))
    for unit in units[:-1]:
        finish(files, run, unit)
    assert not read_progress(files, run).complete
    finish(files, run, units[-1])
    assert read_progress(files, run).complete


def test_a_unit_with_a_missing_or_resized_file_is_not_done(files: StoreFiles, run: Run) -> None:
    """Images that the next stage does not find, though `status` says complete."""
    first, second, third = itertools.islice(run.plan.units("recover"), 3)
    missing, resized, _ = (finish(files, run, unit) for unit in (first, second, third))
    files.delete(missing)
    files.replace(resized, b"longer than before")
    progress = read_progress(files, run)
    assert progress.damaged == {
        first.id: f"{missing} is missing",
        second.id: f"{resized} has 18 bytes, its commit says 4",
    }
    assert list(progress.done) == [third.id]
    assert counts(files, run)[2] == (1, 8)


def test_altered_bytes_are_found_by_the_deep_look(files: StoreFiles, run: Run) -> None:
    """`verify --deep` that does not hash, or `status` that reads every byte of the store."""
    unit = next(run.plan.units("recover"))
    name = finish(files, run, unit, b"abcd")
    files.replace(name, b"abcx")
    assert read_progress(files, run).damaged == {}
    deep = read_progress(files, run, deep=True)
    assert deep.damaged == {unit.id: f"{name} has another SHA-256 than its commit says"}
    assert deep.stages[2].num_done == 0


def test_the_deep_look_hashes_each_file_once(
    files: StoreFiles, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a `verify` that reads 30 GB of labels three times: for two hashes, and to decode."""
    filled.finish(files, run)
    hashed: Counter[str] = Counter()

    def counted(files: StoreFiles, name: str) -> str:
        hashed[name] += 1
        return sha256_of_file(files, name)

    for module in ("run.progress", "store.commits"):
        monkeypatch.setattr(f"prism_ray.{module}.sha256_of_file", counted)
    progress = read_progress(files, run, deep=True)
    assert progress.complete
    labels = {name: count for name, count in hashed.items() if "labels/" in name}
    assert len(labels) == len(list(run.plan.units("relabel")))
    assert set(labels.values()) == {1}


def test_the_deep_look_sees_what_a_later_config_left_out(
    files: StoreFiles, make_run: Callable[..., Run]
) -> None:
    """`verify` that calls a store whole while images of a set that will be asked for again are rotten."""
    both = save_run(files, make_run(image_sets={"ours": {}, "theirs": {"method": "sre2l"}}))
    first, second = itertools.islice(both.plan.units("recover", "theirs"), 2)
    finish(files, both, first)
    rotten = finish(files, both, second, b"abcd")
    files.replace(rotten, b"abcx")
    run = save_run(files, make_run(image_sets={"ours": {}}))
    assert "recover/theirs" in run.scopes
    assert read_progress(files, run).damaged == {}
    assert read_progress(files, run).num_others == {"recover/theirs": 2}
    deep = read_progress(files, run, deep=True)
    assert deep.num_others == {}
    assert deep.damaged.keys() == {first.id, second.id}
    assert "not a Parquet file" in deep.damaged[first.id]  # as committed, but no images
    assert deep.damaged[second.id] == f"{rotten} has another SHA-256 than its commit says"


def test_a_commit_of_another_run_is_damaged(
    files: StoreFiles, run: Run, make_run: Callable[..., Run]
) -> None:
    """Images of other settings counted as this run's."""
    unit = next(run.plan.units("recover"))
    finish(files, make_run(recover__images_per_batch=2, seed=1), unit)
    progress = read_progress(files, run)
    assert progress.damaged == {unit.id: "it was committed by a run with other settings"}
    assert not progress.done


def test_work_done_with_other_weights_is_done_again(files: StoreFiles, run: Run) -> None:
    """A teacher squeezed anew under other versions: half of the images are of one, half of the other."""
    squeeze = next(run.plan.units("squeeze"))
    finish(files, run, squeeze, b"new weights")
    sha256 = read_progress(files, run).commits[squeeze.id].files[0].sha256
    batches = list(itertools.islice(run.plan.units("recover"), 2))
    for unit, used in zip(batches, (sha256, "0" * 64), strict=True):
        part = write_part(files, lambda attempt, unit=unit: f"files/{unit.id}-{attempt}", b"work")
        stats = {"weights": {squeeze.teacher: used}}
        write_commit(files, Commit(unit.id, run.fingerprint_of(unit.id), (part,), stats, 1.0, "here", "now"))
    progress = read_progress(files, run)
    assert list(progress.damaged) == [batches[1].id]
    assert "other weights of teacher a" in progress.damaged[batches[1].id]


@pytest.mark.parametrize("content", [b"", b"[]", b'{"unit": 1}', b"\xff"])
def test_a_damaged_commit_is_reported_and_the_others_count(
    files: StoreFiles, run: Run, content: bytes
) -> None:
    """One broken commit among a thousand that ends `status` with a traceback."""
    broken, whole = itertools.islice(run.plan.units("recover"), 2)
    files.create(layout.commit(broken.id), content)
    finish(files, run, whole)
    progress = read_progress(files, run)
    assert list(progress.damaged) == [broken.id]
    assert ".json is damaged: " in progress.damaged[broken.id]
    assert list(progress.done) == [whole.id]


def test_a_commit_that_names_a_path_below_a_file_is_damaged(local: StoreFiles, run: Run) -> None:
    """NotADirectoryError from `status` for a commit that was edited or forged."""
    unit, whole = itertools.islice(run.plan.units("recover"), 2)
    name = finish(local, run, whole)
    part = write_part(local, lambda attempt: f"other-{attempt}", b"work")
    below = replace(part, name=f"{name}/x")
    write_commit(local, Commit(unit.id, run.fingerprint_of(unit.id), (below,), {}, 1.0, "here", "now"))
    assert list(read_progress(local, run).damaged) == [unit.id]


def test_commits_of_no_unit_of_the_plan_do_not_count(files: StoreFiles, run: Run) -> None:
    """Units left by another plan that lift the count above the whole."""
    files.create(layout.commit("recover/distilled/i99999-c00000"), b"{}")
    progress = read_progress(files, run)
    assert (set(progress.done), progress.damaged) == (set(), {})


def test_reading_the_progress_changes_nothing(local: StoreFiles, run: Run) -> None:
    """`status` that makes folders or files in somebody else's store."""
    save_run(local, run)
    finish(local, run, next(run.plan.units("recover")))
    before = sorted(Path(local.location).rglob("*"))
    read_progress(local, run, deep=True)
    assert sorted(Path(local.location).rglob("*")) == before
