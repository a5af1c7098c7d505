"""Which machines of the cluster are leaving or gone, as far as Ray knows."""

import socket
import time
from contextlib import suppress

import ray

_INTERVAL_S = 2.0
_REACH_TIMEOUT_S = 3.0


class NodeWatch:
    """Asks Ray every few seconds at most."""

    def __init__(self) -> None:
        self._asked_at = float("-inf")
        self._draining: frozenset[str] = frozenset()

    def draining(self) -> frozenset[str]:
        """Return the ids of the nodes that will be taken away soon."""
        if time.monotonic() - self._asked_at >= _INTERVAL_S:
            self._asked_at = time.monotonic()
            self._draining |= _draining_nodes()
        return self._draining

    def was_taken(self, node_id: str) -> bool:
        """True if the node is leaving, gone, or out of reach: what died there was not at fault.

        Waits a little for a node that does not answer.
        """
        self._asked_at = float("-inf")
        return node_id in self.draining() or not _answers(node_id)


def _answers(node_id: str) -> bool:
    """Say whether a node is there. Ray alone would believe so for half a minute after it has gone."""
    for node in ray.nodes():  # type: ignore[no-untyped-call]
        if node["NodeID"] == node_id and node["Alive"]:
            address = (node["NodeManagerAddress"], node["NodeManagerPort"])
            with suppress(OSError):
                socket.create_connection(address, timeout=_REACH_TIMEOUT_S).close()
                return True
    return False


def _draining_nodes() -> frozenset[str]:
    """Ask what Ray Train asks; it is no public call, and a Ray that lacks it drains without our knowledge."""
    try:
        from ray._private.state import state

        return frozenset(state.get_draining_nodes())
    except (ImportError, AttributeError):
        return frozenset()
