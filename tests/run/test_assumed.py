"""A run whose images are assumed, and what is refused because the images are known."""

from pathlib import Path

import pytest

from prism_ray.config import Config
from prism_ray.data.assumed import Assumption
from prism_ray.errors import ConfigError, UsageError
from prism_ray.plan import Plan
from prism_ray.run.assumed import match_assumed
from prism_ray.store import StoreFiles
from tests.plans import config_of

THOUSAND = Assumption(1000, 1300)


def absent(**changes: object) -> Config:
    return config_of(data={"source": "image-folder", "path": "/absent", "image_size": 64}, **changes)


def test_the_plan_is_that_of_the_assumed_classes(tmp_path: Path) -> None:
    """Catches a forecast that needs the data after all."""
    asked = match_assumed(absent(), StoreFiles(str(tmp_path / "run")), "config.yaml", THOUSAND)
    assert Plan(asked.config, asked.facts).num_units("recover") == 2 * 4 * 10  # with the control
    assert asked.held is None
    assert asked.run_with(1).fingerprints


def test_what_is_known_is_not_assumed(tmp_path: Path) -> None:
    """Catches an assumption that is silently taken in place of the images, or of the run in the store."""
    files = StoreFiles(str(tmp_path / "run"))
    with pytest.raises(UsageError, match="digits are always there"):
        match_assumed(config_of(), files, "config.yaml", THOUSAND)
    there = config_of(data={"source": "image-folder", "path": str(tmp_path), "image_size": 64})
    with pytest.raises(UsageError, match="the real images are there"):
        match_assumed(there, files, "config.yaml", THOUSAND)
    files.create("commits/squeeze/t0.json", b"{}")
    with pytest.raises(UsageError, match="finished units"):
        match_assumed(absent(), files, "config.yaml", THOUSAND)


def test_an_assumption_that_the_config_contradicts_is_refused(tmp_path: Path) -> None:
    """Catches a plan of 10 classes for a config that says 1,000."""
    config = absent(data__num_classes=1000)
    with pytest.raises(ConfigError, match=r"data\.num_classes = 1000"):
        match_assumed(config, StoreFiles(str(tmp_path / "run")), "config.yaml", Assumption(10, 1300))
