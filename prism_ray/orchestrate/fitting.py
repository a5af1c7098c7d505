"""Whether an actor fits on a machine of the cluster, and if not, which wish no machine fulfils.

A wish that nothing can fulfil ends the run within seconds, unless an autoscaler may still bring the machine.
"""

import json
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from prism_ray.config import OrchestrateConfig
from prism_ray.errors import UsageError
from prism_ray.orchestrate.environment import cluster_address
from prism_ray.orchestrate.nodes import Node, live_nodes
from prism_ray.orchestrate.scaling import Shape

_JOIN_S = 10.0  # for machines of a cluster that has just been started
_POLL_S = 0.5
_STATUS = "__autoscaling_status"  # key of Ray's internal store
_TYPE_WITHOUT_AUTOSCALER = re.compile(r"node_[0-9a-f]{20,}")
_ACCELERATOR = "accelerator_type:"
_ANY_OF = re.compile(r"in\((.*)\)")


@dataclass(frozen=True)
class _Wish:
    """A property that the machine of an actor must have."""

    key: str  # in the section orchestrate
    value: str
    is_fulfilled: Callable[[Node], bool]
    shown: Callable[[Node], str]  # what a machine has instead


def check_fit(settings: OrchestrateConfig, shape: Shape) -> None:
    """Raise UsageError if no machine of the cluster fits an actor and no autoscaler can bring one."""
    ends = time.monotonic() + _JOIN_S
    while True:
        problem = find_misfit(settings, shape, live_nodes())
        if problem is None or may_grow():
            return
        if cluster_address() is None or time.monotonic() >= ends:
            raise UsageError(problem)
        time.sleep(_POLL_S)


def find_misfit(settings: OrchestrateConfig, shape: Shape, nodes: Sequence[Node]) -> str | None:
    """Return which wish of an actor no machine fulfils, None if one of `nodes` fulfils all. Pure."""
    wishes = _wishes(settings, shape)
    if any(all(wish.is_fulfilled(node) for wish in wishes) for node in nodes):
        return None
    machines = "1 machine" if len(nodes) == 1 else f"{len(nodes)} machines"
    for wish in wishes:
        if not any(map(wish.is_fulfilled, nodes)):
            there = sorted(set(map(wish.shown, nodes))) or ["none"]
            return (
                f"orchestrate.{wish.key} = {wish.value}: none of the cluster's {machines} has it, and no "
                f"autoscaler can bring one that has; they have {', '.join(there)}. Set it to what a machine "
                "has, or leave it out"
            )
    keys = ", ".join(f"orchestrate.{wish.key} = {wish.value}" for wish in wishes)
    return (
        f"none of the cluster's {machines} has all that an actor needs at once ({keys}), and no autoscaler "
        "can bring one that has; change one of these settings"
    )


def _wishes(settings: OrchestrateConfig, shape: Shape) -> list[_Wish]:
    wishes = [_amount("threads_per_actor", "CPU", shape.num_threads)]
    if shape.num_gpus:
        wishes.append(_amount("gpus_per_actor", "GPU", shape.num_gpus))
    if settings.accelerator_type is not None:
        wishes.append(_accelerator(settings.accelerator_type))
    return wishes + [_label(name, value) for name, value in settings.label_selector.items()]


def _amount(key: str, kind: str, wanted: float) -> _Wish:
    def there(node: Node) -> float:
        return float(node["Resources"].get(kind, 0.0))

    return _Wish(
        key, f"{wanted:g}", lambda node: there(node) >= wanted, lambda node: f"{there(node):g} {kind}s"
    )


def _accelerator(wanted: str) -> _Wish:
    def there(node: Node) -> list[str]:
        kinds = (kind for kind in node["Resources"] if kind.startswith(_ACCELERATOR))
        return sorted(kind.removeprefix(_ACCELERATOR) for kind in kinds)

    return _Wish(
        "accelerator_type",
        repr(wanted),
        lambda node: wanted in there(node),
        lambda node: ", ".join(map(repr, there(node))) or "no accelerator",
    )


def _label(name: str, wanted: str) -> _Wish:
    def there(node: Node) -> str | None:
        label: str | None = node.get("Labels", {}).get(name)
        return label

    return _Wish(
        "label_selector",
        f"{{{name}: {wanted}}}",
        lambda node: is_selected(there(node), wanted),
        lambda node: f"no label {name}" if there(node) is None else f"{name}: {there(node)}",
    )


def is_selected(label: str | None, wanted: str) -> bool:
    """Return whether a node's label fulfils a value of Ray's label selector. Pure.

    >>> is_selected("a", "in(a, b)"), is_selected(None, "!a"), is_selected("b", "a")
    (True, True, False)
    """
    if wanted.startswith("!"):
        return not is_selected(label, wanted[1:])
    any_of = _ANY_OF.fullmatch(wanted)
    values = [value.strip() for value in any_of[1].split(",")] if any_of else [wanted]
    return label in values


def may_grow() -> bool:
    """Return whether an autoscaler may add machines to the cluster; true if Ray does not say."""
    if cluster_address() is None:
        return False  # a local Ray is this machine
    with suppress(ImportError, AttributeError, ValueError, TypeError):  # these interfaces are not public
        from ray._private.state import state
        from ray.experimental.internal_kv import _internal_kv_get

        config = state.get_cluster_config()
        if config is not None and config.node_group_configs:
            return True
        report = json.loads(_internal_kv_get(_STATUS))["autoscaler_report"]
        return not all(map(_TYPE_WITHOUT_AUTOSCALER.fullmatch, report["active_nodes"]))
    return True
