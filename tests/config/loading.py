"""What the tests of loading share: the shipped jobs, files to load, and the message of a refusal."""

from pathlib import Path

import pytest

from prism_ray.config import load_config
from prism_ray.errors import ConfigError

JOBS = sorted((Path(__file__).parents[2] / "jobs").glob("*.yaml"))


def complaint(path: Path, *overrides: str, store: str | None = None) -> str:
    """Load a config that must be refused; return the message."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides, store)
    return str(caught.value)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path
