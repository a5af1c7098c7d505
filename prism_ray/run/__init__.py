"""One run in a store: what it is, how far it is, what is asked of it. No torch, no Ray."""

from prism_ray.run.ledger import Ledger
from prism_ray.run.match import Asked, find_damaged_records, match, read_index
from prism_ray.run.plan_file import (
    Run,
    bound_scopes,
    load_run,
    new_run,
    package_versions,
    refusal,
    save_run,
)
from prism_ray.run.progress import RunProgress, StageProgress, read_progress

__all__ = [
    "Asked",
    "Ledger",
    "Run",
    "RunProgress",
    "StageProgress",
    "bound_scopes",
    "find_damaged_records",
    "load_run",
    "match",
    "new_run",
    "package_versions",
    "read_index",
    "read_progress",
    "refusal",
    "save_run",
]
