"""What a call of `distill` counted that no commit says: calls/<n>.json of its store, a file for each call.

The driver writes it every ten seconds beside live.json, and once more when it ends. So of a call that was
killed at most the last ten seconds are missing. It is for people, and nothing is decided by it.
"""

import json
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field, FiniteFloat

from prism_ray.errors import StoreError
from prism_ray.store import StoreFiles, layout
from prism_ray.store.records import FINITE, FORMAT, Count, read_record

_MAX_CALLS = 10_000  # that are read


@dataclass(frozen=True)
class Call:
    """One call of `distill`, or of the command of a stage."""

    __pydantic_config__: ClassVar[ConfigDict] = FINITE

    seconds: Annotated[FiniteFloat, Field(ge=0.0)]  # since Ray had started
    num_hits: Count  # teachers that an actor had loaded when a unit needed them
    num_loads: Count  # teachers that an actor had to load
    num_preempted: Count  # actors that were lost because their machine was taken away
    gpus_per_actor: Annotated[FiniteFloat, Field(ge=0.0)]  # what `auto` came to
    devices: tuple[str, ...]  # that actors had: "cpu", or names of GPUs
    host: str = field(default_factory=socket.gethostname)  # of the driver
    format: int = FORMAT


def write_call(files: StoreFiles, number: int, state: Callable[[], Call]) -> None:
    """Write the record of the store's `number`-th driver. A store that refuses it ends nothing."""
    with suppress(StoreError):
        files.replace(layout.call(number), json.dumps(asdict(state()), indent=1).encode())


def read_calls(files: StoreFiles) -> list[Call]:
    """Return the calls on a store, in no order; what cannot be read is left out."""
    found = []
    for name, _ in list(files.list(layout.CALLS))[:_MAX_CALLS]:
        with suppress(StoreError):
            found.append(read_record(files, name, Call))
    return found
