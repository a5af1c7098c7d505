"""The process environment that Ray reads when it is imported. This module does not import Ray."""

import os
import secrets
import sys
import threading

THREAD_NAME = "ray-session"  # of the thread that calls Ray


def cluster_address() -> str | None:
    """Return RAY_ADDRESS if it names a cluster, None for a local Ray."""
    address = os.environ.get("RAY_ADDRESS", "").strip()
    return None if address in ("", "local") else address


def is_ray_stuck() -> bool:
    """Return whether a thread is still in Ray's code; then Python cannot end in order."""
    return any(thread.name == THREAD_NAME for thread in threading.enumerate())


def prepare_for_local_ray() -> None:
    """Set how a local Ray behaves, unless the user has set it or RAY_ADDRESS names a cluster.

    Authentication uses a token of this process. It keeps other users of the machine out, and leaves no file
    in the home folder, which would switch authentication on in clusters that are started later.
    """
    if cluster_address() is not None:
        return
    assert "ray" not in sys.modules, "Ray reads its environment on import"
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    mode = os.environ.setdefault("RAY_AUTH_MODE", "token")
    if mode == "token" and not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
