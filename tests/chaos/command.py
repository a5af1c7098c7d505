"""A command in a process of its own, and what it promises however it ends."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

COMPLETE, FAILED, INCOMPLETE, INTERRUPTED = 0, 1, 3, 130


class Command:
    """One call of `prism-ray ...`."""

    def __init__(self, arguments: Sequence[str], environment: dict[str, str], log: Path) -> None:
        """What it prints goes to `log`."""
        self._log = log
        with log.open("w") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "prism_ray", *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        return self._log.read_text()

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def end(self, timeout: float, codes: Collection[int] = (COMPLETE, FAILED)) -> int:
        """Wait for its end; return its exit code, one of `codes`, after a look at what it printed."""
        assert wait_until(lambda: not self.is_alive, timeout), f"no end in {timeout:.0f} s:\n{self.output}"
        code = self._process.wait()
        assert code in codes, f"exit code {code}:\n{self.output}"
        assert "Traceback" not in self.output, self.output
        assert code != FAILED or "error: " in self.output, f"failed without a word:\n{self.output}"
        return code

    def kill(self) -> bool:
        """SIGKILL; return False if it had ended before."""
        self._process.kill()
        return self._process.wait() == -signal.SIGKILL

    def stop(self, timeout: float) -> tuple[int, float]:
        """SIGTERM; return the exit code, and how many seconds the end took."""
        started = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        code = self.end(timeout, (COMPLETE, FAILED, INTERRUPTED))
        assert code != INTERRUPTED or "prism-ray distill" in self.output, self.output
        return code, time.monotonic() - started


def wait_until(condition: Callable[[], object], seconds: float) -> bool:
    """Wait for a condition for so long at most; return whether it came true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
