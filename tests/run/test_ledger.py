"""The ledger: what it saves, and that nothing depends on it."""

import io
import itertools
import uuid
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prism_ray.run import Ledger, Run, RunProgress, new_run, read_progress
from prism_ray.run.ledger import read_ledger
from prism_ray.stages import stage_names
from prism_ray.store import Commit, StoreFiles, layout, revoke
from prism_ray.store.commits import write_commit, write_part
from tests.plans import config_of, facts_of


@pytest.fixture(scope="module")
def run() -> Run:
    """3 classes in batches of 2, IPC 2: 2 teachers, 8 batches, 4 label units, 2 measures, 2 students."""
    config = config_of(
        2,
        recover__ipc=2,
        recover__images_per_batch=2,
        relabel__epochs=4,
        relabel__epochs_per_unit=2,
        evaluate__num_students=1,
    )
    return new_run(config, facts_of(3), 1)


def ids_of(run: Run) -> list[str]:
    return [unit.id for stage in stage_names() for unit in run.plan.units(stage)]


def finish(files: StoreFiles, run: Run, unit_id: str, data: bytes = b"work", seconds: float = 1.0) -> Commit:
    part = write_part(files, lambda attempt: f"images/{unit_id}-{attempt}", data, num_rows=len(data))
    commit = Commit(unit_id, run.fingerprint_of(unit_id), (part,), {"a": 1}, seconds, "here", "now")
    write_commit(files, commit)
    return commit


def put_ledger(files: StoreFiles, *commits: Commit) -> None:
    """Write a file of the ledger."""
    ledger = Ledger(files, min_rows=1)
    for commit in commits:
        ledger.add(commit)
    ledger.close()


def without_ledger(files: StoreFiles, run: Run, *, deep: bool = False) -> RunProgress:
    """Read the progress from the commits alone."""
    for name, _ in list(files.list(layout.LEDGER)):
        files.delete(name)
    return read_progress(files, run, deep=deep)


def test_what_the_ledger_has_is_not_read_again(files: StoreFiles, run: Run) -> None:
    """A run of a million batches that takes two minutes to be resumed."""
    commits = [finish(files, run, unit_id) for unit_id in ids_of(run)]
    put_ledger(files, *commits[:6])
    assert [entry.unit for entry in read_ledger(files)] == [commit.unit for commit in commits[2:6]]
    read: list[str] = []
    progress = read_progress(files, run, take_down=lambda commit: read.append(commit.unit))
    assert progress.complete
    assert set(read) == {commit.unit for commit in commits[6:]}
    assert set(progress.commits) == {unit_id for unit_id in ids_of(run) if not unit_id.startswith("re")}


def test_a_ledger_is_written_when_there_is_enough_for_it(files: StoreFiles, run: Run) -> None:
    """A file for each commit, or a driver that holds a million of them in memory."""
    commits = [finish(files, run, unit_id) for unit_id in ids_of(run) if unit_id.startswith("recover/")]
    ledger = Ledger(files, num_rows=3, min_rows=3)
    sizes = []
    for commit in commits:
        ledger.add(commit)
        sizes.append(len(list(files.list(layout.LEDGER))))
    ledger.close()
    assert sizes == [0, 0, 1, 1, 1, 2, 2, 2]
    assert len(list(files.list(layout.LEDGER))) == 2
    assert {entry.unit for entry in read_ledger(files)} == {commit.unit for commit in commits[:6]}


