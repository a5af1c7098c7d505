"""A local Ray starts only what a run uses, whatever other Rays the machine has."""

import os
from types import SimpleNamespace
from typing import Any

import pytest

from prism_ray.orchestrate.lean import lean_head
from tests.programs import run_program

_STARTS = """
import json
import psutil
from prism_ray.config import load_config
from prism_ray.orchestrate.environment import prepare_for_local_ray

prepare_for_local_ray()
from ray._private import node, parameter
from prism_ray.orchestrate.cluster import connect

before = (parameter.RayParams, node.Node.start_api_server)
with connect(load_config("jobs/digits.yaml"), 1) as shape:
    commands = [" ".join(each.cmdline()) for each in psutil.Process().children(recursive=True)]
after = (parameter.RayParams, node.Node.start_api_server)
print(json.dumps({"commands": commands, "restored": before == after, "actors": shape.max_actors}))
"""


def test_a_local_ray_has_no_part_that_a_run_does_not_use() -> None:
    """Catches a version of Ray in which the names of lean.py mean nothing: the start would be slow again."""
    found = run_program(_STARTS, environment=dict(os.environ), timeout=120.0)
    assert found["restored"]
    assert found["actors"] >= 1
    names = " ".join(found["commands"])
    assert "gcs_server" in names
    assert "--listen-port=0" in names
    for part in ("dashboard/dashboard.py", "monitor.py", "log_monitor.py"):
        assert part not in names


def test_a_ray_without_these_names_starts_what_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches an AttributeError with a Ray whose private parts are others."""
    from ray._private import node, parameter

    class Other:
        def __init__(self, dashboard_port: int | None = None) -> None: ...

    monkeypatch.setattr(parameter, "RayParams", Other)
    monkeypatch.setattr(node, "Node", SimpleNamespace())
    with lean_head():
        assert isinstance(parameter.RayParams(dashboard_port=1), Other)
        assert not vars(node.Node)
    monkeypatch.delattr(parameter, "RayParams")
    monkeypatch.delattr(node, "Node")
    with lean_head():
        assert not hasattr(parameter, "RayParams")


def test_all_names_are_as_before_after_an_error() -> None:
    """Catches a later Ray of the same process, perhaps the user's own, that lacks its dashboard."""
    from ray._private import node, parameter

    def names() -> list[Any]:
        return [parameter.RayParams, node.Node.start_api_server]

    def fail() -> None:
        with lean_head():
            assert names() != before
            raise ZeroDivisionError

    before = names()
    with pytest.raises(ZeroDivisionError):
        fail()
    assert names() == before
