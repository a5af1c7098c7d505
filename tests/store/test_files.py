"""Files of a store: created once and whole, on a folder and behind a URL."""

import errno
import os
import pickle
import resource
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prism_ray.errors import StoreError, UsageError
from prism_ray.locations import STORE_SCHEMES
from prism_ray.store import StoreFiles

OUTSIDE = ["../x", "/x", "a/../b", "", ".", "..", "a/..", "./a", "a//b", "a/", "..\\x", "a\\b"]
OPERATIONS: dict[str, Callable[[StoreFiles, str], object]] = {
    "path": lambda files, name: files.path(name),
    "create": lambda files, name: files.create(name, b"x"),
    "replace": lambda files, name: files.replace(name, b"x"),
    "read": lambda files, name: files.read(name),
    "open": lambda files, name: files.open(name),
    "exists": lambda files, name: files.exists(name),
    "size": lambda files, name: files.size(name),
    "list": lambda files, name: list(files.list(name)),
    "delete": lambda files, name: files.delete(name),
}


def left_in_wip(files: StoreFiles) -> list[str]:
    return [name for name, _ in files.list("wip")]


@contextmanager
def no_file_larger_than(num_bytes: int) -> Iterator[None]:
    """Let writing fail after `num_bytes`, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# Creating


def test_a_created_file_is_read_back(files: StoreFiles) -> None:
    """Bytes changed on the way, or folders that must be made beforehand."""
    data = bytes(range(256)) * 1000
    assert files.create("a/b/c.bin", data)
    assert files.read("a/b/c.bin") == data
    assert files.exists("a/b/c.bin")
    assert files.size("a/b/c.bin") == len(data)
    assert files.create("empty", b"")
    assert (files.read("empty"), files.size("empty")) == (b"", 0)


def test_creating_is_exclusive(files: StoreFiles) -> None:
    """A second attempt that writes over what a commit already names."""
    assert files.create("x", b"first") is True
    assert files.create("x", b"second, and longer") is False
    assert files.read("x") == b"first"


def test_nothing_is_left_aside_after_success(files: StoreFiles) -> None:
    """A wip folder that fills up with copies of every part."""
    files.create("a", b"1")
    files.create("a", b"2")
    files.replace("b", b"1")
    files.replace("b", b"2")
    assert left_in_wip(files) == []


def test_one_of_many_threads_wins(local: StoreFiles) -> None:
    """Two attempts that both believe to have written the file."""

    def attempt(number: int) -> list[bool]:
        return [local.create(f"part-{k}", f"attempt {number}".encode()) for k in range(20)]

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(attempt, range(8)))
    for k in range(20):
        winners = [number for number, won in enumerate(results) if won[k]]
        assert len(winners) == 1
        assert local.read(f"part-{k}") == f"attempt {winners[0]}".encode()
    assert left_in_wip(local) == []


def test_one_of_many_processes_wins(local: StoreFiles, tmp_path: Path) -> None:
    """Exclusive within one process only: two drivers on one store."""
    code = (
        "import os, sys, time\n"
        "from prism_ray.store.files import StoreFiles\n"
        "location, go, number = sys.argv[1:]\n"
        "files = StoreFiles(location)\n"
        "print('ready', flush=True)\n"
        "while not os.path.exists(go): time.sleep(0.001)\n"
        "print(*[k for k in range(50) if files.create(f'part-{k}', number.encode() * 100)])\n"
    )
    go = tmp_path / "go"
    arguments = [sys.executable, "-c", code, local.location, str(go)]
    processes = [
        subprocess.Popen([*arguments, str(number)], stdout=subprocess.PIPE, text=True) for number in range(3)
    ]
    won: list[set[int]] = []
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        go.touch()
        won = [{int(k) for k in process.communicate(timeout=60)[0].split()} for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert sum(len(wins) for wins in won) == 50
    assert set().union(*won) == set(range(50))
    for number, wins in enumerate(won):
        assert all(local.read(f"part-{k}") == str(number).encode() * 100 for k in wins)
    assert left_in_wip(local) == []


def test_a_file_appears_whole_or_not_at_all(local: StoreFiles) -> None:
    """A disk that fills up in the middle of a part: half a file under the final name."""
    with no_file_larger_than(1000), pytest.raises(StoreError) as caught:
        local.create("images/part", bytes(5000))
    assert f"{local.location}/images/part cannot be written: " in str(caught.value)
    assert "run the same command again" in str(caught.value)
    assert not local.exists("images/part")
    assert left_in_wip(local) == []
    assert local.create("images/part", bytes(5000))


def test_a_failed_replacement_keeps_the_old_file(local: StoreFiles) -> None:
    """config.yaml cut short by a full disk."""
    local.replace("config.yaml", b"old")
    with no_file_larger_than(1000), pytest.raises(StoreError, match=r"config\.yaml cannot be written"):
        local.replace("config.yaml", bytes(5000))
    assert local.read("config.yaml") == b"old"
    assert left_in_wip(local) == []


def test_an_unwritable_store_is_named(tmp_path: Path) -> None:
    """NotADirectoryError or PermissionError from deep inside, without the store's name."""
    (tmp_path / "file").write_text("not a folder")
    files = StoreFiles(str(tmp_path / "file" / "run"))
    for write in (files.create, files.replace):
        with pytest.raises(StoreError) as caught:
            write("plan.json", b"x")
        assert f"{files.location}/plan.json cannot be written: " in str(caught.value)


