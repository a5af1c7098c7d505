"""The commit protocol: parts first, then the commit that makes them count."""

import hashlib
import json
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from prism_ray.errors import NewerStoreError, StoreError
from prism_ray.store import (
    Commit,
    PartFile,
    StoreFiles,
    layout,
    read_commit,
    revoke,
    write_commit,
    write_part,
)
from prism_ray.store.commits import find_damage, list_commits, recode_commit, sha256_of_file

UNIT = "recover/distilled/i00000-c00000"


def name_of(attempt: int) -> str:
    return f"images/part-{attempt}.parquet"


def commit_of(*parts: PartFile, unit: str = UNIT, host: str = "here") -> Commit:
    return Commit(
        unit=unit,
        fingerprint="abc",
        files=parts,
        stats={"loss_ce": 0.25, "none": None, "nested": {"a": [1, 2]}},
        seconds=1.5,
        host=host,
        finished_at="2026-01-31T00:00:00+00:00",
    )


def put(files: StoreFiles, unit: str, content: bytes) -> None:
    """Write arbitrary bytes as a unit's commit."""
    files.create(layout.commit(unit), content)


def damage(files: StoreFiles, commit: Commit, *, deep: bool = False) -> str | None:
    def sha256_of(part: PartFile) -> str:
        return sha256_of_file(files, part.name)

    return find_damage(commit, lambda name, _: files.size(name), sha256_of if deep else None)


# Parts


def test_a_part_is_described_by_its_bytes(files: StoreFiles) -> None:
    """A commit that vouches for other bytes than were written."""
    part = write_part(files, name_of, b"hello", num_rows=3)
    assert part == PartFile(name_of(0), 5, hashlib.sha256(b"hello").hexdigest(), 3)
    assert files.read(part.name) == b"hello"


def test_an_attempt_adopts_its_very_bytes(files: StoreFiles) -> None:
    """A retry after a crash between part and commit that writes the same megabytes again."""
    first = write_part(files, name_of, b"same")
    assert write_part(files, name_of, b"same") == first
    assert [name for name, _ in files.list("images")] == [name_of(0)]


def test_other_bytes_go_under_the_next_name(files: StoreFiles) -> None:
    """A part overwritten under a commit that names it; equal sizes taken for equal bytes."""
    parts = [write_part(files, name_of, data) for data in (b"aaaa", b"bbbb", b"longer")]
    assert [part.name for part in parts] == [name_of(0), name_of(1), name_of(2)]
    assert write_part(files, name_of, b"bbbb") == parts[1]
    assert [files.read(part.name) for part in parts] == [b"aaaa", b"bbbb", b"longer"]


# Commits


def test_a_commit_is_read_back_equal(files: StoreFiles) -> None:
    """A statistic that is lost or changes its type, or parts in another order."""
    commit = commit_of(PartFile("b", 1, "x" * 64, 10), PartFile("a", 2, "y" * 64))
    assert write_commit(files, commit) is True
    assert read_commit(files, UNIT) == commit
    assert commit.num_bytes == 3


def test_the_first_commit_wins(files: StoreFiles) -> None:
    """A late attempt that takes the unit away from the one that is already labelled."""
    assert write_commit(files, commit_of(host="first"))
    assert write_commit(files, commit_of(host="second")) is False
    assert read_commit(files, UNIT).host == "first"


def test_a_commit_is_json_for_everyone(files: StoreFiles) -> None:
    """NaN in a commit, which only Python reads: no other tool could read the run's state."""
    commit = commit_of()
    commit.stats["loss_ce"] = float("nan")
    with pytest.raises(ValueError, match="JSON"):
        write_commit(files, commit)
    assert list(list_commits(files)) == []


def test_a_commit_too_large_to_be_read_is_not_written(files: StoreFiles) -> None:
    """Catches a unit of so many files that its commit counts as damaged, and is done again for ever."""
    part = PartFile("images/00000/00000-0.png", 1000, "a" * 64)
    assert write_commit(files, commit_of(*[part] * 10_000, unit="recover/a/b"))
    assert len(read_commit(files, "recover/a/b").files) == 10_000
    with pytest.raises(StoreError, match=r"the commit of .* would have .* lower images_per_batch"):
        write_commit(files, commit_of(*[part] * 30_000))
    assert not files.exists(layout.commit(UNIT))


