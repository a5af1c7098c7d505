"""A calibration as `plan` makes it: real units of a small run, in processes of their own."""

from pathlib import Path

import pytest

from prism_ray.calibrate.figures import Calibration, settings_of_groups
from prism_ray.calibrate.process import calibrate
from prism_ray.config import Config
from prism_ray.data.assumed import Assumption
from prism_ray.errors import ConfigError
from prism_ray.run import Asked, match
from prism_ray.run.assumed import match_assumed
from prism_ray.store import StoreFiles
from tests.plans import config_of

NET = {"arch": "timm:test_resnet"}
POOL = {"pool": [{"name": "a", **NET}, {"name": "b", "arch": "timm:test_efficientnet", "stem": "small"}]}


def measured(asked: Asked, is_assumed: bool = False, num_processes: int = 1) -> Calibration:
    return calibrate(asked, 1, num_processes, False, is_assumed, lambda text: None)


def small(**changes: object) -> Config:
    recover = {"ipc": 2, "primary": "a", "iterations": 20, "iterations_step": 5, "formation": "joint"}
    recover["statistics"] = {"layers": "bn+conv", "class_share": 0.5}
    return config_of(
        **{
            "teachers": POOL,
            "recover": recover,
            "evaluate": {"student": NET, "num_students": 1, "controls": ["full-data", "no-augmentation"]},
            "analyze__verifiers": [],
            "collect__patch_size": 4,
            "store": "nowhere/run",
            **changes,
        }
    )


def test_every_group_of_a_run_is_measured(tmp_path: Path) -> None:
    """Catches a stage, a method or a control whose steps a calibration leaves out, or cannot do."""
    asked = match(small(), StoreFiles(str(tmp_path / "run")), "config.yaml")
    made = measured(asked, num_processes=2)
    wanted = settings_of_groups(asked.config, asked.facts)
    assert {name: group.settings for name, group in made.groups.items()} == wanted
    for name, group in made.groups.items():
        assert min(group.seconds.values()) >= 0.0, name
        assert name == "data" or max(group.seconds.values()) > 0.0, name
        assert name == "data" or group.peak_bytes > 2**26, name
    sizes = {step.partition(" ")[0] for step in made.groups["recover/distilled"].seconds if " " in step}
    assert len(sizes) == 2  # images join late
    assert made.start_seconds > 0.5
    assert made.machine.device == "cpu"
    assert not list(tmp_path.iterdir())  # the store is the caller's


def test_it_needs_no_real_images(tmp_path: Path) -> None:
    """Catches a calibration that can be made only when a terabyte has been copied."""
    config = small(
        data={"source": "image-folder", "path": "/absent", "image_size": 32}, relabel={"mode": "online"}
    )
    files = StoreFiles(str(tmp_path / "run"))
    made = measured(match_assumed(config, files, "config.yaml", Assumption(20, 50)), is_assumed=True)
    assert made.groups["data"].seconds["read_image"] > 1e-4  # a photograph is decoded
    assert "relabel" not in made.groups  # nothing is stored
    assert made.groups["evaluate/student"].seconds["step"] > 0.0


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    """Catches a traceback of another process, or an endless wait for it."""
    config = small(teachers={"pool": [{"name": "a", "arch": "timm:no_such_network"}]})
    asked = match(config, StoreFiles(str(tmp_path / "run")), "config.yaml")
    with pytest.raises(ConfigError, match="no_such_network"):
        measured(asked)
