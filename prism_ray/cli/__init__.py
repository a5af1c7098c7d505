"""The command line: parse, call, print. It imports late what it calls, so that `status` answers at once."""

from prism_ray.cli import exports, runs, stores, sweeps
from prism_ray.cli.common import main

__all__ = ["exports", "main", "runs", "stores", "sweeps"]
