"""plan.json: what the run is. It is created exclusively once, and the same command later is compared with it.

It grows: image sets and evaluations can be added to a run. What they depend on is kept for good once a unit
of theirs is committed, even if a later call asks for others only.
"""

import json
import platform
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

from pydantic import Field

from prism_ray.config import Config, dump_config, parse_stored_config
from prism_ray.data import DataFacts
from prism_ray.errors import ConfigError, FingerprintError, NewerStoreError, PrismRayError, StoreError
from prism_ray.plan import Plan
from prism_ray.plan.fingerprint import (
    Scopes,
    clashes,
    fingerprint,
    needed_scopes,
    plan_version,
    run_scopes,
)
from prism_ray.plan.versions import OLDEST_PLAN_VERSION, PLAN_VERSION
from prism_ray.stages import scope_of
from prism_ray.stages.squeeze import RUN
from prism_ray.store import layout
from prism_ray.store.commits import list_commits
from prism_ray.store.files import StoreFiles
from prism_ray.store.records import FIGURES, Figures, decode_record, record_bytes
from prism_ray.store.remedy import lost_plan

_FORMAT = 2
_MAX_BYTES = 2**23  # of plan.json; with 20,000 classes and 1,000 scopes it has about 3 MB
_VERSIONED = ("prism-ray", "torch", "torchvision", "timm", "ray", "numpy", "pyarrow", "pillow")


@dataclass(frozen=True)
class Run:
    """A run as its store knows it."""

    config: Config
    facts: DataFacts
    num_threads: int  # per actor; kept for the life of the run
    weights: dict[str, str]  # teacher -> SHA-256 of its file of weights, for those that have one
    created_at: str  # UTC, ISO 8601
    versions: dict[str, str]  # of the packages that made it
    scopes: Scopes  # those of the config, and what is kept of earlier ones

    @property
    def plan(self) -> Plan:
        return Plan(self.config, self.facts)

    @property
    def plan_version(self) -> int:
        """The plan version that the run was begun with; it keeps it."""
        return plan_version(self.scopes)

    @cached_property
    def kept(self) -> frozenset[str]:
        """Scopes that the store has beside those of the config."""
        asked = run_scopes(self.config, self.facts, self.num_threads, self.weights)
        return frozenset(self.scopes.keys() - asked.keys())

    @cached_property
    def _fingerprints(self) -> dict[str, str]:
        return {scope: fingerprint(inputs) for scope, inputs in self.scopes.items()}

    def fingerprint_of(self, unit_id: str) -> str:
        """Return the fingerprint that the commit of a unit carries; StoreError if there is no such unit."""
        try:
            return self._fingerprints[scope_of(unit_id)]
        except KeyError:
            raise StoreError(f"{unit_id} is not a unit of this run, nor of an earlier config of it") from None


@dataclass(frozen=True)
class _PlanFile:
    """What plan.json must hold of a run; the rest is for people, or for later versions."""

    format: int
    num_threads: Annotated[int, Field(ge=1, le=2**16)]
    weights: dict[str, str]
    created_at: str
    versions: dict[str, str]
    facts: DataFacts
    config: Figures
    scopes: Annotated[dict[str, dict[str, dict[str, Any]]], FIGURES]


