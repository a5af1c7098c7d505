"""One run in a store: plan.json, progress, and the comparison with a requested config. No torch, no Ray."""

from prism_ray.run.ledger import Ledger
from prism_ray.run.match import Asked, find_damaged_records, match, read_index
from prism_ray.run.plan_file import NOT_IN_CONFIG, Run, load_run, new_run, package_versions, save_run
from prism_ray.run.progress import RunProgress, StageProgress, read_progress

__all__ = [
    "NOT_IN_CONFIG",
    "Asked",
    "Ledger",
    "Run",
    "RunProgress",
    "StageProgress",
    "find_damaged_records",
    "load_run",
    "match",
    "new_run",
    "package_versions",
    "read_index",
    "read_progress",
    "save_run",
]
