"""The memory of a local run."""

import subprocess
import sys
import time

from prism_ray.orchestrate.memory import MemorySampler

CHILD = "import time; held = bytearray(200 * 2**20); held[::4096] = b'x' * len(held[::4096]); time.sleep(30)"


def test_children_count() -> None:
    """Catches a peak that leaves out the actors, which are grandchildren of the driver."""
    with MemorySampler() as alone:
        time.sleep(0.2)
    child = subprocess.Popen([sys.executable, "-c", CHILD])
    try:
        with MemorySampler() as together:
            time.sleep(3.0)
    finally:
        child.kill()
        child.wait()
    assert 180 * 2**20 < together.peak_bytes - alone.peak_bytes < 400 * 2**20
