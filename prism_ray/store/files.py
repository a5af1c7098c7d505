"""Files of a store, local or remote through fsspec: created once and whole, never changed, read by name.

A name never leads out of the store. A symbolic link inside a local one may: what it leads to is read, but
nothing is written or deleted there.
"""

import errno
import os
import posixpath
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from prism_ray.errors import StoreError, UsageError
from prism_ray.store import layout
from prism_ray.store.remedy import missing
from prism_ray.store.retries import Result, with_retries

_MAX_BYTES = 2**33
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


def is_url(location: str) -> bool:
    """True for s3://... and the like, False for a path of this machine."""
    return "://" in location


def absolute(path: str) -> str:
    """Return a local path with `~` expanded and made absolute."""
    return os.path.abspath(os.path.expanduser(path))


class StoreFiles:
    """The files below one folder or URL, under names with forward slashes.

    Pickles as its location, so that actors can be handed one.
    """

    def __init__(self, location: str) -> None:
        """Raises UsageError if no file system for the URL is installed."""
        if is_url(location):
            self.location = location.rstrip("/")
        else:
            self.location = absolute(location)
        try:
            # Other drivers and actors write here too: what a listing said a moment ago may have changed.
            self._fs, self._root = url_to_fs(self.location, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            scheme = urlsplit(location).scheme
            extra = "; install prism-ray[s3]" if scheme == "s3" else ""
            raise UsageError(f"store {location!r} cannot be opened: {error}{extra}") from None
        self.is_local = isinstance(self._fs, LocalFileSystem)

    def __reduce__(self) -> tuple[Any, ...]:
        return (StoreFiles, (self.location,))

    def path(self, name: str) -> str:
        """Return the full path of `name`; raises StoreError if it would lie outside the store."""
        normal = posixpath.normpath(name)
        if (
            normal != name
            or name.startswith(("/", ".."))
            or name in ("", ".")
            or "\\" in name
            or not name.isprintable()
        ):
            raise StoreError(f"{self.location}: {name!r} is not a name inside the store")
        return f"{self._root}/{name}"

    def _path_inside(self, name: str) -> str:
        """Return the path of a file to be written or deleted.

        Raises StoreError if a symbolic link on the way to it leads out of the store.
        """
        path = self.path(name)
        if self.is_local:
            folder, root = os.path.realpath(os.path.dirname(path)), os.path.realpath(self._root)
            if folder != root and not folder.startswith(root.rstrip("/") + "/"):
                raise StoreError(
                    f"{self.location}/{name}: a symbolic link on the way leads out of the store, to "
                    f"{folder}; nothing is written or deleted there. Put a folder in its place, or link the "
                    "whole store"
                )
        return path

    def create(self, name: str, data: bytes) -> bool:
        """Write a new file whole and durably; return False, changing nothing, if something is there.

        Raises StoreError if it cannot be written (no space, no permission).
        """
        path = self._path_inside(name)
        try:
            if self.is_local:
                created = self._create_local(path, data)
                return created or (_removed_empty_folder(path) and self._create_local(path, data))
            try:
                with_retries(lambda: self._fs.pipe_file(path, data, mode="create"))
            except FileExistsError:
                return False
            return True
        except OSError as error:
            raise self._write_error(name, error) from error

    def _create_local(self, path: str, data: bytes) -> bool:
        """Exclusive and crash-safe: write aside, flush to disk, then link under the name."""
        folder = os.path.dirname(path)
        os.makedirs(folder, exist_ok=True)
        aside = self._write_aside(data)
        try:
            os.link(aside, path)
        except FileExistsError:
            # A link over NFS may be made although its answer was lost; then the name is ours.
            if os.stat(aside).st_nlink == 1:
                return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return _write_exclusively(path, data)
        finally:
            os.unlink(aside)
        _sync_folder(folder)
        return True

    def remove_empty(self, folder: str) -> None:
        """Remove a local folder if nothing is in it; elsewhere there are none."""
        if self.is_local:
            _removed_empty_folder(self._path_inside(folder))

    def check_writable(self) -> None:
        """Write a file and delete it again; raises StoreError if that is not possible."""
        name = f"{layout.WIP}/probe-{secrets.token_hex(8)}"
        self.create(name, b"prism-ray")
        self.delete(name)

    def replace(self, name: str, data: bytes) -> None:
        """Write a file whole over whatever is there; only for copies that a person reads."""
        path = self._path_inside(name)
        try:
            if self.is_local:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                _removed_empty_folder(path)
                aside = self._write_aside(data)
                try:
                    os.replace(aside, path)
                except OSError:
                    os.unlink(aside)
                    raise
            else:
                with_retries(lambda: self._fs.pipe_file(path, data))
        except OSError as error:
            raise self._write_error(name, error) from error

    def _write_aside(self, data: bytes) -> str:
        aside = self._path_inside(f"{layout.WIP}/aside-{secrets.token_hex(8)}")
        os.makedirs(os.path.dirname(aside), exist_ok=True)
        try:
            _write_synced(aside, data)
        except OSError:
            if os.path.exists(aside):
                os.unlink(aside)
            raise
        return aside

    def _call(self, operation: Callable[[str], Result], name: str) -> Result:
        """Do something with a file's path; behind a network again, if it fails for a passing reason."""
        path = self.path(name)
        return operation(path) if self.is_local else with_retries(lambda: operation(path))

    def _write_error(self, name: str, error: OSError) -> StoreError:
        return StoreError(
            f"{self.location}/{name} cannot be written: {error}; make room or permit writing and "
            "run the same command again, everything committed is kept"
        )

    def read(self, name: str, max_bytes: int = _MAX_BYTES) -> bytes:
        """Return a file's bytes; raises StoreError if it is missing, cannot be read, or has too many."""
        size = self.size(name)
        if size is not None and size > max_bytes:
            raise StoreError(
                f"{self.location}/{name} has {size:,} bytes, and such a file has {max_bytes:,} at most; it "
                "was not written by prism-ray: delete it"
            )
        return self.read_up_to(name, max_bytes)

    def read_up_to(self, name: str, num_bytes: int) -> bytes:
        """Return the first `num_bytes` of a file, all of a shorter one.

        Raises StoreError if it is missing or cannot be read.
        """
        try:
            return self._call(lambda path: self._read_up_to(path, num_bytes), name)
        except FileNotFoundError:
            raise missing(self, name) from None
        except OSError as error:
            raise StoreError(f"{self.location}/{name} cannot be read: {error}") from error

    def _read_up_to(self, path: str, num_bytes: int) -> bytes:
        if self.is_local:
            size = _size_of_regular(path)
            with open(path, "rb") as file:
                return file.read(min(num_bytes, size + 1))
        try:
            return bytes(self._fs.cat_file(path, start=0, end=num_bytes))
        except OSError:  # S3 has no first byte of an empty object to give
            if self._fs.size(path) == 0:
                return b""
            raise

    def open(self, name: str) -> Any:
        """Open a file for reading at any place; raises StoreError if it cannot be opened."""
        try:
            if self.is_local:
                _size_of_regular(self.path(name))
            return self._call(lambda path: self._fs.open(path, "rb"), name)
        except FileNotFoundError:
            raise missing(self, name) from None
        except OSError as error:
            raise StoreError(f"{self.location}/{name} cannot be opened: {error}") from error

    def exists(self, name: str) -> bool:
        return self.size(name) is not None

    def size(self, name: str) -> int | None:
        """Return a file's size in bytes, None if there is no such file."""
        try:
            if self.is_local:
                status = os.stat(self.path(name))
                return None if stat.S_ISDIR(status.st_mode) else status.st_size
            return int(self._call(self._fs.size, name))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                return None  # a link to itself
            raise StoreError(f"{self.location}/{name} cannot be looked at: {error}") from error

    def written_at(self, name: str) -> float:
        """Return when a file was last written, in seconds since 1970; raises StoreError if it is missing."""
        try:
            return float(self._call(self._fs.modified, name).timestamp())
        except OSError as error:
            raise StoreError(f"{self.location}/{name} cannot be looked at: {error}") from error

    def list(self, folder: str) -> Iterator[tuple[str, int]]:
        """Yield name and size in bytes of every file anywhere below `folder`, in sorted order."""
        top = self.path(folder)
        if self.is_local:
            yield from _walk(top, folder)
            return
        try:
            found = self._call(lambda path: self._fs.find(path, detail=True), folder)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(f"{self.location}/{folder} cannot be listed: {error}") from error
        for path in sorted(found):
            yield f"{folder}/{path[len(top) + 1 :]}", int(found[path]["size"])

    def delete(self, name: str) -> None:
        """Delete a file; it may be gone already."""
        path = self._path_inside(name)
        try:
            if not (self.is_local and _removed_empty_folder(path)):
                self._call(self._fs.rm_file, name)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StoreError(f"{self.location}/{name} cannot be deleted: {error}") from error


def _walk(path: str, name: str) -> Iterator[tuple[str, int]]:
    """Yield the files below a local folder with their sizes; what goes meanwhile is left out."""
    try:
        with os.scandir(path) as entries:
            inside = sorted(
                entry.name + "/" * entry.is_dir(follow_symlinks=False) for entry in entries
            )  # with the slash, so that whole names come in order
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise StoreError(f"{path} cannot be listed: {error}") from error
    for entry in inside:
        if entry.endswith("/"):
            yield from _walk(f"{path}/{entry[:-1]}", f"{name}/{entry[:-1]}")
            continue
        with suppress(FileNotFoundError):
            yield f"{name}/{entry}", _size(f"{path}/{entry}")


def _size(path: str) -> int:
    """Return a file's size in bytes, of a link that leads nowhere its own."""
    try:
        return os.stat(path).st_size
    except OSError:
        return os.lstat(path).st_size


def _size_of_regular(path: str) -> int:
    """Return a file's size; raises OSError for a pipe, on which a reader waits, or a device without end."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is a folder, a pipe or a device where a file belongs; move it away")
    return status.st_size


def _removed_empty_folder(path: str) -> bool:
    """Remove a folder, if there is one and nothing is in it; return whether it was removed."""
    try:
        os.rmdir(path)
    except OSError:
        return False
    return True


def _write_exclusively(path: str, data: bytes) -> bool:
    """Where no links can be made: a crash can leave half a file, which its commit or its reader finds out."""
    try:
        _write_synced(path, data)
    except FileExistsError:
        return False
    return True


def _write_synced(path: str, data: bytes) -> None:
    """Write a new file and flush it to disk."""
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: str) -> None:
    """Make a new name durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
