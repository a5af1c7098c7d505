"""The fault injector: a run's command on a cluster of several nodes, and what happens to both.

It is also the person beside: a command that ended is given again, at times after `verify --repair` and
`retry --failed`. All its choices come from one seed; the moments depend on the machine too.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil

from tests.chaos import damage
from tests.chaos.command import COMPLETE, FAILED, INCOMPLETE, INTERRUPTED, Command, wait_until
from tests.chaos.held import num_committed
from tests.chaos.nodes import Nodes

_ACTOR_S = 60.0  # for an actor to come up on a busy machine
_STOP_S = 20.0
_RUN_S = 240.0


class Injector:
    """Disturbs one run. Used as a context; its processes end with it."""

    def __init__(self, nodes: Nodes, arguments: Sequence[str], store: Path, logs: Path, seed: int) -> None:
        """`arguments` are those of the command that makes `store`; what it prints goes below `logs`."""
        self.counts: Counter[str] = Counter()  # faults, by kind
        self.codes: Counter[int] = Counter()  # how the commands ended
        self._nodes = nodes
        self._arguments = [*arguments, "--store", str(store)]
        self._store = store
        self._logs = logs
        self._rng = random.Random(seed)
        self._driver: Command | None = None
        self._commands: list[Command] = []
        self._started = time.monotonic()
        self._faults: dict[str, Callable[[], str | None]] = {
            "actor killed": self._kill_actor,
            "node killed": self._kill_node,
            "driver killed": self._kill_driver,
            "driver stopped": self._stop_driver,
            "second driver": self._start_another,
            "part damaged": lambda: damage.damage_part(store, self._rng),
            "commit damaged": lambda: damage.damage_commit(store, self._rng),
            "garbage": lambda: damage.plant_garbage(store, self._rng),
            "storage away": self._take_storage_away,
            "storage full": self._fill_storage,
        }

    @property
    def kinds(self) -> list[str]:
        """The names of the faults."""
        return list(self._faults)

    @property
    def num_kills(self) -> int:
        """Processes and nodes that were killed while they were at work."""
        return sum(self.counts[kind] for kind in ("actor killed", "node killed", "driver killed"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for command in self._commands:
            command.kill()

    def disturb(self, kinds: Sequence[str]) -> None:
        """Let these faults happen, in a random order at random moments."""
        for kind in self._rng.sample(kinds, len(kinds)):
            while True:  # what had nothing that it could happen to is tried again
                self._have_driver()
                self._wait_for_a_moment()
                what = self._faults[kind]()
                if what is not None:
                    break
            self.counts[kind] += 1
            self._say(f"{kind}: {what}")

    def finish(self) -> None:
        """Let the run end, undisturbed from here on: one repair, one command, and all is there."""
        if self._driver is not None and self._driver.is_alive:
            self._note(self._driver.end(_RUN_S))
        self._mend()
        assert self._call("distill", *self._arguments[1:]) == COMPLETE
        assert self._call("gc", str(self._store), "--older-than", "0") == COMPLETE
        assert self._call("verify", str(self._store)) == COMPLETE
        assert wait_until(lambda: not self._nodes.actors(), _ACTOR_S)  # drivers that were killed leave none

    # The person beside

    def _have_driver(self) -> None:
        """See that the command is at work, and that there is work."""
        if self._driver is not None:
            if self._driver.is_alive:
                return
            if self._note(self._driver.end(0)) == COMPLETE:
                self._undo()
            elif self._rng.random() < 0.5:  # else it is just given again
                self._mend()
        self._driver = self._start(*self._arguments)

    def _start(self, *arguments: str) -> Command:
        log = self._logs / f"{len(self._commands):03d}-{arguments[0]}.log"
        self._commands.append(Command(arguments, self._nodes.environment, log))
        return self._commands[-1]

    def _call(self, *arguments: str) -> int:
        codes = (COMPLETE, FAILED) if arguments[0] == "distill" else (COMPLETE, INCOMPLETE)
        return self._note(self._start(*arguments).end(_RUN_S, codes), arguments[0])

    def _mend(self) -> None:
        """Do what the messages of a run that failed say."""
        if (self._store / "plan.json").exists():
            self._call("verify", "--repair", str(self._store))
            self._call("retry", "--failed", str(self._store))

    def _undo(self) -> None:
        """The run is complete too early: let a third of it be damaged."""
        for _ in range(num_committed(self._store) // 3):
            damage.damage_part(self._store, self._rng)
        self._mend()

    def _note(self, code: int, name: str = "distill") -> int:
        if name == "distill":
            self.codes[code] += 1
        self._say(f"{name} ended with {code}")
        return code

    def _say(self, text: str) -> None:
        print(f"{time.monotonic() - self._started:6.1f} s  {text}", flush=True)

    # Moments

    def _wait_for_a_moment(self) -> None:
        """Wait a little, or until some more units are committed."""
        if self._rng.random() < 0.7:
            goal = num_committed(self._store) + self._rng.randint(1, 6)
            wait_until(lambda: num_committed(self._store) >= goal or not self._driver_lives, 15.0)
        time.sleep(self._rng.uniform(0.0, 1.0))

    @property
    def _driver_lives(self) -> bool:
        return self._driver is not None and self._driver.is_alive

    def _actors(self) -> list[psutil.Process]:
        """Return the actors at work, waiting for the first."""
        wait_until(lambda: self._nodes.actors() or not self._driver_lives, _ACTOR_S)
        return self._nodes.actors() if self._driver_lives else []

    # Faults: each returns what it did, None if it could do nothing

    def _kill_actor(self) -> str | None:
        actors = self._actors()
        if not actors:
            return None
        self._rng.choice(actors).kill()
        return f"one of {len(actors)}"

    def _kill_node(self) -> str | None:
        if not self._actors():
            return None
        self._nodes.kill(self._rng.choice(self._nodes.raylets))
        seconds = self._rng.uniform(0.0, 3.0)
        time.sleep(seconds)
        self._nodes.add()
        return f"replaced after {seconds:.1f} s"

    def _kill_driver(self) -> str | None:
        assert self._driver is not None
        if not self._driver.kill():
            return None
        self._driver = None
        return f"at {num_committed(self._store)} units"

    def _stop_driver(self) -> str | None:
        driver = self._driver
        assert driver is not None
        # it has loaded, and is prepared; before that a signal ends it as any process
        if not wait_until(lambda: "starting Ray" in driver.output or not driver.is_alive, 30.0):
            return None
        code, seconds = driver.stop(_STOP_S)
        if code != INTERRUPTED:  # it was at its end
            return None
        self._note(code)
        self._driver = None
        return f"{seconds:.1f} s until it had ended"

    def _start_another(self) -> str | None:
        """The same command a second time, on the same store."""
        assert self._driver is not None
        if not wait_until(lambda: list(self._store.glob("lease/*")), 5.0):
            return None
        other = self._start(*self._arguments)
        code = other.end(_RUN_S)
        if not self._driver.is_alive or "Nothing to do" in other.output:
            return None
        assert code == FAILED, other.output
        assert "is working on this store" in other.output
        return "refused"

    def _take_storage_away(self) -> str | None:
        folders = [path for path in (self._store, *self._store.glob("*")) if path.is_dir()]
        if not folders:
            return None
        folder, seconds = self._rng.choice(folders), self._rng.uniform(0.3, 2.0)
        damage.take_away(folder, seconds)
        return f"{folder.name} for {seconds:.1f} s"

    def _fill_storage(self) -> str | None:
        """Let no file of the actors grow beyond some bytes, as on a full disk."""
        actors, seconds = self._actors(), self._rng.uniform(0.5, 2.0)
        if not actors:
            return None
        for actor in actors:
            with suppress(psutil.NoSuchProcess):
                actor.rlimit(psutil.RLIMIT_FSIZE, (100, psutil.RLIM_INFINITY))
        time.sleep(seconds)
        for actor in actors:
            with suppress(psutil.NoSuchProcess):
                actor.rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))
        return f"for {seconds:.1f} s"
