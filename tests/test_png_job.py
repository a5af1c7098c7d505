"""The digits job with its images kept as PNG files: killed, gone on with, and the same as with Parquet.

Run as a module this file does a run's units in one process, to be killed.
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from prism_ray.config import load_config
from prism_ray.data import open_data
from prism_ray.parts.images import ImageForm, read_images
from prism_ray.run import load_run, new_run, save_run
from prism_ray.stages import stage_names
from prism_ray.store import StoreFiles, read_commit
from prism_ray.work.worker import Worker
from tests.stores import committed

pytestmark = [pytest.mark.ray, pytest.mark.timeout(280)]

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def work_through(store: Path, config: Path, overrides: tuple[str, ...]) -> None:
    """Do all units of a run in this process."""
    settings = load_config(config, overrides, str(store))
    run = new_run(settings, open_data(settings.data).facts(), num_threads=1)
    files = StoreFiles(settings.store_url)
    save_run(files, run)
    worker = Worker(run, files, torch.device("cpu"))
    for stage in stage_names():
        for unit in run.plan.units(stage):
            worker.do(unit)


def accuracies(store: Path) -> dict[str, float]:
    paths = (store / "commits" / "evaluate").rglob("*.json")
    return {
        commit["unit"]: commit["stats"]["accuracy"] for commit in map(json.loads, map(Path.read_text, paths))
    }


def test_students_are_the_same_and_nothing_is_lost(
    cli: Run,
    digits_config: Path,
    small_options: list[str],
    small_overrides: tuple[str, ...],
    calm: Path,
    tmp_path: Path,
) -> None:
    """Catches pixels that depend on how they are kept, images lost in a kill, and damage that goes unseen."""
    store = tmp_path / "png"
    png_overrides = (*small_overrides, "store.image_format=png")
    command = [sys.executable, "-m", "tests.test_png_job", store, digits_config, *png_overrides]
    worker = subprocess.Popen(command, cwd=Path(__file__).parents[1])
    deadline = time.monotonic() + 120.0
    while not list(store.glob("images/*/*.png")):
        assert time.monotonic() < deadline
        assert worker.poll() is None
        time.sleep(0.005)
    worker.send_signal(signal.SIGKILL)
    worker.wait(timeout=90)
    options = [*small_options, "--set", "store.image_format=png", "--store", store]
    finished = cli("distill", digits_config, *options)
    assert finished.returncode == 0, finished.stderr
    verified = cli("verify", store)
    assert verified.returncode == 0, verified.stdout
    assert len(list(store.glob("images/*/*.png"))) == 40

    theirs, ours = committed(calm), committed(store)
    assert theirs.keys() == ours.keys()
    for unit, parts in theirs.items():
        if not unit.startswith("recover/"):
            assert parts == ours[unit]  # labels, students: to the byte
    assert accuracies(calm) == accuracies(store) != {}
    found = []
    for place in (calm, store):
        files = StoreFiles(str(place))
        run = load_run(files)
        commits = [read_commit(files, unit_id) for unit_id in run.plan.unit_ids("recover", "distilled")]
        found.append(read_images(files, commits, ImageForm.of(run.plan, "distilled")))
    assert found[0].slots == found[1].slots
    assert np.array_equal(found[0].images, found[1].images)

    damaged = store / "images" / "00003" / "00002-0.png"
    whole = damaged.read_bytes()
    damaged.write_bytes(bytes(len(whole)))
    complaint = cli("verify", "--repair", store)
    assert complaint.returncode == 3
    assert "images/00003/00002-0.png has another SHA-256" in complaint.stdout
    work_through(store, digits_config, png_overrides)
    assert damaged.read_bytes() == whole
    assert committed(store) == ours


if __name__ == "__main__":
    torch.set_num_threads(1)
    work_through(Path(sys.argv[1]), Path(sys.argv[2]), tuple(sys.argv[3:]))
