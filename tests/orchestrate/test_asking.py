"""How often the driver asks its actors how far they are. Without Ray: the actors only count."""

from pathlib import Path
from typing import Any

import pytest

from prism_ray.config import Config, parse_config
from prism_ray.orchestrate.actor import ActorInfo
from prism_ray.orchestrate.actors import Actors
from prism_ray.orchestrate.scaling import Shape
from prism_ray.stages.evaluate import EvaluateUnit
from prism_ray.store import StoreFiles


class Counting:
    """A class of actors and its only handle; each call has an answer that never comes."""

    def __init__(self) -> None:
        self.num_asked = 0
        self.start = self

    @property
    def usage(self) -> "Counting":
        self.num_asked += 1
        return self

    def options(self, **_: object) -> "Counting":
        return self

    def remote(self, *arguments: object) -> Any:
        return self if arguments else object()


def num_asked(store: Path, num_actors: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return how many times actors that are busy were asked in 100 seconds."""
    values = {
        "store": str(store),
        "data": {"source": "digits", "image_size": 32},
        "teachers": {"pool": [{"name": "a", "arch": "timm:test_resnet"}]},
        "recover": {"primary": "a", "ipc": 1},
        "evaluate": {"student": {"arch": "timm:test_resnet"}},
    }
    config: Config = parse_config(values, "test")
    handle, now = Counting(), 0.0
    monkeypatch.setattr("prism_ray.orchestrate.actors.time.monotonic", lambda: now)
    actors = Actors(config, StoreFiles(str(store)), Shape(num_actors, num_actors, 1, 0.0), handle)
    actors.keep_number(num_actors)
    for actor in actors._actors.values():
        actor.info = ActorInfo("host", 1, "node")
        actor.units = {object(): EvaluateUnit("a", "student", 0, 0)}  # type: ignore[dict-item]
    while now < 100.0:
        now += 0.25
        actors.expect_progress()
    return handle.num_asked


def test_questions_to_the_actors_do_not_grow_with_their_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a driver that a thousand actors keep busy with how far they are."""
    assert num_asked(tmp_path, 8, monkeypatch) == 8 * 50
    assert num_asked(tmp_path, 32, monkeypatch) == 32 * 50
    assert num_asked(tmp_path, 64, monkeypatch) == 16 * 100
    assert 16 * 64 <= num_asked(tmp_path, 1024, monkeypatch) <= 16 * 100
