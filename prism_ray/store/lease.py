"""The lease on a store: one driver at a time, which shows with a heartbeat that it is alive.

lease/<n>.json is created exclusively, so only one of two drivers gets it. The holder increases `beat`
regularly. It loses the lease if the beat does not change for the time to live, or if it was a process of this
machine and has ended. Clocks of two machines are never compared. The lease only avoids that work is done
twice: the results are correct without it.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Self

import psutil
from pydantic import Field, FiniteFloat

from prism_ray.config.orchestrate import MAX_LEASE_TTL_S
from prism_ray.errors import LeaseError, StoreError
from prism_ray.store import layout
from prism_ray.store.files import StoreFiles
from prism_ray.store.records import FORMAT, Count, read_record

_POLL_S = 0.25
_MAX_DIGITS = 15  # of a lease's number; prism-ray does not write longer ones


@dataclass(frozen=True)
class Holder:
    """The driver that holds a lease, and the count of its heartbeats."""

    number: Count
    host: str
    place: str  # where its pid is unique: one boot of a machine, one container
    pid: Annotated[int, Field(ge=0, lt=2**31)]
    process_started: FiniteFloat  # distinguishes it from a later process with the same pid
    ttl_s: Annotated[FiniteFloat, Field(ge=0.0, le=MAX_LEASE_TTL_S)]
    beat: Count = 0
    released: bool = False
    format: int = FORMAT

    @property
    def is_gone(self) -> bool:
        """True if the holder has released the lease, or was a process of this machine and has ended."""
        if self.released or self.place != _place():
            return self.released
        try:
            process = psutil.Process(self.pid)
            is_zombie = process.status() == psutil.STATUS_ZOMBIE  # it has ended; its parent has not noticed
            return is_zombie or process.create_time() != self.process_started
        except psutil.Error:
            return True

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def read_holder(files: StoreFiles) -> Holder | None:
    """Return the last driver that held the lease, None if there was none; a damaged record is released."""
    stems = (Path(name).name.removesuffix(".json") for name, _ in files.list(layout.LEASES))
    number = max((int(stem) for stem in stems if stem.isdecimal() and len(stem) <= _MAX_DIGITS), default=None)
    if number is None:
        return None
    try:
        return replace(read_record(files, layout.lease(number), Holder), number=number)
    except StoreError:
        return Holder(number, "unknown", "", 0, 0.0, 0.0, released=True)


@dataclass(frozen=True)
class Driver:
    """The driver that holds a store's lease, as `status` shows it."""

    host: str  # machine it runs on
    pid: int  # of its process, on that machine
    since: str  # when its process began, UTC, ISO 8601
    alive: bool  # on another machine: whether its last heartbeat is younger than the lease's time to live
    beat_s: float  # seconds since its last heartbeat, by this machine's clock

    def __str__(self) -> str:
        who = f"process {self.pid} on {self.host}, since {self.since}"
        if self.alive:
            return f"{who}, is at work (last heartbeat {self.beat_s:.0f} s ago)"
        return f"none: {who}, has ended without releasing the store"


def read_driver(files: StoreFiles) -> Driver | None:
    """Return the driver that has not released the lease, None if there is none.

    It may have died: see `Driver.alive`. This is only for people: whether another driver may take over is
    decided by `Lease`, without clocks.
    """
    holder = read_holder(files)
    if holder is None or holder.released:
        return None
    try:
        beat_s = max(0.0, time.time() - files.written_at(layout.lease(holder.number)))
    except StoreError:  # it was released meanwhile
        return None
    since = datetime.fromtimestamp(holder.process_started, UTC).isoformat(timespec="seconds")
    is_here = holder.place == _place()
    alive = not holder.is_gone if is_here else beat_s < holder.ttl_s
    return Driver(holder.host, holder.pid, since, alive, beat_s)


def _place() -> str:
    """Return a name for what a pid is unique in. Containers and machines can share a host name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return f"{socket.gethostname()}/{psutil.boot_time()}"


def _watch(files: StoreFiles, holder: Holder | None, say: Callable[[str], None]) -> Holder | None:
    """Wait for a heartbeat; return the holder if it is alive, or its successor, None if it is gone."""
    if holder is None or holder.is_gone:
        return None
    say(f"waiting up to {holder.ttl_s:.0f} s to see whether {holder} is still at {files.location}")
    ends = time.monotonic() + holder.ttl_s
    while time.monotonic() < ends:
        time.sleep(min(_POLL_S, holder.ttl_s / 4))
        now = read_holder(files)
        if now is not None and now != holder:
            return None if now == replace(holder, beat=now.beat, released=True) else now
    return None


class Lease:
    """The right to work on a store, as a context manager; raises LeaseError if another driver is alive."""

    def __init__(self, files: StoreFiles, ttl_s: float, say: Callable[[str], None]) -> None:
        self._files = files
        self._say = say
        me = psutil.Process()
        self._me = Holder(0, socket.gethostname(), _place(), os.getpid(), me.create_time(), ttl_s)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self.followed: Holder | None = None  # the driver that held the lease before
        self.lost_to: Holder | None = None  # the driver that took the lease, because this one did not respond

    @property
    def number(self) -> int:
        """Which driver of the store this is, from 1; 0 if the lease is not held yet."""
        return self._me.number

    def __enter__(self) -> Self:
        last = read_holder(self._files)
        other = _watch(self._files, last, self._say)
        if other is None:
            self._me = replace(self._me, number=last.number + 1 if last else 1)
            if self._files.create(layout.lease(self._me.number), self._to_json()):
                self.followed = last
                if last is not None:
                    self._files.delete(layout.lease(last.number))
                self._thread.start()
                return self
            other = read_holder(self._files)
        raise LeaseError(
            f"{self._files.location}: {other} is working on this store; wait until it has ended, or end it, "
            "then run the same command again"
        )

    def __exit__(self, *exception: object) -> None:
        self._end.set()
        self._thread.join()
        if self.lost_to is None:
            self._me = replace(self._me, released=True)
            with suppress(StoreError):  # it would hide the error that ended the work; the lease expires
                self._files.replace(layout.lease(self._me.number), self._to_json())

    def raise_if_lost(self) -> None:
        """Raise LeaseError if another driver has taken over the store."""
        if self.lost_to is not None:
            raise LeaseError(
                f"{self._files.location}: {self.lost_to} has taken this store over, because this process "
                f"sent no heartbeat for {self._me.ttl_s:.0f} s (orchestrate.lease_ttl_s); all committed work "
                "is kept"
            )

    def _beat(self) -> None:
        while not self._end.wait(self._me.ttl_s / 4):
            try:
                last = read_holder(self._files)
                if last is not None and last.number > self._me.number:
                    self.lost_to = last
                    return
                self._me = replace(self._me, beat=self._me.beat + 1)
                self._files.replace(layout.lease(self._me.number), self._to_json())
            except StoreError:  # the storage is unreachable; the next beat may succeed
                continue

    def _to_json(self) -> bytes:
        return json.dumps(asdict(self._me), indent=1).encode()
