"""The seam between a run and a tracker: what is logged, and what a tracker has to offer."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Point:
    """A figure of a series; a series has one point at a step."""

    tag: str  # of the series, for example recover/distilled/ce
    axis: str  # what the steps count: unit, iteration, epoch
    step: int
    value: float  # finite
    time: float  # seconds since 1970 at which its unit was committed


@dataclass(frozen=True, eq=False)
class Picture:
    """Images of a batch side by side."""

    tag: str
    step: int
    pixels: npt.NDArray[np.uint8]  # (H, W, 3)
    time: float


Item = Point | Picture


@dataclass(frozen=True)
class TrackedRun:
    """The run that a tracker logs."""

    id: str  # the same in every call; 16 hexadecimal digits
    name: str  # that of the store, for people
    location: str  # of the store
    folder: str  # for the files of a tracker that keeps its files on this machine
    config: Mapping[str, Any]  # plain data
    state: Mapping[str, Any]  # what `Tracker.state` returned last; empty at first


class Tracker(ABC):
    """A connection to the run of a tracker. All calls come from one thread, and may take their time.

    The constructor opens the tracker's run, or continues it. Every method may raise what it likes: that is
    told to the user once, and tried again later.
    """

    name: ClassVar[str]
    package: ClassVar[str | None] = None  # that must be installed; its extra has the name of the tracker
    where: str  # folder or address of the tracker's run, for people
    is_doubtful = False  # the tracker's run has items, and `run.state` does not say which

    @abstractmethod
    def __init__(self, run: TrackedRun) -> None: ...

    @abstractmethod
    def log(self, items: Sequence[Item]) -> None:
        """Log items, none of which the tracker's run has."""

    def missing(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return those of `items` that the tracker's run does not have.

        Called for what an attempt logged that was killed, or failed, before `state` returned.
        """
        return items

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Make what was logged durable; return plain data with which another call continues from here."""

    @abstractmethod
    def close(self) -> None:
        """End the connection."""
