"""Stores on the S3 server that a test has started."""

from collections.abc import Callable

from prism_ray.store import StoreFiles

ServerStart = Callable[..., str]


def fresh(location: str) -> StoreFiles:
    """Open a store with a file system object of its own; they are shared within a process otherwise."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    return StoreFiles(location)
