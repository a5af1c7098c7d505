"""Files of weights: opening them, and their SHA-256 for the fingerprint. No torch, because plan uses it."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prism_ray.config import TeacherConfig
from prism_ray.errors import ConfigError, UsageError
from prism_ray.locations import absolute, is_url, open_to_read

_MAX_BYTES = 2**34  # of a file of weights: four billion parameters


@contextmanager
def open_weights(path: str) -> Iterator[Any]:
    """Open a file of weights; raises OSError or ValueError if that fails or it is too large.

    Raises UsageError if it has a URL that cannot be used.
    """
    if not is_url(path) and Path(absolute(path)).exists() and not Path(absolute(path)).is_file():
        raise ValueError("not a regular file")
    with open_to_read(path, "file of weights") as file:
        size = getattr(file, "size", None)
        if size is not None and size > _MAX_BYTES:
            raise ValueError(f"{size:,} bytes, and weights can have {_MAX_BYTES:,}")
        yield file


def weights_sha256(config: TeacherConfig, key: str) -> str | None:
    """Return the SHA-256 of a teacher's file of weights, None if it has no such file.

    Bytes identify a file, its path does not: it may be moved. Raises ConfigError if it cannot be read.
    """
    path = config.weights_path
    if path is None:
        return None
    try:
        with open_weights(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except UsageError as error:
        raise ConfigError(f"{key}.arch = {config.arch!r}: {error}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{key}.arch = {config.arch!r}: {path} cannot be read: {error}; correct the path"
        ) from error
