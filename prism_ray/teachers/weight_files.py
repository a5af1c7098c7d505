"""What the fingerprint must know of weights that come from files. No torch here: `plan` reads it."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec

from prism_ray.config import TeacherConfig
from prism_ray.errors import ConfigError
from prism_ray.store.files import is_url

_PIECE_BYTES = 2**22
_MAX_BYTES = 2**34  # of a file of weights: four billion parameters


@contextmanager
def open_weights(path: str) -> Iterator[Any]:
    """Open a file of weights; raises OSError, ImportError or ValueError if it cannot be, or is too large."""
    if not is_url(path) and Path(path).exists() and not Path(path).is_file():
        raise ValueError("not a regular file")
    with fsspec.open(path, "rb") as file:
        size = getattr(file, "size", None)
        if size is not None and size > _MAX_BYTES:
            raise ValueError(f"{size:,} bytes, and weights can have {_MAX_BYTES:,}")
        yield file


def weights_sha256(config: TeacherConfig, key: str) -> str | None:
    """Return the SHA-256 of a teacher's file of weights, None if it has no such file.

    A file has the bytes for its identity, and not the path, so that it may lie elsewhere the next time.
    Raises ConfigError if it cannot be read.
    """
    path = config.weights_path
    if path is None:
        return None
    digest = hashlib.sha256()
    try:
        with open_weights(path) as file:
            while piece := file.read(_PIECE_BYTES):
                digest.update(piece)
    except (OSError, ImportError, ValueError) as error:
        raise ConfigError(
            f"{key}.arch = {config.arch!r}: {path} cannot be read: {error}; correct the path"
        ) from error
    return digest.hexdigest()
