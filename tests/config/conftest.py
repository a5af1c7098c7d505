"""A small valid config file that the tests of the sections lay `--set` options over."""

from pathlib import Path

import pytest

MINIMAL = """\
store: ./runs/minimal
data:
  source: digits
  image_size: 32
teachers:
  pool:
    - {name: first, arch: "timm:test_resnet"}
    - {name: second, arch: "timm:densenet121", kwargs: {growth_rate: 8}}
recover:
  ipc: 10
  primary: first
  crop_scale: [0.5, 1.0]
  iterations: 100
  iterations_step: 10
evaluate:
  student: {arch: "timm:test_resnet"}
"""


@pytest.fixture
def minimal() -> str:
    """Text of the smallest sensible config."""
    return MINIMAL


@pytest.fixture
def config_path(tmp_path: Path) -> Path:
    """The smallest sensible config as a file."""
    path = tmp_path / "minimal.yaml"
    path.write_text(MINIMAL, encoding="utf-8")
    return path
