"""The store of a run: files, layout, records, commits, the lease, failures. No torch, no Ray."""

from prism_ray.store.commits import Commit, PartFile, read_commit, read_part, revoke, write_commit, write_part
from prism_ray.store.failures import (
    Failure,
    read_failures,
    record_failure,
    retry,
    retry_after_store_errors,
    set_aside,
    store_errors_set_aside,
    units_set_aside,
)
from prism_ray.store.files import StoreFiles
from prism_ray.store.lease import Driver, Lease, read_driver

__all__ = [
    "Commit",
    "Driver",
    "Failure",
    "Lease",
    "PartFile",
    "StoreFiles",
    "read_commit",
    "read_driver",
    "read_failures",
    "read_part",
    "record_failure",
    "retry",
    "retry_after_store_errors",
    "revoke",
    "set_aside",
    "store_errors_set_aside",
    "units_set_aside",
    "write_commit",
    "write_part",
]
