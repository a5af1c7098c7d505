"""The dispatcher's listener in benchmarks: what fails ends the benchmark, messages are printed. No torch."""

import sys

from prism_ray.stages import Unit
from prism_ray.store import Failure


class Listener:
    """Takes no times yet; a benchmark adds `done`."""

    def began(self, unit: Unit) -> None:
        pass

    def failed(self, failure: Failure, again: bool) -> None:
        sys.exit(failure.traceback)

    def message(self, text: str) -> None:
        print(text, flush=True)

    def tick(self, actors: object) -> None:
        pass
