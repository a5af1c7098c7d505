"""The needs of a local Ray that this machine may lack."""

import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from prism_ray.errors import OrchestrateError
from prism_ray.orchestrate import local
from prism_ray.orchestrate.local import check_loopback, folder_for_ray, object_store_folder

MEBIBYTE = 2**20


@pytest.fixture(autouse=True)
def _only_tmpdir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("long", "is too long for the path of a socket"),
        ("missing", "does not exist, or is not a folder"),
        ("file", "does not exist, or is not a folder"),
        ("full", "MiB free, and Ray needs"),
    ],
)
def test_a_folder_that_is_not_fit_is_replaced_and_named(
    kind: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a Slurm job that cannot start, a wait of half a minute on a full disk, and a silent choice."""
    tmpdir = {"long": tmp_path / ("x" * 100), "full": Path("/tmp")}.get(kind, tmp_path / kind)
    if kind == "long":
        tmpdir.mkdir()
    if kind == "file":
        tmpdir.write_text("")
    if kind == "full":
        monkeypatch.setattr(local, "_parents", lambda: [("TMPDIR = ", "/dev/shm"), ("", "/tmp")])
        monkeypatch.setattr(local, "free_bytes", lambda path: 0 if "/dev/shm" in path else 2**40)
    else:
        monkeypatch.setenv("TMPDIR", str(tmpdir))
    notes: list[str] = []
    with folder_for_ray(notes.append) as folder:
        path = Path(folder).parent
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert len(f"{folder}/{local._SOCKET}") <= 107
        assert not list(Path(folder).iterdir())
    assert not path.exists()
    (note,) = notes
    assert reason in note
    assert str(path) in note
    assert "TMPDIR = " in note
    if kind == "long":
        assert not list(tmpdir.iterdir())


def test_no_folder_at_all_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a local Ray that starts on full disks."""
    monkeypatch.setattr(local, "free_bytes", lambda path: 0)
    with (
        pytest.raises(OrchestrateError, match=r"no folder is fit .*/tmp has 0 MiB free"),
        folder_for_ray(print),
    ):
        pass


def test_little_shared_memory_is_told_and_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches Ray's own warning of ten lines, and an object store in a place that is full too."""
    monkeypatch.setattr(local, "_SHARED_MEMORY", str(tmp_path / "absent"))
    notes: list[str] = []
    assert object_store_folder(str(tmp_path), MEBIBYTE, notes.append) == str(tmp_path)
    assert "absent has 0 MiB free" in notes[0]
    with pytest.raises(OrchestrateError, match="--shm-size"):
        object_store_folder(str(tmp_path), 2**60, notes.append)


def test_enough_shared_memory_is_ray_s_own_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_SHARED_MEMORY", str(tmp_path))
    assert object_store_folder(str(tmp_path), MEBIBYTE, print) is None


def test_this_machine_has_a_network() -> None:
    """Catches a check that refuses every machine."""
    check_loopback()


def test_a_machine_without_network_is_told_at_once(environment: dict[str, str]) -> None:
    """Catches Ray's hang where not even 127.0.0.1 is up."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rn", "true"], capture_output=True).returncode:
        pytest.skip("needs user namespaces")
    program = "from prism_ray.orchestrate.local import check_loopback; check_loopback()"
    result = subprocess.run(
        [unshare, "-rn", sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "no network interface that works" in result.stderr