def test_a_revoked_unit_is_pending_again(files: StoreFiles) -> None:
    """A unit that can never be redone, or whose part goes with its commit."""
    part = write_part(files, name_of, b"x")
    write_commit(files, commit_of(part))
    revoke(files, UNIT)
    revoke(files, UNIT)
    assert list(list_commits(files)) == []
    assert files.exists(part.name)
    assert write_commit(files, commit_of(part, host="again"))


def test_a_unit_whose_part_became_a_folder_is_done_again(local: StoreFiles) -> None:
    """Catches a run that ends because it cannot delete what it need not delete."""
    part = write_part(local, name_of, b"pixels")
    write_commit(local, commit_of(part))
    path = Path(local.path(part.name))
    path.unlink()
    (path / "mine").mkdir(parents=True)
    assert damage(local, read_commit(local, UNIT)) == "images/part-0.parquet is missing"
    revoke(local, UNIT)
    assert write_part(local, name_of, b"pixels").name == "images/part-1.parquet"
    assert (path / "mine").is_dir()


def test_list_commits_are_listed_by_id(files: StoreFiles) -> None:
    """Ids with a suffix or a folder too many: finished units are done again."""
    units = ["squeeze/resnet", "recover/random-real/i0-c0", UNIT, "evaluate/distilled/s000"]
    assert list(list_commits(files)) == []
    for unit in units:
        write_commit(files, commit_of(unit=unit))
    files.create("commits/README.txt", b"not a commit")
    assert list(list_commits(files)) == sorted(units)


def test_a_missing_commit_is_a_store_error(files: StoreFiles) -> None:
    """FileNotFoundError when a commit is revoked between listing and reading."""
    with pytest.raises(StoreError, match="is missing; run"):
        read_commit(files, UNIT)


GOOD: dict[str, Any] = {
    "unit": UNIT,
    "fingerprint": "abc",
    "files": [{"name": "a", "num_bytes": 1, "sha256": "0", "num_rows": None}],
    "stats": {},
    "seconds": 1.0,
    "host": "here",
    "finished_at": "now",
}
BAD: dict[str, Any] = {
    "list": [GOOD],
    "number": 5,
    "null": None,
    "empty": {},
    "no files": {k: v for k, v in GOOD.items() if k != "files"},
    "no unit": {k: v for k, v in GOOD.items() if k != "unit"},
    "another unit": GOOD | {"unit": "squeeze/a"},
    "files a number": GOOD | {"files": 5},
    "files null": GOOD | {"files": None},
    "file a text": GOOD | {"files": ["a"]},
    "file without hash": GOOD | {"files": [{"name": "a", "num_bytes": 1}]},
    "file outside": GOOD | {"files": [{"name": "../../etc/passwd", "num_bytes": 1, "sha256": "0"}]},
    "file absolute": GOOD | {"files": [{"name": "/etc/passwd", "num_bytes": 1, "sha256": "0"}]},
    "file a number": GOOD | {"files": [{"name": 5, "num_bytes": 1, "sha256": "0"}]},
    "file of a negative size": GOOD | {"files": [{"name": "a", "num_bytes": -1, "sha256": "0"}]},
    "file of a terabyte": GOOD | {"files": [{"name": "a", "num_bytes": 2**40, "sha256": "0"}]},
    "file of a size as text": GOOD | {"files": [{"name": "a", "num_bytes": "1", "sha256": "0"}]},
    "stats a list": GOOD | {"stats": [1]},
    "seconds as text": GOOD | {"seconds": "1"},
    "file with a NUL": GOOD | {"files": [{"name": "a\0b", "num_bytes": 1, "sha256": "0"}]},
}


def test_the_good_commit_of_these_tests_is_good(files: StoreFiles) -> None:
    """Every damaged commit below refused for a reason other than its damage."""
    put(files, UNIT, json.dumps(GOOD).encode())
    assert read_commit(files, UNIT).files[0].name == "a"


