"""Several runs that share the actors of one pool: which run a unit belongs to. Pure.

The dispatcher of a single run gives out its units as they are. That of several runs gives out `JobUnit`s, and
asks their `Job` for the store, the listener and the ledger.
"""

from collections.abc import Callable
from dataclasses import dataclass

from prism_ray.orchestrate.display import Listener
from prism_ray.orchestrate.losses import Losses
from prism_ray.run import Ledger, Run
from prism_ray.stages import Unit
from prism_ray.store import StoreFiles


@dataclass(eq=False)
class Job:
    """A run that shares the pool with others."""

    number: int  # of the run among those of the dispatcher
    run: Run
    files: StoreFiles
    listener: Listener
    ledger: Ledger
    losses: Losses  # its own budget of failed units
    fail: Callable[[Exception], None]  # ends this run alone


@dataclass(frozen=True)
class JobUnit:
    """A unit of one of several runs, with an id that is unique among all of them."""

    number: int  # of the run
    files: StoreFiles
    unit: Unit

    @property
    def id(self) -> str:
        """The id of the unit with the number of the run; the stage is still its first part.

        >>> JobUnit(2, files, recover_unit).id
        'recover/2:distilled/i00000-c00000'
        """
        stage, _, name = self.unit.id.partition("/")
        return f"{stage}/{self.number}:{name}"

    @property
    def seed(self) -> int:
        return self.unit.seed
