"""One driver at a time: a lease on the store, kept alive by a heartbeat.

lease/<n>.json is created exclusively, so that of two drivers that want the n-th one gets it. Its holder
counts `beat` up; one whose beat stands still for the time to live, or whose process on this machine is gone,
has lost it. No two clocks are ever compared. The lease spares work done twice; that nothing is lost or
doubled does not depend on it.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar, Self

import psutil
from pydantic import ConfigDict, Field

from prism_ray.config.orchestrate import MAX_LEASE_TTL_S
from prism_ray.errors import LeaseError, StoreError
from prism_ray.store import layout
from prism_ray.store.files import StoreFiles
from prism_ray.store.records import FINITE, FORMAT, Count, decode_record, record_bytes

_POLL_S = 0.25
_NUM_DIGITS = 15  # of a lease's number at most; what is longer was not written here


@dataclass(frozen=True)
class Holder:
    """Who holds a lease, and how often that was confirmed."""

    __pydantic_config__: ClassVar[ConfigDict] = FINITE

    number: Count
    host: str
    place: str  # where its pid means something: this boot of a machine, this container
    pid: Annotated[int, Field(ge=0, lt=2**31)]
    process_started: float  # tells a process from a later one of the same pid
    ttl_s: Annotated[float, Field(ge=0.0, le=MAX_LEASE_TTL_S)]
    beat: Count = 0
    released: bool = False
    format: int = FORMAT

    @property
    def is_gone(self) -> bool:
        """True if the holder has let go, or is a process of this machine that no longer runs."""
        if self.released:
            return True
        if self.place != _place():
            return False
        try:
            process = psutil.Process(self.pid)
            is_zombie = process.status() == psutil.STATUS_ZOMBIE  # it ended, and its parent has not looked
            return is_zombie or process.create_time() != self.process_started
        except psutil.Error:
            return True

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def read_holder(files: StoreFiles) -> Holder | None:
    """Return who held the store last, None if nobody did; a record that is damaged counts as released."""
    stems = (_stem(name) for name, _ in files.list(layout.LEASES))
    numbers = [int(stem) for stem in stems if stem.isdecimal() and len(stem) <= _NUM_DIGITS]
    if not numbers:
        return None
    number = max(numbers)
    try:
        name = layout.lease(number)
        return replace(
            decode_record(Holder, record_bytes(files, name), f"{files.location}/{name}"), number=number
        )
    except (StoreError, ValueError):
        return Holder(number, "unknown", "", 0, 0.0, 0.0, released=True)


def _place() -> str:
    """Name what a pid is unique in; containers may share a host's name, and machines too."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return f"{socket.gethostname()}/{psutil.boot_time()}"


def _stem(name: str) -> str:
    return name.rpartition("/")[2].removesuffix(".json")


def _watch(files: StoreFiles, holder: Holder | None, say: Callable[[str], None]) -> Holder | None:
    """Return the holder if it is alive, or the one that followed it; None if it is gone."""
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
    """The right to work on a store. Used as a context; raises LeaseError if another driver is alive."""

    def __init__(self, files: StoreFiles, ttl_s: float, say: Callable[[str], None]) -> None:
        self._files = files
        self._say = say
        me = psutil.Process()
        self._me = Holder(0, socket.gethostname(), _place(), os.getpid(), me.create_time(), ttl_s)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self.followed: Holder | None = None  # the driver that held the store before
        self.lost_to: Holder | None = None  # another driver that took it, because this one stood still

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
            f"{self._files.location}: {other} is working on this store; wait for it, or end it and run the "
            f"same command again"
        )

    def __exit__(self, *exception: object) -> None:
        self._end.set()
        self._thread.join()
        if self.lost_to is None:
            self._me = replace(self._me, released=True)
            with suppress(StoreError):  # why the work ends is what counts; the lease runs out by itself
                self._files.replace(layout.lease(self._me.number), self._to_json())

    def raise_if_lost(self) -> None:
        """Raise LeaseError if another driver has taken the store over."""
        if self.lost_to is not None:
            raise LeaseError(
                f"{self._files.location}: {self.lost_to} has taken this store over, because this process "
                f"showed no sign of life for {self._me.ttl_s:.0f} s (orchestrate.lease_ttl_s)"
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
            except StoreError:  # the storage is away for a while; the next beat may come through
                continue

    def _to_json(self) -> bytes:
        return json.dumps(asdict(self._me), indent=1).encode()