@pytest.mark.parametrize("values", BAD.values(), ids=BAD.keys())
def test_a_damaged_commit_is_named_with_the_remedy(local: StoreFiles, values: object) -> None:
    """A traceback in `status`; or a path from a file of the store that leads out of it."""
    put(local, UNIT, json.dumps(values).encode())
    with pytest.raises(StoreError) as caught:
        read_commit(local, UNIT)
    message = str(caught.value)
    assert message.startswith(f"{local.location}/commits/{UNIT}.json is damaged: ")
    assert f"`prism-ray verify --repair {local.location}`" in message


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"null", b"[" * 100, bytes(100)])
def test_a_commit_that_is_no_json_is_a_store_error(files: StoreFiles, content: bytes) -> None:
    """A power cut that leaves a file of zeros ends every later command."""
    put(files, UNIT, content)
    with pytest.raises(StoreError, match=r"\.json is damaged"):
        read_commit(files, UNIT)


def test_keys_of_a_later_version_are_passed_over_and_kept(files: StoreFiles) -> None:
    """A unit done again because a newer version notes more of it; or `compact` that drops what it noted."""
    part = {"name": "a", "num_bytes": 1, "sha256": "0", "codec": "new"}
    put(files, UNIT, json.dumps(GOOD | {"extra": 1, "format": 1, "files": [part]}).encode())
    commit = read_commit(files, UNIT)
    again = json.loads(recode_commit(files, replace(commit, seconds=2.0)))
    assert (again["extra"], again["seconds"], again["unit"]) == (1, 2.0, UNIT)


def test_a_commit_of_a_newer_format_is_refused_by_name(files: StoreFiles) -> None:
    """A unit of a newer version taken for damaged, and done again."""
    put(files, UNIT, json.dumps(GOOD | {"format": 2}).encode())
    with pytest.raises(NewerStoreError, match=r"\.json has format 2, .*upgrade prism-ray"):
        read_commit(files, UNIT)


PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stores")


@settings(deadline=None, max_examples=100)
@given(
    changes=st.dictionaries(st.sampled_from([*GOOD, "extra"]), PLAIN, max_size=3), name=st.text(max_size=8)
)
@example(changes={}, name="a\0b")
@example(changes={"files": []}, name="a")
def test_whatever_a_commit_holds_only_store_errors_come_out(
    shared: Path, changes: dict[str, Any], name: str
) -> None:
    """One hostile or damaged commit that stops `status` for the whole run."""
    files = StoreFiles(str(shared / uuid.uuid4().hex))
    values = GOOD | {"files": [{"name": name, "num_bytes": 1, "sha256": "0"}]} | changes
    put(files, UNIT, json.dumps(values).encode())
    try:
        commit = read_commit(files, UNIT)
    except StoreError:
        return
    assert commit.unit == UNIT
    assert damage(files, commit, deep=True) is None or commit.files


# Damage


def truncate(files: StoreFiles, name: str) -> None:
    data = files.read(name)
    files.replace(name, data[:-1])


def alter(files: StoreFiles, name: str) -> None:
    data = files.read(name)
    files.replace(name, bytes([data[0] ^ 1]) + data[1:])


def test_whole_files_have_no_damage(files: StoreFiles) -> None:
    """A sound run said to be damaged and done again."""
    parts = [write_part(files, lambda k: f"a-{k}", b"aaa"), write_part(files, lambda k: f"b-{k}", b"")]
    commit = commit_of(*parts)
    assert damage(files, commit) is None
    assert damage(files, commit, deep=True) is None
    assert damage(files, commit_of(), deep=True) is None


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (StoreFiles.delete, "part-0 is missing"),
        (truncate, "part-0 has 4 bytes, its commit says 5"),
    ],
)
@pytest.mark.parametrize("deep", [False, True])
def test_missing_and_resized_files_are_found(
    files: StoreFiles, harm: Callable[[StoreFiles, str], None], problem: str, deep: bool
) -> None:
    """A unit that counts as done though its part is gone or cut short."""
    part = write_part(files, lambda k: f"part-{k}", b"hello")
    intact = write_part(files, lambda k: f"intact-{k}", b"hello")
    harm(files, part.name)
    assert damage(files, commit_of(intact, part), deep=deep) == problem


def test_altered_bytes_of_the_same_size_are_found_by_the_deep_look_only(files: StoreFiles) -> None:
    """Bit rot that `verify --deep` does not see; or hashing of every part in the quick look."""
    part = write_part(files, lambda k: f"part-{k}", b"hello")
    alter(files, part.name)
    assert damage(files, commit_of(part)) is None
    assert damage(files, commit_of(part), deep=True) == ("part-0 has another SHA-256 than its commit says")
