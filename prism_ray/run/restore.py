"""plan.json lost or damaged: a run follows from its config, and its commits tell whether it is the one.

Every commit carries the fingerprint of all that its unit depends on, so a run that is described anew can be
held against them, scope by scope.
"""

from collections.abc import Iterable
from contextlib import suppress
from itertools import product

from prism_ray.config import Config
from prism_ray.data import DataFacts
from prism_ray.errors import StoreError
from prism_ray.plan.fingerprint import fingerprint, run_scopes
from prism_ray.plan.versions import OLDEST_PLAN_VERSION, PLAN_VERSION
from prism_ray.run.plan_file import Run, new_run
from prism_ray.stages import scope_of
from prism_ray.store.commits import read_commit
from prism_ray.store.files import StoreFiles

_MOST_THREADS = 256  # per actor, as `auto` may have settled them


def restored_run(
    files: StoreFiles,
    committed: Iterable[str],
    config: Config,
    facts: DataFacts,
    weights: dict[str, str],
    lost: StoreError,
) -> Run:
    """Return the run of a config, if the store's commits are of that run and of no other.

    Its threads per actor are those of the config; if the config leaves them open, those that give the
    fingerprints of the commits. So is its plan version. Raises StoreError if the commits are of another run;
    `lost` says what is the matter with plan.json.
    """
    found = _fingerprints(files, committed)
    threads = config.orchestrate.threads_per_actor
    candidates = range(1, _MOST_THREADS + 1) if threads == "auto" else [threads]
    versions = range(PLAN_VERSION, OLDEST_PLAN_VERSION - 1, -1)
    for version, num_threads in product(versions, candidates):
        scopes = run_scopes(config, facts, num_threads, weights, version)
        if not found.keys() <= scopes.keys():
            break
        if found and all(fingerprint(scopes[scope]) == known for scope, known in found.items()):
            return new_run(config, facts, num_threads, weights, version)
    raise StoreError(
        f"{lost}. The config given is not that one: the commits have other fingerprints"
    ) from lost


def _fingerprints(files: StoreFiles, committed: Iterable[str]) -> dict[str, str]:
    """Return what the first whole commit of each scope carries."""
    found: dict[str, str] = {}
    for unit_id in committed:
        if scope_of(unit_id) not in found:
            with suppress(StoreError):  # a damaged one is done again
                found[scope_of(unit_id)] = read_commit(files, unit_id).fingerprint
    return found
