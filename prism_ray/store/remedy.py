"""The remedy of each fault of a store. Whoever finds a fault raises the error that is made here.

damaged     a commit, a file that a commit names, the listing of the image folder, or the record of a failure
missing     the same, if it is not there
unfit       a unit whose files are as committed, but cannot be its result; `verify` cannot see that
lost_plan   plan.json
"""

import shlex
from typing import TYPE_CHECKING

from prism_ray.errors import StoreError
from prism_ray.store import layout

if TYPE_CHECKING:
    from prism_ray.store.files import StoreFiles


def damaged(files: "StoreFiles", name: str, problem: object) -> StoreError:
    """Return the error of a damaged file; `verify --repair` sets the unit that wrote it back to pending.

    >>> str(damaged(StoreFiles("/a"), "images/part-x-0.parquet", "it is missing"))
    '/a/images/part-x-0.parquet is damaged: it is missing; run `prism-ray verify --repair /a`, then
    `prism-ray distill /a/config.yaml --store /a`'
    """
    return _repaired(files, f"{files.location}/{name} is damaged: {problem}")


def missing(files: "StoreFiles", name: str) -> StoreError:
    """Return the error of a file that is not there, though a commit or a later stage needs it."""
    return _repaired(files, f"{files.location}/{name} is missing")


def _repaired(files: "StoreFiles", what: str) -> StoreError:
    repair = f"prism-ray verify --repair {shlex.quote(files.location)}"
    return StoreError(f"{what}; run `{repair}`, then `{resume_command(files)}`", what)


def unfit(files: "StoreFiles", unit_ids: str, problem: object) -> StoreError:
    """Return the error of a unit, or several, whose files are as committed but cannot be their results."""
    what = f"{files.location}: the result of {unit_ids} cannot be used: {problem}"
    retry = f"prism-ray retry {shlex.quote(files.location)} {unit_ids}"
    return StoreError(f"{what}; run `{retry}`, then `{resume_command(files)}`", what)


def lost_plan(files: "StoreFiles", problem: str) -> StoreError:
    """Return the error of a store whose plan.json is missing or damaged."""
    return StoreError(
        f"{files.location}/{layout.PLAN} {problem}; run `{resume_command(files)}` with the config that the "
        "run was made with: it is checked against the commits, and plan.json is written again"
    )


def resume_command(files: "StoreFiles") -> str:
    """Return the command that resumes the run of a store."""
    config = f"{files.location}/{layout.CONFIG}" if files.exists(layout.CONFIG) else "CONFIG"
    return f"prism-ray distill {shlex.quote(config)} --store {shlex.quote(files.location)}"
