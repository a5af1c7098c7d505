"""What a run is doing at the moment: live.json in its store, which the driver writes every ten seconds.

It is for people, and nothing is decided by it. A driver deletes it when it ends. One that was killed leaves
it, so a reader looks at the lease and at the file's age (`read_live`). A sweep has one in its folder.
"""

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, ClassVar, Self

from pydantic import ConfigDict, Field, FiniteFloat

from prism_ray.errors import StoreError
from prism_ray.store import StoreFiles, layout, read_driver
from prism_ray.store.records import FINITE, FORMAT, Count, read_record
from prism_ray.store.sweeps import folder_of

WRITE_EVERY_S = 10.0
_NAMES = {"ce": "cross-entropy", "bn": "BN alignment"}
_OLD_S = 60.0  # age from which on its driver has ended or hangs

Seconds = Annotated[FiniteFloat, Field(ge=0.0)]


@dataclass(frozen=True)
class UnitNow:
    """A unit that an actor has."""

    __pydantic_config__: ClassVar[ConfigDict] = FINITE

    unit: str  # its id; in a sweep its point and id
    num_done: Count = 0  # of `total` iterations, training steps or label epochs
    total: Count = 0  # 0: the unit does not say how far it is
    per_second: float | None = None  # steps, in this attempt
    values: dict[str, float] = field(default_factory=dict)  # losses and the like, some seconds old

    @property
    def share(self) -> float:
        """The share of the unit that is done, in [0, 1]."""
        return min(1.0, self.num_done / self.total) if self.total else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Estimate; None if it is not known."""
        if not self.per_second or not self.total:
            return None
        return max(0, self.total - self.num_done) / self.per_second

    def describe(self) -> str:
        """Return the rate and the losses, for people.

        >>> UnitNow("recover/a/b", 20, 300, 4.1, {"ce": 1.25, "bn": 0.5}).describe()
        '4.1 per s, cross-entropy 1.25, BN alignment 0.5'
        """
        values = dict(self.values)
        parts = [] if self.per_second is None else [f"{self.per_second:.3g} per s"]
        if "epoch" in values:
            parts.append(f"epoch {values.pop('epoch'):.0f} of {values.pop('epochs', 0):.0f}")
        return ", ".join([*parts, *(f"{_NAMES.get(key, key)} {value:.4g}" for key, value in values.items())])


@dataclass(frozen=True)
class ActorNow:
    """An actor and what it has to do."""

    name: str  # as in Ray's dashboard
    host: str  # machine it runs on
    pid: Count  # of its process, on that machine
    device: str  # "cpu", or the name of the GPU
    units: tuple[UnitNow, ...] = ()  # those that it has
    teachers: tuple[str, ...] = ()  # that it has loaded
    device_bytes: Count = 0  # of its GPU's memory; without a GPU its resident memory


@dataclass(frozen=True)
class StageNow:
    """A stage that has begun in this call."""

    stage: str  # its name, such as recover
    num_done: Count  # units that are done, of all calls
    num_units: Count  # units of the stage
    num_failed: Count  # attempts, in this call
    seconds: Seconds  # since its first unit in this call
    share: float  # of the stage, with the parts of running units that are done
    seconds_left: Seconds | None  # estimate, if enough is done to make one


@dataclass(frozen=True)
class Live:
    """The state of a driver's call."""

    __pydantic_config__: ClassVar[ConfigDict] = FINITE

    seconds: Seconds  # since the call began
    stages: tuple[StageNow, ...]  # that have begun; () in a point of a sweep
    actors: tuple[ActorNow, ...]  # those that are ready
    latest: tuple[str, ...] = ()  # ids of the units that were committed last, the newest first
    seconds_left: Seconds | None = None  # estimate of the whole run, if all its stages are known
    format: int = FORMAT  # version of the meaning of these keys

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode()


def read_live(files: StoreFiles) -> Live | None:
    """Return what the driver of a run, or of the folder of a sweep, is doing; None if none is at work.

    None too in the first second of a call, before it has said it. Of a point of a sweep, it is what the
    actors do there.
    """
    driver = read_driver(files)
    if driver is not None and not driver.alive:
        return None
    own = _read(files)
    if own is not None or driver is None:
        return own
    above = folder_of(files)
    live = None if above is None else _read(above[0])
    if above is None or live is None:
        return None
    prefix = f"{above[1]}: "
    here = []
    for actor in live.actors:
        units = [
            replace(unit, unit=unit.unit.removeprefix(prefix))
            for unit in actor.units
            if unit.unit.startswith(prefix)
        ]
        if units:
            here.append(replace(actor, units=tuple(units)))
    return Live(live.seconds, (), tuple(here))


def _read(files: StoreFiles) -> Live | None:
    """Return the state in a store or folder, None if there is none that is recent and readable."""
    try:
        if time.time() - files.written_at(layout.LIVE) > _OLD_S:
            return None
        return read_record(files, layout.LIVE, Live)
    except StoreError:  # there is none, or another version wrote it
        return None


class LiveWriter:
    """Writes live.json from a thread of its own, so that a slow store delays nothing. Used as a context."""

    def __init__(
        self,
        files: StoreFiles,
        state: Callable[[], Live],
        every_s: float = WRITE_EVERY_S,
        also: Callable[[], None] = lambda: None,
    ) -> None:
        """`state` and `also` are called in the thread of the writer, and `also` once more at the end."""
        self._files, self._state, self._every_s, self._also = files, state, every_s, also
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._write, name="live", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._end.set()
        self._thread.join(self._every_s)
        self._also()
        with suppress(StoreError):
            self._files.delete(layout.LIVE)

    def _write(self) -> None:
        wait_s = min(1.0, self._every_s)  # the first one soon
        while not self._end.wait(wait_s):
            with suppress(StoreError):  # the lease and the commits tell a user about a broken store
                self._files.replace(layout.LIVE, self._state().to_json())
            self._also()
            wait_s = self._every_s
