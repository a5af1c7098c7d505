"""The process of a calibration: `python -m prism_ray.calibrate < request.json`; see process.py."""

import sys
import time


def main() -> None:
    """Measure what the request asks for; print one line of JSON: the figures, or an error."""
    import json

    import torch

    from prism_ray.calibrate.measure import measure
    from prism_ray.device import repeat_bytes
    from prism_ray.errors import PrismRayError

    request = json.load(sys.stdin)
    repeat_bytes()
    torch.set_num_threads(request["num_threads"])
    try:
        answer = measure(request, time.process_time(), _say)
    except PrismRayError as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    except torch.OutOfMemoryError as error:
        answer = {"error": "DeviceMemoryError", "message": f"a step does not fit into the memory: {error}"}
    print(json.dumps(answer), flush=True)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