def test_a_name_below_a_file_is_refused(local: StoreFiles) -> None:
    """FileExistsError of a folder taken for 'the file is there': the work would count as written."""
    local.create("a", b"x")
    with pytest.raises(StoreError, match="a/b cannot be written"):
        local.create("a/b", b"x")
    with pytest.raises(StoreError, match="a/b/c cannot be written"):
        local.create("a/b/c", b"x")


def test_an_empty_folder_does_not_stand_in_the_way(local: StoreFiles) -> None:
    """Catches a unit that can never be committed, however often it is repaired and tried again."""
    for write in (local.create, local.replace):
        folder = Path(local.path(f"commits/{write.__name__}.json"))
        folder.mkdir(parents=True)
        assert not local.exists(f"commits/{folder.name}")
        write(f"commits/{folder.name}", b"new")
        assert folder.read_bytes() == b"new"


def test_a_folder_with_things_in_it_stays_and_is_named(local: StoreFiles) -> None:
    """Catches a person's own files that are deleted, or taken for somebody else's commit."""
    folder = Path(local.path("commits/unit.json"))
    (folder / "mine").mkdir(parents=True)
    assert not local.create("commits/unit.json", b"new")
    with pytest.raises(StoreError, match=r"unit.json cannot be read: .*a folder.*move it away"):
        local.read("commits/unit.json")
    assert (folder / "mine").is_dir()


def test_replacing_a_folder_is_refused_and_leaves_nothing_aside(local: StoreFiles) -> None:
    """A copy left in wip/ by each failed attempt."""
    local.create("folder/file", b"x")
    with pytest.raises(StoreError, match="folder cannot be written"):
        local.replace("folder", b"x")
    assert local.read("folder/file") == b"x"
    assert left_in_wip(local) == []


def test_replace_writes_over_and_makes_folders(files: StoreFiles) -> None:
    """A resolved config that stays as it was at the first start."""
    files.replace("a/b", b"a longer first version")
    files.replace("a/b", b"second")
    assert files.read("a/b") == b"second"


# Names


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_outside_the_store_are_refused(files: StoreFiles, name: str) -> None:
    """A commit of a hostile store that names ../../home."""
    with pytest.raises(StoreError) as caught:
        files.path(name)
    assert str(caught.value) == f"{files.location}: {name!r} is not a name inside the store"


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())
def test_every_operation_checks_its_names(
    files: StoreFiles, operation: Callable[[StoreFiles, str], object]
) -> None:
    """One way of reading, overwriting or deleting a file outside the store that forgot the check."""
    for name in ("../x", "/x", "a/../../x"):
        with pytest.raises(StoreError, match="is not a name inside the store"):
            operation(files, name)


@pytest.mark.parametrize("character", ["\0", "\n", "\x1b", "\x7f", "\u202e"])
def test_a_name_with_a_control_character_is_refused(files: StoreFiles, character: str) -> None:
    """ValueError of the operating system for a forged commit, or a name that steers the terminal."""
    with pytest.raises(StoreError, match="is not a name inside the store"):
        files.path(f"a{character}b")


PARTS = st.lists(st.sampled_from(["a", "b.c", "..", ".", "", "...", "..a", "~", "-"]), min_size=1, max_size=5)


@given(parts=PARTS)
def test_an_accepted_name_lies_inside_the_store(parts: list[str]) -> None:
    """A spelling of the way out that the check does not know."""
    files = StoreFiles("/some/store")
    name = "/".join(parts)
    try:
        path = files.path(name)
    except StoreError:
        return
    assert os.path.abspath(path) == path
    assert path.startswith("/some/store/")


