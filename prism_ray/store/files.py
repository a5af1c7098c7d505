"""The files of a store, local or remote through fsspec. Each is created once, as a whole, and never changed.

A name never leads out of the store, except that elsewhere/<store>/<part> is a part of another store of the
same sweep (elsewhere.py). A symbolic link in a local store may: what it leads to is read. Nothing is written
or deleted at either.
"""

import errno
import os
import posixpath
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from prism_ray.errors import StoreError, UsageError
from prism_ray.locations import STORE_SCHEMES, absolute, check_location, file_system, is_url
from prism_ray.store import layout
from prism_ray.store.elsewhere import SWEEP_RECORDS, is_elsewhere, no_sweep, path_beside
from prism_ray.store.remedy import missing
from prism_ray.store.retries import Result, with_retries

_MAX_BYTES = 2**33
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
_WRONG_PLACE = (PermissionError, FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)
_WRONG_PLACE_NUMBERS = (errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.ENODEV)
_WRITE_REMEDY = (
    "; free some space or permit writing, then run the same command again: all committed work is kept"
)


class StoreFiles:
    """The files below one folder or URL, under names with forward slashes.

    It is pickled as its location, so that it can be sent to actors.
    """

    def __init__(self, location: str, role: str = "store") -> None:
        """Raises UsageError if the URL cannot hold a store, or its package is missing.

        `role` is what errors call the location.
        """
        check_location(location, role, STORE_SCHEMES)
        self._role = role
        self.is_local = not is_url(location)
        if self.is_local:
            self.location = self._root = absolute(location)
            self._fs: Any = LocalFileSystem()  # not through a URL: signs in the path have no meaning
        else:
            self.location = location.rstrip("/")
            self._fs, self._root = file_system(self.location, role, STORE_SCHEMES)

    def __reduce__(self) -> tuple[Any, ...]:
        return (StoreFiles, (self.location, self._role))

    def path(self, name: str) -> str:
        """Return the full path of `name`; raises StoreError if it would lie outside the store."""
        is_inside = posixpath.normpath(name) == name != "." and not name.startswith(("/", ".."))
        if not is_inside or "\\" in name or not name.isprintable():
            raise StoreError(f"{self.location}: {name!r} is not a name inside the store")
        if is_elsewhere(name):
            return f"{self._sweep_folder}/{path_beside(self.location, name)}"
        return f"{self._root}/{name}"

    @cached_property
    def _sweep_folder(self) -> str:
        """The path of the folder of the sweep that this store is a point of.

        Raises StoreError if the folder above the store is not that of a sweep: then nothing beside the store
        is meant for it.
        """
        above = os.path.realpath(self._root) if self.is_local else self._root
        folder = above.rpartition("/")[0]
        with self._store_errors(layout.ELSEWHERE, "looked up"):
            records = f"{folder}/{SWEEP_RECORDS}"
            if self.is_local:
                is_sweep = os.path.isdir(records)
            else:
                is_sweep = bool(with_retries(lambda: self._fs.exists(records)))
        if not is_sweep:
            raise no_sweep(self.location)
        return folder

    @contextmanager
    def _store_errors(self, name: str, done: str, remedy: str = "") -> Iterator[None]:
        """Replace an OSError by a StoreError: the file `name` cannot be `done`."""
        try:
            yield
        except OSError as error:
            if isinstance(error, FileNotFoundError) and done in ("read", "opened"):
                raise missing(self, name) from None
            problem = f"{self.location}/{name} cannot be {done}: {error}"
            raise StoreError(problem + remedy, problem) from error

    def _path_inside(self, name: str) -> str:
        """Return the path of a file to be written or deleted.

        Raises StoreError if the name, or a symbolic link on the way to it, leads out of the store.
        """
        if is_elsewhere(name):
            raise StoreError(
                f"{self.location}/{name} is a file of another store; nothing is written or deleted there"
            )
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
        """Write a new file whole and durably; return False and change nothing if the name is taken.

        Raises StoreError if it cannot be written (no space, no permission).
        """
        path = self._path_inside(name)
        with self._store_errors(name, "written", _WRITE_REMEDY):
            if self.is_local:
                created = self._create_local(path, data)
                return created or (_removed_empty_folder(path) and self._create_local(path, data))
            try:
                with_retries(lambda: self._fs.pipe_file(path, data, mode="create"))
            except FileExistsError:
                return False
            return True

    def _create_local(self, path: str, data: bytes) -> bool:
        """Create a file exclusively, and whole even after a crash: the name is a link to a synced file."""
        folder = os.path.dirname(path)
        os.makedirs(folder, exist_ok=True)
        with self._temporary_file(data) as temporary:
            try:
                os.link(temporary, path)
            except FileExistsError:
                # NFS may make the link and lose its answer; then the repeated request fails, but it is ours.
                if os.stat(temporary).st_nlink == 1:
                    return False
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                # A crash can leave half a file here; its commit or its reader detects that.
                try:
                    _write_synced(path, data)
                except FileExistsError:
                    return False
                return True
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # the new name is durable too
        finally:
            os.close(descriptor)
        return True

    def remove_empty(self, folder: str) -> None:
        """Remove a local folder if it is empty; remote storage has no empty folders."""
        if self.is_local:
            _removed_empty_folder(self._path_inside(folder))

    def check_usable(self) -> None:
        """Create, list, read and delete a file, as a run does with many.

        Raises UsageError if the location does not offer that, and StoreError if it fails for another reason,
        for example because a disk is full.
        """
        name, data = f"{layout.WIP}/probe-{secrets.token_hex(8)}", b"prism-ray"
        try:
            for _ in range(3):  # a service may refuse a name that is free; asked again, it does not
                if self.create(name, data) or self.exists(name):
                    break
            is_exclusive = not self.create(name, b"another") and self.read(name) == data
            is_listed = (name, len(data)) in self.list(layout.WIP)
            self.delete(name)
            is_deleted = not self.exists(name)
        except StoreError as error:
            cause = error.__cause__
            if isinstance(cause, _WRONG_PLACE) or getattr(cause, "errno", None) in _WRONG_PLACE_NUMBERS:
                raise UsageError(
                    f"{self._role} {self.location!r} cannot be used, because it cannot be written: {cause}; "
                    "permit writing there, or give another location"
                ) from error
            raise
        for offered, what in (
            (is_exclusive, "create a file only where none has its name (a conditional write)"),
            (is_listed, "list files"),
            (is_deleted, "delete files"),
        ):
            if not offered:
                raise UsageError(
                    f"{self._role} {self.location!r} cannot be used: it was tried, and the storage does not "
                    f"{what}; give a local folder, or storage that does"
                )

    def replace(self, name: str, data: bytes) -> None:
        """Write a whole file in place of the one with this name, if any."""
        path = self._path_inside(name)
        with self._store_errors(name, "written", _WRITE_REMEDY):
            if self.is_local:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                _removed_empty_folder(path)
                with self._temporary_file(data) as temporary:
                    os.replace(temporary, path)
            else:
                with_retries(lambda: self._fs.pipe_file(path, data))

    @contextmanager
    def _temporary_file(self, data: bytes) -> Iterator[str]:
        """Write data to a new local file in wip/; it is deleted at the end."""
        path = self._path_inside(f"{layout.WIP}/aside-{secrets.token_hex(8)}")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            _write_synced(path, data)
            yield path
        finally:
            with suppress(FileNotFoundError):
                os.unlink(path)

    def _call(self, operation: Callable[[str], Result], name: str) -> Result:
        """Do something with the path of a file on remote storage, with retries."""
        path = self.path(name)
        return with_retries(lambda: operation(path))

    def read(self, name: str, max_bytes: int = _MAX_BYTES) -> bytes:
        """Return a file's bytes; raises StoreError if it is missing, unreadable or too large."""
        size = self.size(name)
        if size is not None and size > max_bytes:
            raise StoreError(
                f"{self.location}/{name} has {size:,} bytes, and such a file has {max_bytes:,} at most; it "
                "was not written by prism-ray: delete it"
            )
        return self.read_up_to(name, max_bytes)

    def read_up_to(self, name: str, num_bytes: int) -> bytes:
        """Return at most the first `num_bytes` of a file; raises StoreError if it cannot be read."""
        with self._store_errors(name, "read"):
            if self.is_local:
                path = self.path(name)
                size = _size_of_regular(path)
                with open(path, "rb") as file:
                    return file.read(min(num_bytes, size + 1))
            return self._call(lambda path: self._read_remote(path, num_bytes), name)

    def _read_remote(self, path: str, num_bytes: int) -> bytes:
        try:
            return bytes(self._fs.cat_file(path, start=0, end=num_bytes))
        except OSError:  # S3 refuses a range of an empty object
            if self._fs.size(path) == 0:
                return b""
            raise

    def open(self, name: str) -> Any:
        """Open a file for reading at any offset; raises StoreError if it cannot be opened."""
        with self._store_errors(name, "opened"):
            if self.is_local:
                _size_of_regular(self.path(name))
                return self._fs.open(self.path(name), "rb")
            return self._call(lambda path: self._fs.open(path, "rb"), name)

    def exists(self, name: str) -> bool:
        return self.size(name) is not None

    def size(self, name: str) -> int | None:
        """Return a file's size in bytes, None if there is no such file."""
        with self._store_errors(name, "looked up"):
            try:
                if self.is_local:
                    status = os.stat(self.path(name))
                    return None if stat.S_ISDIR(status.st_mode) else status.st_size
                return int(self._call(self._fs.size, name))
            except OSError as error:
                is_missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
                if is_missing or error.errno == errno.ELOOP:  # a link to itself
                    return None
                raise

    def written_at(self, name: str) -> float:
        """Return when a file was last written, in seconds since 1970; raises StoreError if it is missing."""
        with self._store_errors(name, "looked up"):
            if self.is_local:
                return os.stat(self.path(name)).st_mtime
            return float(self._call(self._fs.modified, name).timestamp())

    def list(self, folder: str) -> Iterator[tuple[str, int]]:
        """Yield name and size in bytes of every file anywhere below `folder`, in sorted order."""
        top = self.path(folder)
        if self.is_local:
            yield from _walk(top, folder)
            return
        with self._store_errors(folder, "listed"):
            try:
                found = self._call(lambda path: self._fs.find(path, detail=True), folder)
            except FileNotFoundError:
                return
        for path in sorted(found):
            yield f"{folder}/{path[len(top) + 1 :]}", int(found[path]["size"])

    def delete(self, name: str) -> None:
        """Delete a file, if it exists."""
        path = self._path_inside(name)
        with self._store_errors(name, "deleted"), suppress(FileNotFoundError):
            if not self.is_local:
                self._call(self._fs.rm_file, name)
            elif not _removed_empty_folder(path):
                os.remove(path)


