"""The command line: parse, call, print. It imports late what it calls, so that `status` answers at once."""

from prism_ray.cli import dashboard, exports, reports, runs, stores, sweeps
from prism_ray.cli.common import main
from prism_ray.cli.examples import add_examples

add_examples(main)

__all__ = ["dashboard", "exports", "main", "reports", "runs", "stores", "sweeps"]
