"""The methods by name: those of this package and those that installed packages register.

To register a method, a package has an entry point of the group `prism_ray.methods` that names the class, for
example prism-tv = "prism_tv:PrismTv".
"""

from functools import cache
from importlib.metadata import entry_points

from prism_ray.methods.base import Method
from prism_ray.methods.presets import PRESETS, Row

__all__ = ["ENTRY_POINTS", "Method", "find_method", "method_names"]

ENTRY_POINTS = "prism_ray.methods"


def method_names() -> tuple[str, ...]:
    """Return the names of all methods, the built-in ones first."""
    return tuple(_registry())


def find_method(name: str) -> Method | None:
    """Return the method with this name, or None."""
    return _registry().get(name)


@cache
def _registry() -> dict[str, Method]:
    found = {name: _method_of(name, row) for name, row in PRESETS.items()}
    for entry in entry_points(group=ENTRY_POINTS):
        kind = entry.load()
        if not (isinstance(kind, type) and issubclass(kind, Method)):
            raise TypeError(f"the entry point {entry.name} = {entry.value} is not a prism_ray.methods.Method")
        if not isinstance(getattr(kind, "name", None), str):
            raise TypeError(
                f"the entry point {entry.name} = {entry.value} is a method without a name; set `name`"
            )
        if kind.name in found:
            raise TypeError(
                f"the entry point {entry.value} names its method {kind.name!r}, which is taken; rename it"
            )
        found[kind.name] = kind()
    return found


def _method_of(name: str, row: Row) -> Method:
    """Return the method of a row of the table: a subclass of attributes alone."""
    kind: type[Method] = type(name, (Method,), {"name": name, **vars(row)})
    return kind()
