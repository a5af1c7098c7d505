"""What is said of this machine."""

import subprocess
import sys

import pytest

from prism_ray.machine import Machine, this_machine


def test_this_machine_is_described() -> None:
    """Catches figures of another machine that are taken for those of this one."""
    machine = this_machine()
    assert machine.num_cores >= 1
    assert machine.processor
    assert str(machine.num_cores) in machine.describe()
    assert Machine("a CPU", 8, "NVIDIA H100").describe() == "NVIDIA H100 (a CPU, 8 cores)"


@pytest.mark.skipif(sys.platform != "linux", reason="Only Linux tells the peak of a process.")
def test_the_peak_of_memory_counts_what_is_freed() -> None:
    """Catches what is used now in place of the most, and kilobytes that are taken for bytes."""
    code = (
        "from prism_ray.machine import peak_resident_bytes\n"
        "before = peak_resident_bytes(); held = bytearray(b'x') * (100 * 2**20); del held\n"
        "print(peak_resident_bytes() - before)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 90 * 2**20 < int(answer.stdout) < 110 * 2**20
