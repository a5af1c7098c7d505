"""The run's store: layout, commit protocol, images, labels, progress. No torch, no Ray."""

from prism_ray.store.commits import (
    Commit,
    PartFile,
    read_commit,
    read_part,
    revoke,
    write_commit,
    write_part,
)
from prism_ray.store.failures import (
    Failure,
    read_failures,
    record_failure,
    retry,
    retry_after_store_errors,
    set_aside,
    units_set_aside,
)
from prism_ray.store.files import StoreFiles, absolute, is_url
from prism_ray.store.lease import Lease
from prism_ray.store.ledger import Ledger
from prism_ray.store.match import Asked, match, read_index
from prism_ray.store.progress import RunProgress, StageProgress, read_progress
from prism_ray.store.run import (
    Run,
    bound_scopes,
    load_run,
    new_run,
    package_versions,
    refusal,
    save_run,
)

__all__ = [
    "Asked",
    "Commit",
    "Failure",
    "Lease",
    "Ledger",
    "PartFile",
    "Run",
    "RunProgress",
    "StageProgress",
    "StoreFiles",
    "absolute",
    "bound_scopes",
    "is_url",
    "load_run",
    "match",
    "new_run",
    "package_versions",
    "read_commit",
    "read_failures",
    "read_index",
    "read_part",
    "read_progress",
    "record_failure",
    "refusal",
    "retry",
    "retry_after_store_errors",
    "revoke",
    "save_run",
    "set_aside",
    "units_set_aside",
    "write_commit",
    "write_part",
]
