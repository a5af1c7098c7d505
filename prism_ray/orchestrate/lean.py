"""A local Ray without the parts of its head node that a run does not use.

ray.init starts a dashboard, an autoscaler and a monitor of logs, even if none is asked for, and gives the
agent of the node a fixed port. On a machine where another Ray has that port, the agent tries for three
seconds to get it, and the start waits for the agent. ray.init has no settings for these four, only the class
of parameters and the node below it have.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

_PARAMETERS = {
    "dashboard_agent_listen_port": 0,  # any free one; nobody connects to it
    "no_monitor": True,  # the autoscaler: one machine does not grow
    "include_log_monitor": False,  # it sends logs to the driver, which does not show them
}


@contextmanager
def lean_head() -> Iterator[None]:
    """Let a call of ray.init(address="local", include_dashboard=False) inside start only what a run uses.

    These names are not public in Ray. If a version of Ray lacks one, it starts what it starts otherwise.
    """
    from ray._private import node, parameter

    replaced: list[tuple[Any, str, Any]] = []
    params = getattr(parameter, "RayParams", None)
    if params is not None and _PARAMETERS.keys() <= inspect.signature(params).parameters.keys():
        replaced.append((parameter, "RayParams", partial(params, **_PARAMETERS)))
    head = getattr(node, "Node", None)
    if hasattr(head, "start_api_server"):
        replaced.append((head, "start_api_server", _start_no_api_server))
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in replaced]
    for owner, name, value in replaced:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def _start_no_api_server(node: Any, **_: Any) -> None:
    """Take the place of Node.start_api_server: without a dashboard it would only count Ray's users."""