def test_the_location_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative store that each actor looks for in its own working directory."""
    monkeypatch.chdir(tmp_path)
    files = StoreFiles("runs/digits")
    assert files.location == str(tmp_path / "runs" / "digits")
    monkeypatch.chdir("/")
    files.create("x", b"1")
    assert (tmp_path / "runs" / "digits" / "x").read_bytes() == b"1"


def test_a_store_pickles_as_its_location(files: StoreFiles) -> None:
    """A store that cannot be handed to an actor, or that arrives there empty."""
    files.create("x", b"1")
    copy = pickle.loads(pickle.dumps(files))
    assert copy.location == files.location
    assert copy.is_local == files.is_local
    assert copy.read("x") == b"1"


def test_a_slash_at_the_end_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same store under two names, one of which finds nothing."""
    monkeypatch.setitem(STORE_SCHEMES, "memory", "fsspec")
    for location in (f"{tmp_path}/run", f"memory://prism-{uuid.uuid4().hex}"):
        StoreFiles(f"{location}/").create("x", b"1")
        assert StoreFiles(location).read("x") == b"1"


# fmt: off
SIGNS = [
    "a::b", "a#b", "a?b", "100%", "%20", "*", "a[0-9]", "{a,b}", "a b", "it's", 'say "x"', "ü-日本", "-x",
    "c:run", "a::s3:b", "x.yaml", "$HOME", "a;b", "a&b", "a|b", "\\x", "`x`", "a,b=c", "!x", "~", "...", 
    "zip:", " a ",
]
# fmt: on


