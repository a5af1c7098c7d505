"""A local Ray without the parts of its head node that a run does not use.

ray.init starts a dashboard, an autoscaler and a monitor of logs, even if none is asked for, and gives the
agent of the node a fixed port. On a machine where another Ray has that port, the agent tries for three
seconds to get it, and the start waits for the agent. ray.init has no settings for these four, only the class
of parameters and the node below it have.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
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
    _inside.append(True)
    with ExitStack() as stack:
        stack.callback(_inside.clear)
        with suppress(ImportError, AttributeError):
            from ray._private import parameter

            known = inspect.signature(parameter.RayParams).parameters.keys()
            params = partial(parameter.RayParams, **{k: v for k, v in _PARAMETERS.items() if k in known})
            _replace(parameter, "RayParams", params, stack)
        with suppress(ImportError, AttributeError):
            from ray._private import node

            start = partialmethod(_start_if_asked, node.Node.start_api_server)
            _replace(node.Node, "start_api_server", start, stack)
        yield


def _replace(owner: Any, name: str, value: Any, stack: ExitStack) -> None:
    stack.callback(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, value)


def _start_if_asked(node: Any, start: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Take the place of Node.start_api_server: without a dashboard it would only count Ray's users."""
    if kwargs.get("include_dashboard"):  # another Ray of this process, while a start of ours hangs
        start(node, *args, **kwargs)
