"""The state of each stage of a run: done, at work, interrupted, or waiting for an earlier stage."""

from collections.abc import Iterator

from prism_ray.run import RunProgress
from prism_ray.stages import Stage, Within, find_stage, stages

DONE = "done"
NO_UNITS = "not needed"  # no method of the run needs the stage
RUNNING = "running"  # a driver is alive, and the stage has units that can be done now
PENDING = "pending"  # the stage has units that can be done now, but no driver is alive


def stage_states(progress: RunProgress, is_alive: bool) -> dict[str, str]:
    """Return the state of each stage; `is_alive` tells whether a driver works on the store.

    >>> stage_states(progress, is_alive=True)
    {"squeeze": "done", "collect": "not needed", "recover": "running", "relabel": "waits for recover", ...}
    """
    found: dict[str, str] = {}
    for stage in stages():
        num_units = stage.count(progress.plan)
        if num_units == 0:
            found[stage.name] = NO_UNITS
        elif progress.num_done[stage.name] == num_units:
            found[stage.name] = DONE
        elif progress.num_done[stage.name] == 0 and (before := _waits_for(stage, progress)):
            found[stage.name] = f"waits for {before}"
        else:
            found[stage.name] = RUNNING if is_alive else PENDING
    return found


def _waits_for(stage: Stage, progress: RunProgress) -> str | None:
    """Return the unfinished stage that no unit of this one can begin without, None if one can begin."""
    plan = progress.plan
    before = find_stage(stage.after) if stage.after else None
    if before is None:
        return None
    if before.count(plan) == 0:
        return _waits_for(before, progress)
    if progress.num_done[before.name] == before.count(plan):
        return None
    if stage.waits_for != "stage" and progress.num_done[before.name]:
        for piece in _pieces(stage, progress):
            if all(unit_id in progress.done for unit_id in before.ids(plan, piece)):
                return None
    return before.name


def _pieces(stage: Stage, progress: RunProgress) -> Iterator[Within]:
    """Yield the pieces of the run of which each unit of a stage needs one."""
    for name in progress.plan.image_sets:
        if stage.waits_for == "image set":
            yield Within(name)
        else:
            for group in range(progress.plan.formation(name).num_groups):
                yield Within(name, group)
