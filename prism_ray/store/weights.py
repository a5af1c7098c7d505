"""What the fingerprint must know of weights that come from files. No torch here: `plan` reads it."""

import hashlib

import fsspec

from prism_ray.config import TeacherConfig
from prism_ray.errors import ConfigError

_PIECE_BYTES = 2**22


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
        with fsspec.open(path, "rb") as file:
            while piece := file.read(_PIECE_BYTES):
                digest.update(piece)
    except (OSError, ImportError, ValueError) as error:
        raise ConfigError(
            f"{key}.arch = {config.arch!r}: {path} cannot be read: {error}; correct the path"
        ) from error
    return digest.hexdigest()
