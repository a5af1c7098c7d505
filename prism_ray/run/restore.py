"""Restores a lost or damaged plan.json: the run follows from its config, and the commits confirm it.

Each commit contains the fingerprint of all settings that its unit depends on. So the run that follows from a
config can be compared with the commits, scope by scope.
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
from prism_ray.wording import first_of

_MAX_THREADS = 256  # per actor, as `auto` may have chosen them


def restored_run(
    files: StoreFiles,
    committed: Iterable[str],
    config: Config,
    facts: DataFacts,
    weights: dict[str, str],
    lost: StoreError,
) -> Run:
    """Return the run of a config if the store's commits belong to that run.

    Its plan version is the one that gives the fingerprints of the commits, and so are its threads per actor
    if the config says `auto`. Raises StoreError if the commits belong to another run; `lost` says what is
    wrong with plan.json.
    """
    found: dict[str, str] = {}  # fingerprint of the first readable commit of each scope
    for unit_id in committed:
        if scope_of(unit_id) not in found:
            with suppress(StoreError):  # the unit of a damaged one is done again
                found[scope_of(unit_id)] = read_commit(files, unit_id).fingerprint
    threads = config.orchestrate.threads_per_actor
    candidates = range(1, _MAX_THREADS + 1) if threads == "auto" else [threads]
    versions = range(PLAN_VERSION, OLDEST_PLAN_VERSION - 1, -1)
    for version, num_threads in product(versions, candidates):
        scopes = run_scopes(config, facts, num_threads, weights, version)
        unnamed = sorted(found.keys() - scopes.keys())
        if unnamed:
            raise StoreError(
                f"{lost}. The given config does not name all that is finished: {first_of(unnamed, 5)}"
            ) from lost
        if found and all(fingerprint(scopes[scope]) == known for scope, known in found.items()):
            return new_run(config, facts, num_threads, weights, version)
    raise StoreError(
        f"{lost}. The given config is not that one: the commits have other fingerprints"
    ) from lost
