"""The process environment that Ray reads when it is imported. This module does not import Ray."""

import os
import secrets
import sys
import threading

from prism_ray.errors import UsageError

THREAD_NAME = "ray-session"  # of the thread that calls Ray

_prepared: list[bool] = []  # not empty: Ray was imported after its environment was set


def cluster_address() -> str | None:
    """Return RAY_ADDRESS if it names a cluster, None for a local Ray."""
    address = os.environ.get("RAY_ADDRESS", "").strip()
    return None if address in ("", "local") else address


def is_ray_stuck() -> bool:
    """Return whether a thread is still in Ray's code; then Python cannot end in order."""
    return any(thread.name == THREAD_NAME for thread in threading.enumerate())


def check_process() -> None:
    """Raise UsageError if this process cannot start or join a Ray of its own: a program uses the package.

    Signals can be answered in the main thread only, and Ray reads its settings when it is imported.
    """
    if threading.current_thread() is not threading.main_thread():
        raise UsageError(
            "a run can be started in the main thread only, because it answers signals; call it there"
        )
    ray = sys.modules.get("ray")
    if ray is None:
        return
    if ray.is_initialized():
        raise UsageError(
            "this process is connected to Ray already, and a run makes a connection of its own; call "
            "ray.shutdown() first, or start the run in another process"
        )
    if cluster_address() is None and not _prepared:
        raise UsageError(
            "Ray was imported before the run began, and reads its settings on import; call distill "
            "before the first `import ray`, or set RAY_ADDRESS to a running cluster"
        )


def prepare_for_local_ray() -> None:
    """Set how a local Ray behaves, unless the user has set it or RAY_ADDRESS names a cluster.

    Authentication uses a token of this process. It keeps other users of the machine out, and leaves no file
    in the home folder, which would switch authentication on in clusters that are started later. A second run
    in the same process has the same settings.
    """
    if cluster_address() is not None or _prepared:
        return
    assert "ray" not in sys.modules, "Ray reads its environment on import"
    _prepared.append(True)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    mode = os.environ.setdefault("RAY_AUTH_MODE", "token")
    if mode == "token" and not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