def test_a_unit_set_back_is_not_done_because_the_ledger_says_so(files: StoreFiles, run: Run) -> None:
    """`verify --repair` without effect: the damaged unit counts on."""
    commits = [finish(files, run, unit_id) for unit_id in ids_of(run)]
    put_ledger(files, *commits)
    batch = next(commit for commit in commits if commit.unit.startswith("recover/"))
    revoke(files, batch.unit)
    assert batch.unit not in read_progress(files, run).done
    again = finish(files, run, batch.unit, b"other work", seconds=22.5)
    assert again.files[0].name != batch.files[0].name
    assert batch.unit in read_progress(files, run).done
    assert read_progress(files, run).figures == without_ledger(files, run).figures


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1"])
def test_a_damaged_ledger_costs_time_only(files: StoreFiles, run: Run, content: bytes) -> None:
    """A run that cannot be resumed, or forgets what it did, because a copy is torn."""
    commits = [finish(files, run, unit_id) for unit_id in ids_of(run)]
    put_ledger(files, *commits)
    ((name, _),) = files.list(layout.LEDGER)
    files.replace(name, content)
    assert read_progress(files, run).complete


@pytest.mark.parametrize(
    "change",
    [
        {"weights": "[]"},
        {"weights": "{"},
        {"weights": None},
        {"names": None},
        {"seconds": None},
        {"sizes": []},
    ],
)
def test_an_entry_of_nonsense_counts_for_nothing(
    files: StoreFiles, run: Run, change: dict[str, object]
) -> None:
    """A traceback from `status`, because somebody has edited a copy."""
    commits = [finish(files, run, unit_id) for unit_id in ids_of(run)]
    put_ledger(files, *commits)
    ((name, _),) = files.list(layout.LEDGER)
    table = pq.read_table(io.BytesIO(files.read(name)))
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([row | change for row in table.to_pylist()], table.schema), sink)
    files.replace(name, sink.getvalue())
    assert read_progress(files, run).complete


def test_no_space_for_the_ledger_ends_no_run(tmp_path: Path, run: Run) -> None:
    """Work lost because a copy of its records could not be written."""
    files = StoreFiles(str(tmp_path))
    commits = [finish(files, run, unit_id) for unit_id in ids_of(run)]
    (tmp_path / layout.LEDGER).write_bytes(b"a file in the folder's place")
    put_ledger(files, *commits)
    assert read_progress(files, run).complete


FATES = st.sampled_from(
    [
        "none",
        "whole",
        "lost part",
        "torn part",
        "torn commit",
        "other run",
        "other weights",
        "revoked",
        "redone",
    ]
)


@settings(deadline=None, max_examples=60)
@given(fates=st.lists(FATES, min_size=21, max_size=21), deep=st.booleans(), data=st.data())
def test_with_or_without_a_ledger_a_run_is_as_far(
    tmp_path_factory: pytest.TempPathFactory, run: Run, fates: list[str], deep: bool, data: st.DataObject
) -> None:
    """A unit that counts, is redone or is summed up only because the ledger remembers it otherwise."""
    files = StoreFiles(str(tmp_path_factory.getbasetemp() / uuid.uuid4().hex))
    commits = []
    for unit_id, fate in zip(ids_of(run), itertools.cycle(fates)):
        if fate == "none":
            continue
        commit = finish(files, run, unit_id)
        if fate in ("other run", "other weights"):
            files.delete(layout.commit(unit_id))
            weights = {"weights": {"a": "0" * 64}}
            commit = (
                replace(commit, fingerprint="x") if fate == "other run" else replace(commit, stats=weights)
            )
            write_commit(files, commit)
        commits.append((commit, fate))
    put_ledger(files, *(commit for commit, _ in commits if data.draw(st.booleans())))
    for commit, fate in commits:
        part, name = commit.files[0], layout.commit(commit.unit)
        if fate == "lost part":
            files.delete(part.name)
        elif fate == "torn part":
            files.replace(part.name, b"wor")
        elif fate == "torn commit":
            files.replace(name, files.read(name)[:-5])
        elif fate in ("revoked", "redone"):
            revoke(files, commit.unit)
            if fate == "redone":
                finish(files, run, commit.unit, b"other work", seconds=22.5)
    with_ledger = read_progress(files, run, deep=deep)
    without = without_ledger(files, run, deep=deep)
    assert set(with_ledger.done) == set(without.done)
    assert with_ledger.stages == without.stages
    assert with_ledger.damaged == without.damaged
    assert with_ledger.figures == without.figures
    assert with_ledger.commits == without.commits
