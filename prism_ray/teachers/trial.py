"""A trial of a config's networks in a process of its own: `plan` learns what is wrong and loads no torch.

    python -m prism_ray.teachers.trial < request.json

The request has the config, the classes of the data and the teachers in the store. The answer is one line of
JSON: null, or the error's name and message.
"""

import json
import subprocess
import sys
from collections.abc import Sequence, Set

from prism_ray.config import Config, parse_stored_config
from prism_ray.errors import BY_NAME, PrismRayError

_TIMEOUT_S = 600.0


def try_networks(config: Config, class_names: Sequence[str], in_store: Set[str]) -> None:
    """Build the config's networks elsewhere; raises as `check_networks` does.

    Raises ConfigError for what is wrong with them, PrismRayError if the trial itself fails (no torch).
    """
    if "torch" in sys.modules:
        from prism_ray.teachers.build import check_networks

        check_networks(config, class_names, in_store)
        return
    request = {
        "config": config.model_dump(mode="json"),
        "class_names": list(class_names),
        "in_store": sorted(in_store),
    }
    command = [sys.executable, "-m", __name__]
    try:
        process = subprocess.run(
            command,
            input=json.dumps(request),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        lines = process.stdout.splitlines()
        answer = json.loads(lines[-1]) if process.returncode == 0 and lines else "nothing"
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise PrismRayError(f"the networks cannot be tried: {error}") from None
    if answer is None:
        return
    if not isinstance(answer, dict):
        last = process.stderr.strip().rpartition("\n")[2]
        raise PrismRayError(f"the networks cannot be tried: {last or 'the process ended without an answer'}")
    raise BY_NAME.get(answer["error"], PrismRayError)(answer["message"])


def _main() -> None:
    from prism_ray.teachers.build import check_networks

    request = json.load(sys.stdin)
    config = parse_stored_config(request["config"], "the config")
    answer = None
    try:
        check_networks(config, request["class_names"], set(request["in_store"]))
    except PrismRayError as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    print(json.dumps(answer))


if __name__ == "__main__":
    _main()
