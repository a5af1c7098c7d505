"""Stores that the tests of the report share: a small run that was really made, and one of hostile names."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prism_ray.parts.images import encode_images
from prism_ray.report.opened import Opened, open_all
from prism_ray.run import Run, load_run, save_run
from prism_ray.stages.recover import image_part
from prism_ray.store import StoreFiles, write_part
from tests.filled import commit_unit
from tests.worked import work

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(2)</script>",
    "abc\u202edcba",
    "a" * 300,
    "{{ 7 * 7 }} & \"quotes\" 'too'",
    "猫 \x1b[31m",
)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a small run of digits, made in this process; to be copied, not changed."""
    folder = tmp_path_factory.mktemp("report") / "run"
    work(
        folder,
        "teachers.pool=[{name: resnet, arch: 'timm:test_resnet'}, {name: judge, arch: 'timm:test_byobnet'}]",
        "analyze.verifiers=[judge]",
        "recover.init=random",
        "recover.iterations=6",
        "image_sets={prism: {}, random-real: {method: random-real}}",
        "evaluate.num_students=2",
    )
    return folder


@pytest.fixture
def opened(made: Path) -> Opened:
    """The small run, open for reading."""
    return open_store(made)


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    """A copy of the small run, which may be changed."""
    return Path(shutil.copytree(made, tmp_path / "copied"))


@pytest.fixture
def fill(make_run: Callable[..., Run], tmp_path: Path) -> Callable[..., StoreFiles]:
    """Make a store of images alone, without a computation: fill(class_names, ipc=..., size=...)."""

    def make(
        names: tuple[str, ...], *, ipc: int = 2, size: int = 8, channels: int = 3, **more: Any
    ) -> StoreFiles:
        from dataclasses import replace

        run = make_run(recover__ipc=ipc, data__image_size=size, **more)
        facts = replace(run.facts, class_names=names, train_counts=(5,) * len(names), channels=channels)
        from prism_ray.run import new_run

        run = new_run(run.config, facts, 1)
        files = StoreFiles(str(tmp_path / f"filled-{len(names)}"))
        save_run(files, run)
        rng = np.random.default_rng(0)
        for unit in run.plan.units("recover"):
            pixels = rng.integers(0, 256, (len(unit.slots), channels, size, size), dtype=np.uint8)
            data = encode_images(unit, pixels, names)
            part = write_part(
                files, lambda attempt, unit=unit: image_part(unit, attempt), data, len(unit.slots)
            )
            commit_unit(files, run, unit, [part])
        return files

    return make


def open_store(*stores: Path | str | StoreFiles) -> Any:
    """Open stores for a report: one, or a list of several."""
    files = [store if isinstance(store, StoreFiles) else StoreFiles(str(store)) for store in stores]
    found = open_all([(each, load_run(each)) for each in files])
    return found[0] if len(found) == 1 else found


@pytest.fixture
def store_with_only_a_plan(make_run: Callable[..., Run], tmp_path: Path) -> StoreFiles:
    """The store of a run that has done nothing yet."""
    files = StoreFiles(str(tmp_path / "begun"))
    save_run(files, make_run())
    return files