def _walk(path: str, name: str) -> Iterator[tuple[str, int]]:
    """Yield the files below a local folder with their sizes, without those that are deleted meanwhile."""
    try:
        with os.scandir(path) as entries:
            # Folders have a slash in the comparison, so that whole names come in order.
            inside = sorted(entry.name + "/" * entry.is_dir(follow_symlinks=False) for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise StoreError(f"{path} cannot be listed: {error}") from error
    for entry in inside:
        if entry.endswith("/"):
            yield from _walk(f"{path}/{entry[:-1]}", f"{name}/{entry[:-1]}")
            continue
        with suppress(FileNotFoundError):
            try:
                status = os.stat(f"{path}/{entry}")
            except OSError:  # a link that leads nowhere
                status = os.lstat(f"{path}/{entry}")
            yield f"{name}/{entry}", status.st_size


def _size_of_regular(path: str) -> int:
    """Return a file's size; raises OSError for a pipe (reading would block) or a device (endless)."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is a folder, a pipe or a device, not a file; move it away")
    return status.st_size


def _removed_empty_folder(path: str) -> bool:
    """Remove a folder if it exists and is empty; return whether it was removed."""
    try:
        os.rmdir(path)
    except OSError:
        return False
    return True


def _write_synced(path: str, data: bytes) -> None:
    """Write a new file and flush it to disk."""
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
