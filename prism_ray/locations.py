"""Locations: local paths, and URLs of storage that fsspec opens. Which schemes can be used is listed here.

A location is a URL only if it begins with a scheme, as s3://bucket/run does. All others are local paths,
whatever signs are in them: `::`, `#` and `*` mean nothing special. What is done with the files is decided by
the callers.
"""

import importlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fsspec import get_filesystem_class
from fsspec.registry import known_implementations

from prism_ray.errors import PrismRayError, UsageError
from prism_ray.suggest import did_you_mean

# Scheme -> package. Only storage that creates a file exclusively: two attempts must not both believe that
# they have committed a unit.
STORE_SCHEMES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
}
# For files that are only read: configs and weights.
READ_SCHEMES = STORE_SCHEMES | {"https": "aiohttp", "http": "aiohttp", "hf": "huggingface_hub"}

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//?)")
_CHAIN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)::(?=[A-Za-z][A-Za-z0-9+.-]*://)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_REASONS = {
    "memory": "the memory of one process cannot be seen by the actors, which are other processes",
    "file": "give the path alone",
    "local": "give the path alone",
}


def is_url(location: str) -> bool:
    """Return True for a URL such as s3://bucket/run, False for a local path.

    A chain of file systems (zip::s3://...) counts as a URL, and so does s3:/bucket/run, where a slash was
    forgotten: neither is meant as the name of a folder.
    """
    return _scheme(location) is not None


def _scheme(location: str) -> str | None:
    """Return the scheme of a URL, None for a local path."""
    if chain := _CHAIN.match(location):
        return f"{chain[1]}::"
    if found := _SCHEME.match(location):
        scheme, slashes = found.groups()
        if slashes == "//" or scheme.lower() in known_implementations:
            return scheme
    return None


def absolute(path: str) -> str:
    """Return a local path with `~` expanded and made absolute."""
    return os.path.abspath(os.path.expanduser(path))


def check_location(location: str, what: str, schemes: Mapping[str, str]) -> None:
    """Raise UsageError if a location cannot be used, as far as its text and the packages here show.

    `what` is its role in the error, for example "store"; `schemes` are those that can be used, with their
    packages.
    """
    if not location.strip():
        raise UsageError(f"the {what} {location!r} is empty; give a folder or a URL")
    if _CONTROL.search(location):
        raise UsageError(f"{what} {location!r} contains a control character or a byte that is not UTF-8")
    if is_url(location):
        file_system(location, what, schemes)


def file_system(url: str, what: str, schemes: Mapping[str, str]) -> tuple[Any, str]:
    """Return fsspec's file system of a URL, and the path of the URL in it.

    Raises UsageError if the scheme is not one of `schemes`, the URL names no bucket, or a package is missing.
    """
    scheme = _scheme(url)
    assert scheme is not None, url
    subject = f"{what} {url!r} cannot be used"
    rest = url[len(scheme) :]
    if scheme not in schemes:
        raise UsageError(f"{subject}: {_why_not(scheme, rest, schemes)}")
    if not rest.startswith("://"):
        raise UsageError(f"{subject}: write {scheme}:/{rest[1:]}, or ./{url} for a local path of that name")
    if rest[3:4] in ("", "/"):
        raise UsageError(f"{subject}: it names no bucket; write it as {scheme}://bucket/run")
    package = schemes[scheme]
    try:
        if package == "aiohttp":  # fsspec imports it late
            importlib.import_module(package)
        kind = get_filesystem_class(scheme)
    except ImportError as error:
        wanted = "prism-ray[s3]" if package == "s3fs" else package
        raise UsageError(
            f"{subject}: {scheme}:// needs the package {package} ({error}); pip install '{wanted}'"
        ) from None
    try:
        # No cache: other drivers and actors write there too, so an earlier listing may be outdated.
        system = kind(use_listings_cache=False, **kind._get_kwargs_from_urls(url))
        # Not fsspec's url_to_fs, which would take `::` in a name for a chain of file systems.
        return system, str(kind._strip_protocol(url))
    except Exception as error:  # of the packages' own kinds, for example for credentials
        raise UsageError(f"{subject}: {type(error).__name__}: {error}") from error


def _why_not(scheme: str, rest: str, schemes: Mapping[str, str]) -> str:
    """Return why a scheme cannot be used, and what can."""
    packages: dict[str, list[str]] = {}
    for name, package in schemes.items():
        packages.setdefault(package, []).append(f"{name}://")
    known = ", ".join(f"{' or '.join(names)} ({package})" for package, names in packages.items())
    name = scheme.removesuffix("::")
    if name in ("file", "local") and not scheme.endswith("::"):
        reason = f"{_REASONS[name]}, {re.sub('^:/+', '/', rest)}"
    elif name in _REASONS:
        reason = _REASONS[name]
    elif name.lower() in schemes and name not in schemes:
        reason = f"write {name.lower()}://"
    elif scheme.endswith("::"):
        reason = "a chain of file systems is not supported"
    else:
        reason = f"{name}:// is not supported" + did_you_mean(name, {key: f"{key}://" for key in schemes})
    return f"{reason}; supported are local paths, {known}; a local path of that name is written ./{scheme}..."


@contextmanager
def open_to_read(location: str, what: str) -> Iterator[Any]:
    """Open a local path or a URL for reading bytes.

    Raises UsageError if the location cannot be used, and OSError if the file cannot be opened or read.
    """
    check_location(location, what, READ_SCHEMES)
    if not is_url(location):
        with open(absolute(location), "rb") as local:
            yield local
        return
    system, path = file_system(location, what, READ_SCHEMES)
    try:
        with system.open(path, "rb") as remote:
            yield remote
    except (OSError, ValueError, PrismRayError):
        raise
    except Exception as error:  # the file systems' own errors are not all OSErrors
        raise OSError(f"{type(error).__name__}: {error}") from error
