"""Parts in another store: how the points of a sweep share what their fingerprints have in common. Pure.

A sweep is a folder or URL with a store for each point, side by side, and a record of each sweep file:

SWEEP/
  sweep/<name>.json     the points of a sweep file; the folder marks SWEEP as a sweep
  <point>/              the store of a point

A commit may name a part of a store beside its own, as elsewhere/<point>/<part>. Such a name is relative, so
the whole sweep can be moved or copied. It leads to the files of units alone, only in a folder that is a
sweep, and only for reading: whoever repairs, compacts or cleans one point leaves the files of the others as
they are.
"""

import re

from prism_ray.errors import StoreError
from prism_ray.store import layout

SWEEP_RECORDS = "sweep"  # the folder that marks a sweep

_POINT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=+,-]*")


def is_elsewhere(name: str) -> bool:
    """Return whether a name of a store means a part of another store of its sweep."""
    return name.startswith(f"{layout.ELSEWHERE}/")


def is_point(name: str) -> bool:
    """Return whether a folder of a sweep can be a point: its name has no sign with a meaning in a path."""
    return _POINT.fullmatch(name) is not None and name != SWEEP_RECORDS


def name_elsewhere(point: str, name: str) -> str:
    """Return the name by which the other stores of a sweep refer to a part of a point.

    >>> name_elsewhere("slots=1", "images/part-i00000-c00000-0.parquet")
    'elsewhere/slots=1/images/part-i00000-c00000-0.parquet'
    """
    return name if is_elsewhere(name) else f"{layout.ELSEWHERE}/{point}/{name}"


def own_name(name: str) -> str:
    """Return the name that a part has in its own store."""
    return name.split("/", 2)[2] if is_elsewhere(name) else name


def path_beside(location: str, name: str) -> str:
    """Return the path of a part elsewhere in the sweep's folder; raises StoreError if it is not one.

    `location` names the store in the error.
    """
    _, point, *rest = name.split("/", 2)
    if not rest or not is_point(point) or not layout.is_part(rest[0]):
        raise StoreError(f"{location}: {name!r} is not a part of another store of a sweep")
    return f"{point}/{rest[0]}"


def no_sweep(location: str) -> StoreError:
    """Return the error of a store that refers to stores beside it, but is in no sweep."""
    return StoreError(
        f"{location} uses files of other points of its sweep, but the folder above it is no sweep (it has no "
        f"folder {SWEEP_RECORDS}); move or copy the whole folder of the sweep, not one point"
    )
