"""The process environment that Ray reads when it is imported. This module does not import Ray."""

import os
import secrets
import sys


def prepare_for_local_ray() -> None:
    """Set how a local Ray behaves, unless the user has set it or RAY_ADDRESS names a cluster.

    Authentication uses a token of this process. It keeps other users of the machine out, and leaves no file
    in the home folder, which would switch authentication on in clusters that are started later.
    """
    if os.environ.get("RAY_ADDRESS"):
        return
    assert "ray" not in sys.modules, "Ray reads its environment on import"
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    mode = os.environ.setdefault("RAY_AUTH_MODE", "token")
    if mode == "token" and not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
