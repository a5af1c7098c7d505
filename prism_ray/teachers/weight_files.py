"""Files of weights: opening them, what they are by their first bytes, and their identity for the fingerprint.

No torch, because plan uses it. The networks in a file are read in weights.py.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prism_ray.config import TeacherConfig
from prism_ray.errors import ConfigError, UsageError
from prism_ray.locations import READ_SCHEMES, absolute, file_system, is_url, open_to_read
from prism_ray.wording import first_of

_MAX_BYTES = 2**34  # of a file of weights: four billion parameters
_HEAD_BYTES = 512
_PIECE_BYTES = 2**20
_SHOWN_CHARACTERS = 40
_TORCH_ENDINGS = (".pth", ".pt", ".bin", ".ckpt", ".tar")
_LISTED = 5

# First bytes of files that people take for weights, and what such a file is.
_OTHER_FORMATS = {
    b"version https://git-lfs": "a Git LFS pointer and not the file itself; fetch it with `git lfs pull`",
    b"\x89HDF\r\n": "an HDF5 file (Keras), which prism-ray does not read; convert it to safetensors",
    b"GGUF": "a GGUF file, which prism-ray does not read; take the safetensors file of the same network",
    b"\x93NUMPY": "a numpy array; give a state dict or a safetensors file",
    b"\x1f\x8b": "packed with gzip; unpack it first",
    b"BZh": "packed with bzip2; unpack it first",
    b"\xfd7zXZ": "packed with xz; unpack it first",
    b"7z\xbc\xaf": "packed with 7-Zip; unpack it first",
}


def split_network(path: str) -> tuple[str, str | None]:
    """Return the file of `path`, and the key of the network in it if `path` is <file>#<key>.

    A file whose name contains # is meant as a whole if it exists, and without its last #<key> otherwise.
    Raises ValueError if nothing follows the #.
    """
    if "#" not in path or _exists(path):
        return path, None
    file, _, key = path.rpartition("#")
    parts = path.split("#")
    for number in range(len(parts) - 1, 0, -1):
        if _exists("#".join(parts[:number])):
            file, key = "#".join(parts[:number]), "#".join(parts[number:])
            break
    if not key:
        raise ValueError(f"no key follows the #; write {file!r}, or {file + '#'!r} with the key of a network")
    return file, key


def _exists(path: str) -> bool:
    if not is_url(path):
        return os.path.exists(absolute(path))
    if path.startswith(("http://", "https://")):  # a # is no part of an address
        return False
    try:
        files, name = file_system(path, "file of weights", READ_SCHEMES)
        return bool(files.exists(name))
    except (OSError, ValueError, UsageError):
        return False


@contextmanager
def open_weights(path: str) -> Iterator[Any]:
    """Open a file of weights; raises OSError or ValueError if that fails or it is too large.

    Raises UsageError if it has a URL that cannot be used.
    """
    if not is_url(path):
        _check_is_file(Path(absolute(path)))
    with open_to_read(path, "file of weights") as file:
        size = getattr(file, "size", None) if is_url(path) else os.path.getsize(absolute(path))
        if size is not None and size > _MAX_BYTES:
            raise ValueError(f"{size:,} bytes, and weights can have {_MAX_BYTES:,}")
        yield file


def _check_is_file(path: Path) -> None:
    if path.is_dir():
        endings = (".safetensors", *_TORCH_ENDINGS)
        inside = sorted(entry.name for entry in path.iterdir() if entry.suffix in endings)
        shown = f" ({first_of(inside, _LISTED)})" if inside else ""
        raise ValueError(f"it is a folder; give the path of a file in it{shown}")
    if path.exists() and not path.is_file():
        raise ValueError("not a regular file")


def is_safetensors(head: bytes) -> bool:
    """Return whether a file begins as safetensors does: the length of its header, then the header in JSON."""
    return len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= 100_000_000


def check_format(data: bytes, path: str) -> None:
    """Raise ValueError if a file's first bytes show that it has no weights, or of another format than named.

    `data` is the file, or at least its first 512 bytes.
    """
    head = data[:_HEAD_BYTES]
    if not head:
        raise ValueError("it is empty (0 bytes); copy or download it again")
    for first, what in _OTHER_FORMATS.items():
        if head.startswith(first):
            raise ValueError(f"it is {what}")
    if is_safetensors(head):
        if path.endswith(_TORCH_ENDINGS):
            raise ValueError("it is a safetensors file by its content; let its name end in .safetensors")
        return
    is_torch = head.startswith((b"PK", b"\x80"))
    if is_torch and path.endswith(".safetensors"):
        raise ValueError("it is a file of torch.save by its content; let its name end in .pth")
    text = head.decode("utf-8-sig", "replace").lstrip()
    if text.startswith("<"):
        raise ValueError("it is a web page (HTML or XML), and not weights; download the file itself")
    cut = text[:-1]  # a character may be cut at the end
    if len(cut) > 1 and all(c.isprintable() or c in "\t\r\n" for c in cut) and "\ufffd" not in cut:
        shown = text.partition("\n")[0][:_SHOWN_CHARACTERS]
        raise ValueError(f"it is a text that begins with {shown!r}, and not weights")


def weights_sha256(config: TeacherConfig, key: str) -> str | None:
    """Return the SHA-256 of a teacher's file of weights, None if it has no such file.

    Bytes identify a file, its path does not: it may be moved. The key of a network in the file follows the
    hash after a #, because another key means other weights. Raises ConfigError if the file cannot be read.
    """
    if config.weights_path is None:
        return None
    path = config.weights_path
    try:
        path, network = split_network(path)
        digest = hashlib.sha256()
        with open_weights(path) as file:  # which may be a stream, without a way back
            piece = file.read(_PIECE_BYTES)
            check_format(piece, path)
            while piece:
                digest.update(piece)
                piece = file.read(_PIECE_BYTES)
    except (OSError, ValueError, UsageError) as error:
        raise unreadable(config, key, path, error) from error
    return digest.hexdigest() if network is None else f"{digest.hexdigest()}#{network}"


def unreadable(config: TeacherConfig, key: str, path: str, error: Exception) -> ConfigError:
    """Return the error of a file of weights that cannot be read."""
    where = f"{key}.arch = {config.arch!r}"
    if isinstance(error, UsageError):  # of its URL
        return ConfigError(f"{where}: {error}")
    remedy = ""
    if isinstance(error, OSError):
        remedy = "; the path must lead to the file on every machine of the cluster, or be a URL"
    return ConfigError(f"{where}: {path} cannot be read: {error}{remedy}")