def new_run(
    config: Config,
    facts: DataFacts,
    num_threads: int,
    weights: dict[str, str] | None = None,
    version: int = PLAN_VERSION,
) -> Run:
    """Describe a run that starts now, with the packages of this process."""
    scopes = run_scopes(config, facts, num_threads, weights, version)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Run(config, facts, num_threads, weights or {}, now, package_versions(), scopes)


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that can change a byte."""
    versions = {"python": platform.python_version()}
    for package in _VERSIONED:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def save_run(files: StoreFiles, run: Run, bound: Collection[str] | None = None) -> Run:
    """Create plan.json, or lay `run` over the one that is there; return the run that the store then holds.

    `bound` names the scopes with commits; without it they are listed. Settings that cannot change a result
    follow the present call, and so does what is not committed yet. Raises FingerprintError with a readable
    difference if the store holds other results under these names.
    """
    text = _to_json(run)
    if not files.create(layout.PLAN, text):
        held = load_run(files)
        bound = bound_scopes(list_commits(files)) if bound is None else bound
        if bound:
            run = _with_version(run, held.plan_version)
            if clashes(held.scopes, run.scopes, bound):
                raise refusal(files, held, run, bound)
            kept = {
                scope: held.scopes[scope] for scope in needed_scopes(held.scopes, bound) - run.scopes.keys()
            }
            scopes = kept | run.scopes
            run = replace(run, created_at=held.created_at, versions=held.versions, scopes=scopes)
            text = _to_json(run)
        if held != run:
            files.replace(layout.PLAN, text)
    files.replace(layout.CONFIG, dump_config(run.config).encode())
    return run


def _with_version(run: Run, version: int) -> Run:
    """Return a run with its scopes written as a plan version has them."""
    if run.plan_version == version:
        return run
    return replace(run, scopes=run_scopes(run.config, run.facts, run.num_threads, run.weights, version))


def _to_json(run: Run) -> bytes:
    text = json.dumps(
        {
            "format": _FORMAT,
            "num_images": {name: run.plan.num_images(name) for name in run.plan.image_sets},
            "num_threads": run.num_threads,
            "weights": run.weights,
            "created_at": run.created_at,
            "versions": run.versions,
            "facts": asdict(run.facts),
            "config": run.config.model_dump(mode="json"),
            "scopes": run.scopes,
        },
        indent=1,
    ).encode()
    if len(text) > _MAX_BYTES:
        raise ConfigError(
            f"{layout.PLAN} would have {len(text):,} bytes of at most {_MAX_BYTES:,}; spread image_sets and "
            "evaluations over several runs"
        )
    return text


def load_run(files: StoreFiles) -> Run:
    """Read plan.json. Its scopes are taken as they stand: a later version may derive others from its config.

    Raises StoreError if there is none or if it is damaged, NewerStoreError if a newer version made it.
    """
    if not files.exists(layout.PLAN):
        if next(files.list(layout.COMMITS), None) is not None:
            raise lost_plan(files, "is missing, though finished work is there")
        raise StoreError(
            f"{files.location} holds no run (no {layout.PLAN}); start one with "
            f"`prism-ray distill CONFIG --store {files.location}`"
        )
    origin = f"{files.location}/{layout.PLAN}"
    data = record_bytes(files, layout.PLAN, _MAX_BYTES)
    try:
        held = decode_record(_PlanFile, data, origin, _MAX_BYTES, newest=_FORMAT)
        if held.format < _FORMAT:
            raise ValueError(f"its format is {held.format}, this version reads {_FORMAT}")
        run = Run(
            config=parse_stored_config(held.config, origin),
            facts=held.facts,
            num_threads=held.num_threads,
            weights=held.weights,
            created_at=held.created_at,
            versions=held.versions,
            scopes=held.scopes,
        )
        _check_facts(run.facts)
        run.plan.check_size(origin)
        _check_scopes(run)
    except NewerStoreError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, PrismRayError) as error:
        raise lost_plan(files, f"is damaged: {error}") from None
    return run


def check_resumable(files: StoreFiles, run: Run) -> None:
    """Raise NewerStoreError or StoreError if units cannot be added to a run, because of its plan version."""
    origin = f"{files.location}/{layout.PLAN}"
    if run.plan_version > PLAN_VERSION:
        raise NewerStoreError(
            f"{origin} has plan version {run.plan_version}, and this version of prism-ray resumes runs of "
            f"version {PLAN_VERSION} and older; upgrade prism-ray"
        )
    if run.plan_version < OLDEST_PLAN_VERSION:
        raise StoreError(
            f"{origin} has plan version {run.plan_version}, and this version of prism-ray resumes runs of "
            f"version {OLDEST_PLAN_VERSION} and newer; finish the run with prism-ray "
            f"{run.versions.get('prism-ray', '?')}, or use another --store"
        )


def _check_facts(facts: DataFacts) -> None:
    """Raise ValueError if facts do not fit each other."""
    counts = facts.train_counts
    if len(counts) != facts.num_classes or not counts or min(counts) < 0 or facts.channels not in (1, 3):
        raise ValueError(
            f"its facts say {facts.num_classes} classes, {len(counts)} counts of images and {facts.channels} "
            "channels"
        )


def _check_scopes(run: Run) -> None:
    """Raise ValueError if the scopes do not fit each other, or not the rest of plan.json: it was edited.

    Each scope carries the fingerprints of those that it needs, so a change in one shows in another.
    """
    for name, inputs in run.scopes.items():
        if inputs.keys() != {"settings", "needs"} or not inputs["needs"].keys() <= run.scopes.keys():
            raise ValueError(f"scopes.{name} lacks its settings, or a scope that it needs")
    digests = {name: fingerprint(inputs) for name, inputs in run.scopes.items()}
    for name, inputs in run.scopes.items():
        for need, expected in inputs["needs"].items():
            if digests[need] != expected:
                raise ValueError(
                    f"scopes.{name} needs another scopes.{need} than stands there: one was edited"
                )
    settings = run.scopes[RUN]["settings"]
    facts = json.loads(json.dumps(asdict(run.facts)))
    if any(facts.get(key, value) != value for key, value in settings["data_facts"].items()):
        raise ValueError("its facts are not those of scopes.run: one was edited")
    if settings["orchestrate"]["threads_per_actor"] != run.num_threads or settings["seed"] != run.config.seed:
        raise ValueError("num_threads or config.seed is not that of scopes.run: one was edited")


def bound_scopes(committed: Collection[str]) -> set[str]:
    """Return the scopes of the units committed: what they depend on can no longer change."""
    return {scope_of(unit_id) for unit_id in committed}


def refusal(files: StoreFiles, held: Run, asked: Run, bound: Collection[str]) -> FingerprintError:
    """Return the error that says how the settings differ from those of the run in the store."""
    lines = clashes(held.scopes, asked.scopes, bound)
    return FingerprintError(
        f"{files.location} holds another run, whose results the new settings would change:\n  "
        + "\n  ".join(lines)
        + "\nUse the old settings to resume it, or another --store for the new ones."
    )
