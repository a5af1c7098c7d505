"""One driver at a time: who is refused, who takes over, and what is left behind."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from prism_ray.errors import LeaseError
from prism_ray.store import Lease, StoreFiles, layout
from prism_ray.store.lease import read_driver, read_holder

TTL_S = 0.6


def hold(files: StoreFiles, ttl_s: float = TTL_S, said: list[str] | None = None) -> Lease:
    return Lease(files, ttl_s, (said if said is not None else []).append)


def pretend(files: StoreFiles, **changes: object) -> None:
    """Make the last record say something else."""
    holder = read_holder(files)
    assert holder is not None
    values = {**holder.__dict__, **changes}
    files.replace(layout.lease(holder.number), json.dumps(values).encode())


def has_ended(files: StoreFiles) -> bool:
    holder = read_holder(files)
    return holder is not None and holder.is_gone


def test_a_second_driver_is_refused_while_the_first_is_alive(files: StoreFiles) -> None:
    """Catches two drivers that do every unit of a run twice."""
    said: list[str] = []
    with hold(files), pytest.raises(LeaseError, match=f"process {os.getpid()} on {socket.gethostname()}"):
        hold(files, said=said).__enter__()
    assert "waiting up to 1 s to see whether" in said[0]
    with hold(files):  # the first has let go
        pass
    assert has_ended(files)


def test_a_driver_elsewhere_that_is_silent_is_followed(files: StoreFiles) -> None:
    """Catches a run that can never go on because its head node was taken away."""
    with hold(files) as lease:
        lease._end.set()
        lease._thread.join()
        pretend(files, host="a machine that is gone", place="there")
        started = time.monotonic()
        with hold(files):
            assert time.monotonic() - started >= TTL_S


def test_a_driver_elsewhere_that_gives_signs_is_not(files: StoreFiles) -> None:
    """Catches a takeover because clocks differ, or because the first look saw no change."""
    with hold(files) as lease:
        lease._end.set()
        lease._thread.join()
        pretend(files, host="another machine", place="there")
        later = threading.Timer(TTL_S / 2, lambda: pretend(files, beat=7))
        later.start()
        with pytest.raises(LeaseError, match="on another machine"):
            hold(files).__enter__()


def test_a_killed_driver_of_this_machine_is_followed_at_once(local: StoreFiles) -> None:
    """Catches a wait after every kill on a laptop."""
    program = (
        "import os, sys\nfrom prism_ray.store import Lease, StoreFiles\n"
        "Lease(StoreFiles(sys.argv[1]), 1000.0, print).__enter__()\nos._exit(9)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, local.location])
    deadline = time.monotonic() + 60.0
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    started = time.monotonic()
    with hold(local, ttl_s=1000.0):  # whether or not anybody has taken note of its end
        assert time.monotonic() - started < 100.0  # its record asks for more than that
    assert process.wait() == 9
    assert has_ended(local)


def test_a_pid_that_is_used_again_is_another_process(local: StoreFiles) -> None:
    """Catches a store that stays locked because some process has the pid of the driver that died."""
    with hold(local) as lease:
        lease._end.set()
        lease._thread.join()
        pretend(local, process_started=1.0)
        assert has_ended(local)


def test_of_two_that_want_it_at_once_one_gets_it(local: StoreFiles) -> None:
    """Catches both seeing the store free, and both going on."""
    gate = threading.Barrier(8)
    got: list[Lease] = []
    refused: list[Exception] = []

    def want() -> None:
        lease = hold(StoreFiles(local.location), ttl_s=20.0)
        gate.wait()
        try:
            got.append(lease.__enter__())
        except LeaseError as error:
            refused.append(error)

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(got) == 1
    assert len(refused) == 7
    got[0].__exit__()


def test_one_that_stood_still_learns_that_it_was_followed(files: StoreFiles) -> None:
    """Catches a laptop that wakes up and goes on beside the driver that took its place."""
    with hold(files) as lease:
        lease.raise_if_lost()
        mine = read_holder(files)
        assert mine is not None
        later = replace(mine, number=mine.number + 1, host="the next")
        files.create(layout.lease(later.number), json.dumps(later.__dict__).encode())
        deadline = time.monotonic() + 60.0
        while lease.lost_to is None and time.monotonic() < deadline:
            time.sleep(0.05)
        with pytest.raises(LeaseError, match="on the next has taken this store over"):
            lease.raise_if_lost()
    last = read_holder(files)
    assert last is not None
    assert last.host == "the next"
    assert not last.released


@pytest.mark.parametrize(
    "changes",
    [{"ttl_s": 1e9}, {"ttl_s": -1.0}, {"pid": "x"}, {"pid": 2**40}, {"beat": None}, {"process_started": []}],
)
def test_a_record_that_makes_no_sense_locks_nobody_out(files: StoreFiles, changes: dict[str, object]) -> None:
    """Catches a wait of years, and an OverflowError of the operating system, for a forged record."""
    with hold(files):
        pass
    pretend(files, released=False, place="there", **changes)
    started = time.monotonic()
    with hold(files):
        assert time.monotonic() - started < 100.0  # its record asks for more than that
    name = f"{layout.LEASES}/{'9' * 200}.json"
    files.create(name, b"{}")
    with hold(files):
        holder = read_holder(files)
        assert holder is not None
        assert holder.number == 3


@pytest.mark.parametrize("text", [b"", b"{}", b"[1]", b'{"host": 3', b"[" * 10**5])
def test_a_damaged_record_locks_nobody_out(files: StoreFiles, text: bytes) -> None:
    """Catches a half-written record that has to be deleted by hand."""
    files.create(layout.lease(41), text)
    with hold(files):
        holder = read_holder(files)
        assert holder is not None
        assert holder.number == 42
    assert [name for name, _ in files.list(layout.LEASES)] == [layout.lease(42)]


def test_storage_that_is_away_at_the_end_hides_nothing(tmp_path: Path) -> None:
    """Catches a Ctrl-C that ends with an error of the lease, because the storage was away too."""

    def take_away_and_interrupt() -> None:
        (tmp_path / "run").rename(tmp_path / "away")
        (tmp_path / "run").write_text("no folder")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), hold(StoreFiles(str(tmp_path / "run"))):
        take_away_and_interrupt()


# What `status` shows


def test_status_shows_the_driver_only_while_it_holds_the_lease(files: StoreFiles) -> None:
    """Catches a run that is shown as idle while it works, or as at work when it has ended."""
    assert read_driver(files) is None
    with hold(files, 30.0):
        driver = read_driver(files)
        assert driver is not None
        assert (driver.alive, driver.pid, driver.host) == (True, os.getpid(), socket.gethostname())
        assert driver.beat_s < 20.0
        assert str(driver).endswith("s ago)")
        assert datetime.fromisoformat(driver.since) <= datetime.now(UTC)
    assert read_driver(files) is None


@pytest.mark.parametrize(
    ("changes", "alive"),
    [({"pid": 2**22 + 1}, False), ({"place": "far"}, True), ({"place": "far", "ttl_s": 0.0}, False)],
)
def test_status_tells_a_killed_driver_from_one_at_work(
    files: StoreFiles, changes: dict[str, object], alive: bool
) -> None:
    """Catches a killed driver that is shown as at work; here at once, elsewhere when its heartbeat is old."""
    with hold(files, 30.0):
        pass
    pretend(files, released=False, **changes)
    driver = read_driver(files)
    assert driver is not None
    assert driver.alive is alive
    assert ("has ended without releasing" in str(driver)) is not alive
