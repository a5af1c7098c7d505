"""A local Ray without the parts of its head node that a run does not use.

ray.init starts a dashboard, an autoscaler and a monitor of logs, even if none is asked for, and gives the
agent of the node a fixed port. On a machine where another Ray has that port, the agent tries for three
seconds to get it, and the start waits for the agent. ray.init has no settings for these four, only the class
of parameters and the node below it have.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial, partialmethod
from typing import Any

_PARAMETERS: dict[str, Any] = {
    "dashboard_agent_listen_port": 0,  # any free one; nobody connects to it
    "no_monitor": True,  # the autoscaler: one machine does not grow
    "include_log_monitor": False,  # it sends logs to the driver, which does not show them
}
_inside: list[bool] = []  # not empty: the names are replaced


@contextmanager
def lean_head() -> Iterator[None]:
    """Let a call of ray.init(address="local", include_dashboard=False) inside start only what a run uses.

    These names are not public in Ray. If a version of Ray lacks one, it starts what it starts otherwise.
    """
    if _inside:  # a start that did not return in time
        yield
        return
    replaced: list[tuple[Any, str, Any, Any]] = []  # owner, name, before, meanwhile
    with suppress(ImportError, AttributeError):
        from ray._private import parameter

        known = inspect.signature(parameter.RayParams).parameters.keys()
        params = partial(parameter.RayParams, **{k: v for k, v in _PARAMETERS.items() if k in known})
        replaced.append((parameter, "RayParams", parameter.RayParams, params))
    with suppress(ImportError, AttributeError):
        from ray._private import node

        start = node.Node.start_api_server
        replaced.append((node.Node, "start_api_server", start, partialmethod(_start_if_asked, start)))
    _inside.append(True)
    for owner, name, _, meanwhile in replaced:
        setattr(owner, name, meanwhile)
    try:
        yield
    finally:
        for owner, name, before, _ in replaced:
            setattr(owner, name, before)
        _inside.clear()


def _start_if_asked(node: Any, start: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Take the place of Node.start_api_server: without a dashboard it would only count Ray's users."""
    if kwargs.get("include_dashboard"):  # another Ray of this process, while a start of ours hangs
        start(node, *args, **kwargs)
