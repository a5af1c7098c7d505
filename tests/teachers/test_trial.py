"""The trial of networks in a process of its own."""

import subprocess
import sys
from pathlib import Path

CODE = """
import sys
from prism_ray.config import load_config
from prism_ray.errors import PrismRayError
from prism_ray.teachers.trial import try_networks
for override in sys.argv[2:]:
    config = load_config(__import__("pathlib").Path(sys.argv[1]), [override], "/nowhere")
    try:
        try_networks(config, list('abcdefghij'), set())
        print("fine")
    except PrismRayError as error:
        print(type(error).__name__, error)
assert not {"torch", "timm", "torchvision"} & sys.modules.keys()
"""


def test_networks_are_tried_without_torch_in_this_process(digits_config: Path) -> None:
    """A `plan` that loads torch, or one that cannot say what is wrong with a network."""
    words = ["seed=1", "teachers.pool.0.arch=timm:test_resnett"]
    command = [sys.executable, "-c", CODE, str(digits_config), *words]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert answer.returncode == 0, answer.stderr
    first, second = answer.stdout.splitlines()
    assert first == "fine"
    assert second.startswith("ConfigError teachers.pool.0.arch = 'timm:test_resnett'")
