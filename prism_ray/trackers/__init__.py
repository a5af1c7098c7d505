"""The trackers by name: where the figures of a run are sent while it goes on.

An installed package registers a tracker by an entry point of the group `prism_ray.trackers`, whose name is
that of the tracker and whose value is a subclass of `Tracker`, for example aim = "prism_aim:Aim". What is
sent is decided in run/points.py, and when in run/tracking.py.
"""

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pkgutil import resolve_name

from prism_ray.trackers.base import Item, Picture, Point, TrackedRun, Tracker

__all__ = [
    "ENTRY_POINTS",
    "Item",
    "Picture",
    "Point",
    "TrackedRun",
    "Tracker",
    "find_tracker",
    "tracker_names",
]

ENTRY_POINTS = "prism_ray.trackers"

_BUILT_IN = {
    "tensorboard": "prism_ray.trackers.tensorboard:TensorBoard",
    "wandb": "prism_ray.trackers.wandb:WandB",
    "mlflow": "prism_ray.trackers.mlflow:MLflow",
    "trackio": "prism_ray.trackers.trackio:Trackio",
}


def tracker_names() -> tuple[str, ...]:
    """Return the names of all trackers, the built-in ones first; none of them is loaded."""
    return (*_BUILT_IN, *_from_outside())


def find_tracker(name: str) -> type[Tracker]:
    """Return the tracker with this name; raises LookupError if there is none."""
    kind = resolve_name(_BUILT_IN[name]) if name in _BUILT_IN else _from_outside()[name].load()
    if not (isinstance(kind, type) and issubclass(kind, Tracker)):
        raise TypeError(f"the entry point {name} of {ENTRY_POINTS} is not a prism_ray.trackers.Tracker")
    return kind


@cache
def _from_outside() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=ENTRY_POINTS):
        if entry.name in found or entry.name in _BUILT_IN:
            raise TypeError(
                f"the entry point {entry.name} = {entry.value} of {ENTRY_POINTS} needs another name: one "
                "that no other tracker has"
            )
        found[entry.name] = entry
    return found
