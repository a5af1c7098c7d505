"""Which machines of the cluster are leaving or gone, as far as Ray knows."""

import time

import ray

_INTERVAL_S = 2.0


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
        """True if the node is leaving, or gone: what died there was not at fault."""
        self._asked_at = float("-inf")
        return node_id in self.draining() or node_id not in _live_nodes()


def _live_nodes() -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}  # type: ignore[no-untyped-call]


def _draining_nodes() -> frozenset[str]:
    """Ask what Ray Train asks; it is no public call, and a Ray that lacks it drains without our knowledge."""
    try:
        from ray._private.state import state

        return frozenset(state.get_draining_nodes())
    except (ImportError, AttributeError):
        return frozenset()
