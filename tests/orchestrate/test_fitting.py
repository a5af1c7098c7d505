"""Wishes for machines, held against the machines that there are."""

import re
from typing import Any

import pytest

from prism_ray.config import OrchestrateConfig
from prism_ray.orchestrate.fitting import find_misfit, is_selected
from prism_ray.orchestrate.scaling import Shape


def node(cpus: float, gpus: float = 0.0, kind: str | None = None, **labels: str) -> dict[str, Any]:
    resources = {"CPU": cpus} | ({"GPU": gpus} if gpus else {})
    return {"Resources": resources | ({f"accelerator_type:{kind}": 1.0} if kind else {}), "Labels": labels}


NODES = [node(8), node(4, 2, "A10", zone="a"), node(4, 8, "H100", zone="b")]


def misfit(nodes: list[dict[str, Any]], threads: int = 1, gpus: float = 0.0, **settings: Any) -> str | None:
    return find_misfit(OrchestrateConfig(**settings), Shape(1, 1, threads, gpus), nodes)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"threads": 8},
        {"gpus": 8.0, "threads": 4},
        {"accelerator_type": "H100", "gpus": 0.5},
        {"label_selector": {"zone": "a"}, "gpus": 2.0},
        {"label_selector": {"zone": "!a"}, "accelerator_type": "H100"},
        {"label_selector": {"zone": "in(a, c)"}},
    ],
)
def test_a_wish_that_a_machine_fulfils_is_no_misfit(settings: dict[str, Any]) -> None:
    """Catches a run refused on a cluster that has the machine."""
    assert misfit(NODES, **settings) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threads": 9}, r"orchestrate\.threads_per_actor = 9: none .* they have 4 CPUs, 8 CPUs\."),
        ({"gpus": 9.0}, r"orchestrate\.gpus_per_actor = 9: none .* they have 0 GPUs, 2 GPUs, 8 GPUs\."),
        ({"accelerator_type": "H200"}, "accelerator_type = 'H200': .* 'A10', 'H100', no accelerator"),
        ({"accelerator_type": "h100"}, "accelerator_type = 'h100': none of the cluster's 3 machines has it"),
        ({"label_selector": {"zone": "c"}}, "{zone: c}: .* they have no label zone, zone: a, zone: b"),
        ({"label_selector": {"rack": "in(1, 2)"}}, r"label_selector = \{rack: in\(1, 2\)\}"),
        (
            {"threads": 5, "gpus": 1.0},
            "none .* at once .*threads_per_actor = 5, orchestrate.gpus_per_actor = 1",
        ),
    ],
)
def test_the_wish_that_nothing_fulfils_is_named(settings: dict[str, Any], message: str) -> None:
    """Catches minutes of waiting for a machine that never comes, or a message without the wish."""
    found = misfit(NODES, **settings)
    assert found is not None
    assert re.search(message, found)


def test_a_cluster_without_machines_is_told_too() -> None:
    """Catches an error in the making of the error."""
    assert "they have none" in str(misfit([]))


def test_selectors_mean_what_they_mean_to_ray() -> None:
    """Catches a run refused because of a negated or a listed value."""
    assert is_selected("a", "a")
    assert is_selected("b", "!a")
    assert is_selected(None, "!in(a, b)")
    assert not is_selected("b", "!in(a, b)")
    assert not is_selected(None, "in(a, b)")
