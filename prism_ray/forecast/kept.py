"""The calibration in a store, and those of its figures that fit a run. No torch, no Ray."""

from collections.abc import Mapping

from prism_ray.calibrate.figures import Calibration, settings_of_groups
from prism_ray.errors import NewerStoreError, StoreError
from prism_ray.machine import this_machine
from prism_ray.plan import Plan
from prism_ray.run import package_versions
from prism_ray.store import StoreFiles, layout
from prism_ray.store.records import read_record
from prism_ray.wording import first_of

_OF_SPEED = ("prism-ray", "torch", "torchvision", "timm", "python")  # packages


def read_calibration(files: StoreFiles, notes: list[str]) -> Calibration | None:
    """Return the calibration in the store; None, with a note if it cannot be read, if there is none."""
    if not files.exists(layout.CALIBRATION):
        return None
    try:
        return read_record(files, layout.CALIBRATION, Calibration)
    except (StoreError, NewerStoreError) as error:
        problem = getattr(error, "problem", None) or str(error)
        notes.append(f"{layout.CALIBRATION} is not used ({problem}); plan --calibrate makes it again")
        return None


def fitting_figures(
    calibration: Calibration, plan: Plan, num_threads: int, notes: list[str]
) -> dict[str, Mapping[str, float]]:
    """Return the figures of a calibration that fit the run; what does not fit is told."""
    if calibration.machine.device == "cpu" and calibration.num_threads != num_threads:
        notes.append(
            f"the calibration is not used: it was made with {calibration.num_threads} threads, and each "
            f"actor has {num_threads}; plan --calibrate makes it again"
        )
        return {}
    here, made = this_machine(), calibration.machine
    if (here.processor, here.num_cores) != (made.processor, made.num_cores):
        notes.append(f"the calibration is of another machine than this one ({here.describe()})")
    now = package_versions()
    changed = [
        f"{name} {calibration.versions.get(name, 'none')} -> {now.get(name, 'none')}"
        for name in _OF_SPEED
        if calibration.versions.get(name) != now.get(name)
    ]
    if changed:
        notes.append(f"the calibration was made with other versions ({', '.join(changed)})")
    wanted = settings_of_groups(plan.config, plan.facts)
    found: dict[str, Mapping[str, float]] = {
        name: group.seconds
        for name, group in calibration.groups.items()
        if wanted.get(name) == group.settings
    }
    lacking = [name for name in wanted if name not in found]
    if lacking:
        notes.append(
            f"the calibration has no figures for {first_of(lacking, 4)} with the present settings; "
            "plan --calibrate measures them"
        )
    return found
