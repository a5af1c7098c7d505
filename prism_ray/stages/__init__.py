"""The table of the stages of a run, in the order of a run.

A stage is one module here, one work function in prism_ray.work, and one row of `_BUILT_IN`. An installed
package adds a stage by an entry point of the group `prism_ray.stages` that names an object of a subclass of
`Stage`. The row of a stage comes after the row of the stage that it builds on.
"""

from functools import cache
from importlib.metadata import entry_points

from prism_ray.stages import collect, evaluate, measure, recover, relabel, squeeze
from prism_ray.stages.base import ALL, Basis, Scope, SettingsView, Stage, Unit, Within, scope_of, stage_of

__all__ = [
    "ALL",
    "Basis",
    "Scope",
    "SettingsView",
    "Stage",
    "Unit",
    "Within",
    "find_stage",
    "scope_of",
    "stage_names",
    "stage_of",
    "stages",
]

_BUILT_IN: tuple[Stage, ...] = (
    squeeze.STAGE,
    collect.STAGE,
    recover.STAGE,
    relabel.STAGE,
    measure.STAGE,
    evaluate.STAGE,
)
ENTRY_POINTS = "prism_ray.stages"


@cache
def stages() -> tuple[Stage, ...]:
    """Return all stages in order.

    Raises TypeError if an entry point names anything but a stage, or a stage that does not fit the others.
    """
    found = {stage.name: stage for stage in _BUILT_IN}
    for entry in entry_points(group=ENTRY_POINTS):
        stage, where = entry.load(), f"the entry point {entry.name} = {entry.value}"
        if not isinstance(stage, Stage):
            raise TypeError(f"{where} is not an object of a subclass of prism_ray.stages.Stage")
        if stage.name in found:
            raise TypeError(f"{where}: the name {stage.name!r} of its stage is taken")
        before = found.get(stage.after or "")
        if stage.after is not None and before is None:
            raise TypeError(f"{where} builds on {stage.after!r}, which is not a stage: {', '.join(found)}")
        if stage.waits_for != "stage" and not (stage.overlaps and before is not None and before.overlaps):
            raise TypeError(f"{where} waits for a {stage.waits_for}, so both stages must overlap")
        found[stage.name] = stage
    return tuple(found.values())


def stage_names() -> tuple[str, ...]:
    """Return the names of all stages in order."""
    return tuple(stage.name for stage in stages())


@cache
def find_stage(name: str) -> Stage:
    """Return the stage of a name; raises KeyError if there is none."""
    return {stage.name: stage for stage in stages()}[name]