@pytest.mark.parametrize("name", SIGNS)
def test_a_path_is_a_path_whatever_signs_are_in_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--store sp/exp::seed0` wrote to sp/exp: every seed into one store, and not the one that is named."""
    monkeypatch.chdir(tmp_path)
    files = StoreFiles(f"./{name}" if name == "~" else name)
    assert files.location == f"{tmp_path}/{name}"
    files.check_usable()
    files.remove_empty("wip")
    assert files.create("a/b", b"1")
    assert not files.create("a/b", b"2")
    assert (tmp_path / name / "a" / "b").read_bytes() == b"1"
    with files.open("a/b") as file:
        assert file.read() == b"1"
    assert list(files.list("a")) == [("a/b", 1)]
    assert files.written_at("a/b") > 1e9
    files.delete("a/b")
    assert not files.exists("a/b")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_two_names_with_a_common_beginning_are_two_stores(tmp_path: Path) -> None:
    """`sp/exp::seed1` was the store of `sp/exp::seed0`."""
    for seed in range(2):
        assert StoreFiles(f"{tmp_path}/exp::seed{seed}").create("x", str(seed).encode())
    assert StoreFiles(f"{tmp_path}/exp::seed0").read("x") == b"0"


def test_a_missing_s3_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """ImportError of s3fs without a word on which extra brings it."""
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(UsageError, match=r"pip install 'prism-ray\[s3\]'"):
        StoreFiles("s3://bucket/run")


# The trial of the location


def test_a_usable_store_is_left_as_it_was(files: StoreFiles) -> None:
    """A trial that leaves a file, or that refuses a good store."""
    files.create("x", b"1")
    files.check_usable()
    assert left_in_wip(files) == []
    assert files.read("x") == b"1"


@pytest.mark.parametrize("lacking", ["create a file only where none", "list files", "delete files"])
def test_storage_that_lacks_what_a_store_needs_is_refused(
    lacking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Storage that ignores the condition of a write: two attempts that both believe to have committed."""
    monkeypatch.setitem(STORE_SCHEMES, "memory", "fsspec")
    files = StoreFiles(f"memory://prism-{uuid.uuid4().hex}")
    kind = type(files._fs)
    if lacking.startswith("create"):
        write = kind.pipe_file
        monkeypatch.setattr(kind, "pipe_file", lambda self, path, data, mode="": write(self, path, data))
    elif lacking.startswith("list"):
        monkeypatch.setattr(kind, "find", lambda self, path, detail: {})
    else:
        monkeypatch.setattr(kind, "rm_file", lambda self, path: None)
    with pytest.raises(UsageError) as caught:
        files.check_usable()
    assert (
        f"store {files.location!r} cannot be used: it was tried, and the storage does not {lacking}"
        in str(caught.value)
    )
    kind.store.clear()


def test_a_place_that_cannot_be_written_is_wrong_input_and_a_full_disk_is_not(tmp_path: Path) -> None:
    """Exit code 1 for a mistyped path, or 2 for a disk that is full today."""
    (tmp_path / "file").write_text("not a folder")
    for name in ("file", "file/run", "x" * 300):
        with pytest.raises(UsageError, match=r"store '/.*' cannot be used, because it cannot be written: "):
            StoreFiles(str(tmp_path / name)).check_usable()
    with no_file_larger_than(1), pytest.raises(StoreError, match="free some space"):
        StoreFiles(str(tmp_path / "run")).check_usable()


# Reading, listing, deleting


def test_what_is_missing_is_said_so(files: StoreFiles) -> None:
    """FileNotFoundError without the store, in place of an error of this package."""
    assert files.size("no/such") is None
    assert files.exists("no/such") is False
    with pytest.raises(StoreError) as caught:
        files.read("no/such")
    assert f"{files.location}/no/such is missing" in str(caught.value)
    with pytest.raises(StoreError) as caught:
        files.open("no/such")
    assert f"{files.location}/no/such is missing" in str(caught.value)


def test_below_a_file_there_is_nothing(local: StoreFiles) -> None:
    """NotADirectoryError for a commit that names a file as if it were a folder."""
    local.create("a", b"x")
    assert local.exists("a/b") is False
    assert local.size("a/b") is None


def test_an_opened_file_is_read_at_any_place(files: StoreFiles) -> None:
    """A Parquet footer that cannot be reached without reading the whole part."""
    files.create("x", bytes(range(100)))
    with files.open("x") as file:
        file.seek(-3, os.SEEK_END)
        assert file.read() == bytes([97, 98, 99])
        file.seek(10)
        assert file.read(2) == bytes([10, 11])


def test_listing_goes_below_and_is_sorted(files: StoreFiles) -> None:
    """Commits in folders that are not counted, or an order that differs between file systems."""
    sizes = {"c/b/2": 2, "c/b/10": 3, "c/a": 1, "c/z/y/x": 4, "d": 5, "cc/a": 6, "c.json": 7}
    for name, size in sizes.items():
        files.create(name, bytes(size))
    found = list(files.list("c"))
    assert found == [("c/a", 1), ("c/b/10", 3), ("c/b/2", 2), ("c/z/y/x", 4)]
    assert list(files.list("c/b")) == [("c/b/10", 3), ("c/b/2", 2)]
    assert list(files.list("nothing")) == []


def test_a_listing_shows_what_came_after_the_last(files: StoreFiles) -> None:
    """A remote file system's cache of listings: new commits that `status --watch` never sees."""
    files.create("c/a", b"1")
    assert len(list(files.list("c"))) == 1
    StoreFiles(files.location).create("c/b", b"1")
    assert len(list(files.list("c"))) == 2


def test_deleting_twice_is_no_error(files: StoreFiles) -> None:
    """Two commands that clean up at the same time."""
    files.create("a/x", b"1")
    files.delete("a/x")
    assert not files.exists("a/x")
    files.delete("a/x")
    assert files.create("a/x", b"2")


def test_deleting_a_folder_is_refused(local: StoreFiles) -> None:
    """A whole folder of parts gone by one wrong name; or IsADirectoryError."""
    local.create("images/part", b"1")
    with pytest.raises(StoreError, match="images cannot be deleted"):
        local.delete("images")
    assert local.read("images/part") == b"1"


# File systems that are not quite like others


def test_a_link_whose_answer_was_lost_is_ours(local: StoreFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS: the server links, the answer is lost, the client asks again and hears that the name is taken."""
    link = os.link

    def forgetful(source: str, target: str) -> None:
        link(source, target)
        raise FileExistsError(target)

    monkeypatch.setattr(os, "link", forgetful)
    assert local.create("a", b"mine")
    monkeypatch.setattr(os, "link", link)
    assert not local.create("a", b"another's")
    assert local.read("a") == b"mine"
    assert left_in_wip(local) == []


def test_where_no_links_can_be_made_files_are_created_once(
    local: StoreFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mounted buckets and some shares have no hard links: a store there that cannot be written at all."""

    def refuse(source: str, target: str) -> None:
        raise OSError(errno.EOPNOTSUPP, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    assert local.create("folder/a", b"first")
    assert not local.create("folder/a", b"second")
    assert local.read("folder/a") == b"first"
    assert left_in_wip(local) == []
