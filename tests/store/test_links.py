"""What lies in a store and is no file of it: links that lead out, pipes, devices, files without end."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from prism_ray.errors import StoreError
from prism_ray.store import StoreFiles


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the store, with a file."""
    folder = tmp_path / "outside"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "precious").write_bytes(b"mine")
    return folder


OPERATIONS: dict[str, Callable[[StoreFiles, str], object]] = {
    "create": lambda files, name: files.create(name, b"x"),
    "replace": lambda files, name: files.replace(name, b"x"),
    "delete": lambda files, name: files.delete(name),
}


@pytest.mark.parametrize("write", OPERATIONS.values(), ids=OPERATIONS.keys())
@pytest.mark.parametrize("linked", ["images", "wip"])
def test_nothing_is_written_or_deleted_through_a_link_that_leads_out(
    local: StoreFiles, outside: Path, write: Callable[[StoreFiles, str], object], linked: str
) -> None:
    """Catches a store from elsewhere whose folders are links to ~/.ssh, and gc with that for orphans."""
    os.makedirs(local.location)
    os.symlink(outside, f"{local.location}/{linked}")
    assert local.read(f"{linked}/sub/precious") == b"mine"
    with pytest.raises(StoreError) as caught:
        write(local, f"{linked}/sub/precious")
    assert str(caught.value).startswith(f"{local.location}/{linked}/sub/precious: a symbolic link on the way")
    assert str(outside / "sub") in str(caught.value)
    with pytest.raises(StoreError, match="leads out of the store"):
        local.create(f"{linked}/new/file", b"x")
    if linked == "wip":
        with pytest.raises(StoreError, match="leads out of the store"):
            local.create("elsewhere", b"x")  # written aside first
    found = [path.relative_to(outside).as_posix() for path in sorted(outside.rglob("*"))]
    assert found == ["sub", "sub/precious"]
    assert (outside / "sub" / "precious").read_bytes() == b"mine"


def test_links_that_stay_inside_and_a_store_that_is_a_link_are_fine(tmp_path: Path) -> None:
    """Catches a store on another disk that can no longer be written."""
    (tmp_path / "disk").mkdir()
    os.symlink(tmp_path / "disk", tmp_path / "run")
    files = StoreFiles(str(tmp_path / "run"))
    files.create("images/part", b"x")
    os.symlink("images", tmp_path / "disk" / "pictures")
    files.replace("pictures/other", b"y")
    assert sorted(name for name, _ in files.list("images")) == ["images/other", "images/part"]
    files.delete("pictures/part")
    assert not (tmp_path / "disk" / "images" / "part").exists()


def test_a_link_is_deleted_and_not_what_it_leads_to(local: StoreFiles, outside: Path) -> None:
    """Catches a file of the user's that goes with a part that is a link to it."""
    local.create("images/part", b"x")
    os.symlink(outside / "sub" / "precious", f"{local.location}/images/link")
    os.symlink(outside, f"{local.location}/images/folder")
    os.symlink("..", f"{local.location}/images/loop")
    assert [name for name, _ in local.list("images")] == [
        f"images/{name}" for name in ("folder", "link", "loop", "part")
    ]
    for name in ("folder", "link", "loop"):
        local.delete(f"images/{name}")
    local.replace("images/link", b"new")
    assert (outside / "sub" / "precious").read_bytes() == b"mine"


@pytest.mark.parametrize("target", ["nowhere", "unit.json"])
def test_a_commit_that_is_a_link_to_nothing_is_found_and_deleted(local: StoreFiles, target: str) -> None:
    """Catches a link in a circle that ends every command, and a unit that can never be committed."""
    name = "commits/unit.json"
    local.create("commits/other.json", b"x")
    os.symlink(target, local.path(name))
    assert [found for found, _ in local.list("commits")] == ["commits/other.json", name]
    assert local.size(name) is None
    with pytest.raises(StoreError, match=f"{name} (is missing|cannot be)"):
        local.read(name)
    local.delete(name)
    assert local.create(name, b"x")


@pytest.mark.parametrize("read", ["read", "open"])
def test_pipes_devices_and_folders_are_not_read(local: StoreFiles, read: str, tmp_path: Path) -> None:
    """Catches a store whose plan.json is a pipe that never says anything, or a link to /dev/zero."""
    local.create("images/part", b"x")
    os.mkfifo(f"{local.location}/pipe")
    os.symlink("/dev/zero", f"{local.location}/zero")
    for name in ("pipe", "zero", "images"):
        with pytest.raises(StoreError, match=f"{name} cannot be .*a pipe or a device"):
            getattr(local, read)(name)


def test_no_more_is_read_than_was_asked_for(files: StoreFiles) -> None:
    """Catches a record of terabytes that is read to its end before somebody looks at it."""
    files.create("record", b"0123456789")
    files.create("empty", b"")
    assert files.read_up_to("record", 4) == b"0123"
    assert files.read_up_to("record", 11) == b"0123456789"
    assert files.read_up_to("empty", 4) == b""
    assert files.read("record", 10) == b"0123456789"
    with pytest.raises(StoreError, match="record has 10 bytes, and such a file has 9 at most"):
        files.read("record", 9)


def test_a_file_with_holes_is_not_read_into_memory(local: StoreFiles) -> None:
    """Catches a terabyte of nothing, which takes no room on a disk, in the memory."""
    local.create("images/part", b"x")
    with open(local.path("images/part"), "r+b") as file:
        file.truncate(2**40)
    with pytest.raises(StoreError, match="has 1,099,511,627,776 bytes"):
        local.read("images/part")
