"""The needs of a local Ray: a network, a folder for its sockets and logs, shared memory. Each is tried first.

Ray itself hangs without a network, and fails half a minute later, without the reason, on a full disk.
"""

import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from prism_ray.errors import OrchestrateError, UsageError

_CONNECT_TIMEOUT_S = 5.0
_PREFIX = "prism-"
_INSIDE = "/r"  # Ray lets everybody write to its own folder, so it gets one inside of ours
# A socket's path has 107 bytes at most. Ray's longest name in the folder, with a process id of seven digits:
_SOCKET = "session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store"
_MIN_FREE_BYTES = 64 * 2**20  # for Ray's logs
_PROBE_BYTES = 2**20
_SHARED_MEMORY = "/dev/shm"


def check_loopback() -> None:
    """Raise OrchestrateError if processes of this machine cannot reach each other."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), timeout=_CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise OrchestrateError(
            f"this machine has no network interface that works, not even 127.0.0.1 ({error}), and Ray's "
            "processes talk to each other over it; bring it up with `ip link set lo up`, or give the "
            "container a network"
        ) from None


def check_port(port: int) -> None:
    """Raise UsageError if the port for the metrics cannot be had: Ray itself only logs that."""
    try:
        socket.create_server(("", port)).close()
    except OSError as error:
        raise UsageError(
            f"orchestrate.metrics_port = {port} cannot be used on this machine: {error.strerror or error}; "
            "give another port, or null for any free one"
        ) from None


@contextmanager
def folder_for_ray(say: Callable[[str], None]) -> Iterator[str]:
    """Create a private folder for Ray's sockets and logs, and delete it at the end.

    It is in the folder of RAY_TMPDIR or TMPDIR, as Ray's own would be. If that one is not fit, it is in
    another, and `say` gets the reason. Raises OrchestrateError if none is fit.
    """
    problems = []
    for name, parent in _parents():
        try:
            folder = _fit_folder(parent)
        except OSError as error:
            problems.append(f"{name}{parent} {error.strerror or error}")
            continue
        if problems:
            say(f"note: {'; '.join(problems)}: Ray's sockets and logs are in {folder}")
        os.mkdir(folder + _INSIDE)
        break
    else:
        raise OrchestrateError(
            f"no folder is fit for Ray's sockets and logs: {'; '.join(problems)}; free some space, or set "
            "TMPDIR to a folder with a short path that you can write to"
        )
    try:
        yield folder + _INSIDE
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _parents() -> list[tuple[str, str]]:
    """Return the folders to try, with the variable that names them."""
    found = []
    if "RAY_TMPDIR" in os.environ:
        found.append(("RAY_TMPDIR = ", os.environ["RAY_TMPDIR"]))
    elif "TMPDIR" in os.environ and sys.platform.startswith("linux"):  # as Ray takes it
        found.append(("TMPDIR = ", os.environ["TMPDIR"]))
    return found + [("", path) for path in ("/tmp", "/var/tmp", _SHARED_MEMORY)]


def _fit_folder(parent: str) -> str:
    """Create a folder and try in it what Ray will do; raises OSError with the reason if it is not fit."""
    if not os.path.isdir(parent):
        raise OSError(0, "does not exist, or is not a folder")
    try:
        folder = tempfile.mkdtemp(prefix=_PREFIX, dir=os.path.abspath(parent))
    except OSError as error:
        raise OSError(0, f"cannot be written to ({error.strerror})") from None
    try:
        _try_socket(folder)
        free = free_bytes(folder)
        if free < _MIN_FREE_BYTES:
            raise OSError(0, f"has {free / 2**20:.0f} MiB free, and Ray needs {_MIN_FREE_BYTES // 2**20}")
        probe = Path(folder) / "probe"
        try:
            probe.write_bytes(bytes(_PROBE_BYTES))
        except OSError as error:  # a quota, for example
            raise OSError(0, f"cannot be written to ({error.strerror})") from None
        probe.unlink()
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _try_socket(folder: str) -> None:
    """Bind a socket whose path is as long as Ray's longest; raises OSError if that is not possible."""
    path = f"{folder}/{'x' * len(f'{_INSIDE}{_SOCKET}')}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            listener.bind(path)
        except OSError as error:
            if error.errno is None:  # Python's own check of the length
                raise OSError(0, "is too long for the path of a socket") from None
            raise OSError(0, f"cannot contain a socket ({error.strerror})") from None
    os.unlink(path)


def object_store_folder(folder: str, num_bytes: int, say: Callable[[str], None]) -> str | None:
    """Return the folder for Ray's object store, None for shared memory.

    Raises OrchestrateError if neither shared memory nor `folder` has room for it.
    """
    if not sys.platform.startswith("linux"):
        return None
    is_there = os.path.isdir(_SHARED_MEMORY) and os.access(_SHARED_MEMORY, os.W_OK)
    shared = free_bytes(_SHARED_MEMORY) if is_there else 0
    if shared >= num_bytes:
        return None
    needs = f"Ray's object store needs {num_bytes // 2**20} MiB"
    has = f"{_SHARED_MEMORY} has {shared / 2**20:.0f} MiB free"
    free = free_bytes(folder)
    if free < num_bytes + _MIN_FREE_BYTES:
        raise OrchestrateError(
            f"{has}, {Path(folder).parents[1]} {free / 2**20:.0f} MiB, and {needs}; delete files there, or "
            "start the container with --shm-size=256m"
        )
    say(f"note: {has}, and {needs}: it is in {folder} instead. That costs no time, because it stays small")
    return folder


def free_bytes(folder: str) -> int:
    """Return the bytes that this user can still write there; 0 if no file can be created."""
    status = os.statvfs(folder)
    has_inodes = status.f_favail > 0 or status.f_files == 0  # some file systems do not count them
    return status.f_bavail * status.f_frsize if has_inodes else 0


def last_complaint(folder: str) -> str:
    """Return the last error in the logs of Ray's processes, empty if there is none."""
    for pattern in ("gcs_server.err", "raylet.err", "gcs_server.out", "raylet.out"):
        for path in Path(folder).glob(f"session_*/logs/{pattern}"):
            lines = path.read_text(errors="replace").splitlines()[-200:]
            for line in reversed(lines):
                if any(sign in line for sign in (" E ", " C ", "Check failed", "rror:", "annot ", "what():")):
                    return " ".join(line.split())[:300]
    return ""
