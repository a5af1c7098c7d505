"""Stores on both kinds of file system, and a small run to put into them."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from prism_ray.config import parse_config
from prism_ray.data import DataFacts
from prism_ray.store import Run, StoreFiles, new_run


@pytest.fixture
def local(tmp_path: Path) -> StoreFiles:
    """A store in a folder that does not exist yet."""
    return StoreFiles(str(tmp_path / "run"))


@pytest.fixture(params=["local", "memory"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreFiles]:
    """A store in a folder, then one behind a URL."""
    if request.param == "local":
        yield StoreFiles(str(tmp_path / "run"))
        return
    location = f"memory://prism-{uuid.uuid4().hex}"
    yield StoreFiles(location)
    system, root = fsspec.core.url_to_fs(location)
    if system.exists(root):
        system.rm(root, recursive=True)


@pytest.fixture
def make_run() -> Callable[..., Run]:
    """Describe a small run; `changes` are a__b=value for the setting a.b."""

    def make(num_threads: int = 1, identity: str = "some data", **changes: Any) -> Run:
        values: dict[str, Any] = {
            "store": "somewhere",
            "data": {"source": "digits", "image_size": 8},
            "teachers": {"pool": [{"name": name, "arch": "timm:x"} for name in ("a", "b")]},
            "recover": {"ipc": 2, "primary": "a", "iterations": 9, "iterations_step": 0},
            "relabel": {"epochs": 4, "epochs_per_unit": 2},
            "evaluate": {"student": {"arch": "timm:x"}, "seeds": 1},
        }
        for key, value in changes.items():
            node = values
            *sections, name = key.split("__")
            for section in sections:
                node = node.setdefault(section, {})
            node[name] = value
        facts = DataFacts(("x", "y", "z"), (5, 5, 5), num_test_images=3, channels=1, identity=identity)
        return new_run(parse_config(values, "test"), facts, num_threads)

    return make
