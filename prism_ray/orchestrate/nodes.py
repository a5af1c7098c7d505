"""The machines of the cluster: those that are alive, leaving or gone, as far as Ray knows."""

import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import ray

_INTERVAL_S = 2.0
_REACH_TIMEOUT_S = 3.0


Node = Mapping[str, Any]  # as ray.nodes() gives it


def live_nodes() -> list[Node]:
    """Return the nodes of the cluster that are alive."""
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


class NodeWatch:
    """The nodes that are leaving; Ray is asked every few seconds at most."""

    def __init__(self) -> None:
        self._asked_at = float("-inf")
        self._draining: frozenset[str] = frozenset()

    def draining(self) -> frozenset[str]:
        """Return the ids of the nodes that will be taken away soon."""
        if time.monotonic() - self._asked_at >= _INTERVAL_S:
            self._asked_at = time.monotonic()
            with suppress(ImportError, AttributeError):  # Ray Train uses this call too, but it is not public
                from ray._private.state import state

                self._draining |= frozenset(state.get_draining_nodes())
        return self._draining

    def was_taken(self, node_id: str) -> bool:
        """Return whether the node is leaving, gone, or out of reach: then what died there was not at fault.

        Waits a few seconds for a node that does not answer, because Ray notices a lost one only after half a
        minute.
        """
        self._asked_at = float("-inf")
        if node_id in self.draining():
            return True
        for node in ray.nodes():  # type: ignore[no-untyped-call]
            if node["NodeID"] == node_id and node["Alive"]:
                address = (node["NodeManagerAddress"], node["NodeManagerPort"])
                with suppress(OSError):
                    socket.create_connection(address, timeout=_REACH_TIMEOUT_S).close()
                    return False
        return True
