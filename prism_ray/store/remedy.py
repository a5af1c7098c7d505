"""The one remedy of each fault of a store: whoever finds a fault raises the error that is made here.

damaged     a commit, a file that a commit names, the listing of the images, the record of a failure
unfit       bytes that are those committed, and yet not what such a unit makes; `verify` cannot see that
lost_plan   plan.json
"""

import shlex
from typing import TYPE_CHECKING

from prism_ray.errors import StoreError
from prism_ray.store import layout

if TYPE_CHECKING:
    from prism_ray.store.files import StoreFiles


def damaged(files: "StoreFiles", name: str, problem: object) -> StoreError:
    """Return the error of a damaged file; `verify --repair` sets the unit that made it back to pending.

    >>> str(damaged(StoreFiles("runs/a"), "images/part-x-0.parquet", "it is missing"))
    'runs/a/images/part-x-0.parquet is damaged: it is missing; run `prism-ray verify --repair runs/a`, then
    the command `prism-ray distill runs/a/config.yaml --store runs/a`'
    """
    return _repaired(files, f"{files.location}/{name} is damaged: {problem}")


def missing(files: "StoreFiles", name: str) -> StoreError:
    """Return the error of a file that is not there, though a commit or a later stage needs it."""
    return _repaired(files, f"{files.location}/{name} is missing")


def _repaired(files: "StoreFiles", what: str) -> StoreError:
    repair = f"`prism-ray verify --repair {shlex.quote(files.location)}`"
    return StoreError(f"{what}; run {repair}, then {_again(files)}", what)


def unfit(files: "StoreFiles", unit_id: str, problem: object) -> StoreError:
    """Return the error of a unit whose files are those committed, and yet not what such a unit makes."""
    what = f"{files.location}: the result of {unit_id} cannot be used: {problem}"
    retry = f"`prism-ray retry {shlex.quote(files.location)} {unit_id}`"
    return StoreError(f"{what}; run {retry}, then {_again(files)}", what)


def lost_plan(files: "StoreFiles", problem: str) -> StoreError:
    """Return the error of a store whose plan.json is missing or damaged; `distill` writes it anew."""
    return StoreError(
        f"{files.location}/{layout.PLAN} {problem}; run {_again(files)}, with the config that the run was "
        "made with: the commits prove it, and it is written anew"
    )


def _again(files: "StoreFiles") -> str:
    return f"`{resume_command(files)}`"


def resume_command(files: "StoreFiles") -> str:
    """Return the command that resumes the run of a store."""
    config = f"{files.location}/{layout.CONFIG}" if files.exists(layout.CONFIG) else "CONFIG"
    return f"prism-ray distill {shlex.quote(config)} --store {shlex.quote(files.location)}"
