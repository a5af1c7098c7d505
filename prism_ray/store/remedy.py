"""The remedy of each fault of a store. Whoever finds a fault raises the error that is made here.

damaged     a commit, a file that a commit names, the listing of the image folder, or the record of a failure
missing     the same, if it is not there
unfit       a unit whose files are as committed, but cannot be its result; `verify` cannot see that
lost_plan   plan.json
"""

from typing import Protocol

from prism_ray.errors import StoreError
from prism_ray.shell import command
from prism_ray.store import layout


class Store(Protocol):
    """The part of StoreFiles that a remedy needs."""

    location: str

    def exists(self, name: str) -> bool: ...


def damaged(files: Store, name: str, problem: object) -> StoreError:
    """Return the error of a damaged file; `verify --repair` sets the unit that wrote it back to pending."""
    return _repaired(files, f"{files.location}/{name} is damaged: {problem}")


def missing(files: Store, name: str) -> StoreError:
    """Return the error of a file that is not there, though a commit or a later stage needs it."""
    return _repaired(files, f"{files.location}/{name} is missing")


def _repaired(files: Store, what: str) -> StoreError:
    repair = command("verify", "--repair", files.location)
    return StoreError(f"{what}; run `{repair}`, then `{resume_command(files)}`", what)


def unfit(files: Store, unit_ids: str, problem: object) -> StoreError:
    """Return the error of a unit, or several, whose files are as committed but cannot be their results."""
    what = f"{files.location}: the result of {unit_ids} cannot be used: {problem}"
    retry = command("retry", files.location, *unit_ids.split())
    return StoreError(f"{what}; run `{retry}`, then `{resume_command(files)}`", what)


def lost_plan(files: Store, problem: str) -> StoreError:
    """Return the error of a store whose plan.json is missing or damaged."""
    return StoreError(
        f"{files.location}/{layout.PLAN} {problem}; run `{resume_command(files)}` with the config that the "
        "run was made with: it is checked against the commits, and plan.json is written again"
    )


def resume_command(files: Store) -> str:
    """Return the command that resumes the run of a store."""
    config = f"{files.location}/{layout.CONFIG}" if files.exists(layout.CONFIG) else "CONFIG"
    return command("distill", config, "--store", files.location)
