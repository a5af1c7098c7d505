"""A run whose device's memory runs out, from the command line: on Ray, with actors that live on.

What runs out is simulated by a method from another package: its term raises what CUDA's allocator raises,
unless the step is one with activation checkpointing, of so many images at most.
"""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.timeout(200)]

Run = Callable[..., "CompletedProcess[str]"]

METHOD = """
import torch
from pydantic import BaseModel
from prism_ray.methods import Method


class Options(BaseModel, extra="forbid"):
    fits: int


class Narrow(Method):
    name = "narrow"
    title = "PRISM on a device with little memory"
    source = "a test"
    preset = {}
    options = Options

    def terms(self, setting):
        fits = Options(**setting.config.options).fits

        def nothing(x):
            if not setting.recompute or len(x) > fits:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
            return x.new_zeros(())

        return {"nothing": nothing}
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of installed packages that holds the method."""
    folder = tmp_path / "site"
    info = folder / "narrow-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "narrow.py").write_text(METHOD)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: narrow\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[prism_ray.methods]\nnarrow = narrow:Narrow\n")
    return folder


@pytest.fixture
def recover(
    site: Path, cli: Run, digits_config: Path, small_options: list[str], store_with_teachers: Path
) -> Run:
    """Recover with memory for so many images."""

    def run(fits: int) -> "CompletedProcess[str]":
        options = [*small_options, "--store", store_with_teachers, "--set", "recover.method=narrow"]
        options += ["--set", f"recover.options.fits={fits}"]
        return cli("recover", digits_config, *options, PYTHONPATH=str(site))

    return run


def test_a_run_goes_on_with_activation_checkpointing(recover: Run, tmp_path: Path) -> None:
    """Catches an actor that is ended, or an attempt that is counted, although the batch can be made."""
    done = recover(1000)
    assert done.returncode == 0, done.stderr
    commits = sorted((tmp_path / "run" / "commits" / "recover" / "distilled").glob("*.json"))
    assert len(commits) == 2
    assert all(json.loads(path.read_text())["stats"]["activation_checkpointing"] for path in commits)
    assert not (tmp_path / "run" / "failures").exists()


def test_a_run_ends_at_once_with_the_batch_size_that_fits(recover: Run, tmp_path: Path) -> None:
    """Catches hours of batches that fail one after another, three times each, for one and the same reason."""
    failed = recover(13)
    assert failed.returncode == 2, failed.stderr
    assert "20 images with the teachers resnet" in failed.stderr
    assert "13 would" in failed.stderr
    assert "lower recover.images_per_batch (now 100) to 13 or less" in failed.stderr
    assert not (tmp_path / "run" / "failures").exists()
    assert not list((tmp_path / "run" / "commits" / "recover" / "distilled").glob("*.json"))
