"""plan.json: what the run is. Created exclusively once; the same command later is held against it.

It grows: image sets and evaluations can be added to a run, and what they depend on is kept for good once a
unit of theirs is committed, even if a later call asks for others only.
"""

import json
import platform
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

from pydantic import Field

from prism_ray.config import Config, dump_config, parse_config
from prism_ray.data import DataFacts
from prism_ray.errors import ConfigError, FingerprintError, PrismRayError, StoreError
from prism_ray.fingerprint import Scopes, clashes, fingerprint, run_scopes
from prism_ray.plan import Plan
from prism_ray.store import layout
from prism_ray.store.commits import committed_units
from prism_ray.store.files import StoreFiles
from prism_ray.store.records import FIGURES, Figures, decode_record, record_bytes
from prism_ray.units import scope_of

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
    kept: Scopes = field(default_factory=dict)  # scopes that the store has beside those of the config

    @property
    def plan(self) -> Plan:
        return Plan(self.config, self.facts)

    @cached_property
    def scopes(self) -> Scopes:
        """Inputs of every scope, those of the config and those kept."""
        return self.kept | run_scopes(self.config, self.facts, self.num_threads, self.weights)

    @cached_property
    def _fingerprints(self) -> dict[str, str]:
        return {scope: fingerprint(inputs) for scope, inputs in self.scopes.items()}

    def fingerprint_of(self, unit_id: str) -> str:
        """Return the fingerprint that the commit of a unit carries; StoreError if there is no such unit."""
        try:
            return self._fingerprints[scope_of(unit_id)]
        except KeyError:
            raise StoreError(f"{unit_id} is no unit of this run, nor of what it was before") from None


@dataclass(frozen=True)
class _PlanFile:
    """What plan.json must hold of a run; the rest is for people."""

    format: int
    num_threads: Annotated[int, Field(ge=1, le=2**16)]
    weights: dict[str, str]
    created_at: str
    versions: dict[str, str]
    facts: DataFacts
    config: Figures
    scopes: Annotated[dict[str, dict[str, dict[str, Any]]], FIGURES]


def new_run(config: Config, facts: DataFacts, num_threads: int, weights: dict[str, str] | None = None) -> Run:
    """Describe a run that starts now, with the packages of this process."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Run(config, facts, num_threads, weights or {}, created_at=now, versions=package_versions())


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that can change a byte."""
    versions = {"python": platform.python_version()}
    for package in _VERSIONED:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def save_run(files: StoreFiles, run: Run) -> Run:
    """Create plan.json, or lay `run` over the one that is there; return the run that the store then holds.

    Settings that cannot change a result follow the present call, and so does what is not committed yet.
    Raises FingerprintError with a readable difference if the store holds other results under these names.
    """
    text = _to_json(run)
    if not files.create(layout.PLAN, text):
        held = load_run(files)
        bound = bound_scopes(files)
        if bound:
            if clashes(held.scopes, run.scopes, bound):
                raise refusal(files, held, run, bound)
            kept = {scope: held.scopes[scope] for scope in _needed(held.scopes, bound) - run.scopes.keys()}
            run = replace(run, created_at=held.created_at, versions=held.versions, kept=kept)
            text = _to_json(run)
        if held != run:
            files.replace(layout.PLAN, text)
    files.replace(layout.CONFIG, dump_config(run.config).encode())
    return run


def _needed(scopes: Scopes, bound: set[str]) -> set[str]:
    """Return the bound scopes and all that they need."""
    found: set[str] = set()
    left = bound & scopes.keys()
    while left:
        scope = left.pop()
        found.add(scope)
        left |= scopes[scope]["needs"].keys() - found
    return found


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
    """Read plan.json; raises StoreError if there is none, or if it is damaged."""
    again = (
        f"the config that the run was made with ({files.location}/{layout.CONFIG} is a copy of it) and "
        f"`prism-ray distill CONFIG --store {files.location}` write it anew"
    )
    if not files.exists(layout.PLAN):
        if bound_scopes(files):
            raise StoreError(f"{files.location} holds finished work, but {layout.PLAN} is missing; {again}")
        raise StoreError(
            f"{files.location} holds no run (no {layout.PLAN}); start one with "
            f"`prism-ray distill CONFIG --store {files.location}`"
        )
    origin = f"{files.location}/{layout.PLAN}"
    data = record_bytes(files, layout.PLAN, _MAX_BYTES)
    try:
        held = decode_record(_PlanFile, data, _MAX_BYTES)
        if held.format != _FORMAT:
            raise ValueError(f"its format is {held.format}, this version reads {_FORMAT}")
        run = Run(
            config=parse_config(held.config, origin),
            facts=held.facts,
            num_threads=held.num_threads,
            weights=held.weights,
            created_at=held.created_at,
            versions=held.versions,
        )
        _check_facts(run.facts)
        run.plan.check_size(origin)
        _check_scopes(held.scopes)
        if any(scope not in held.scopes for scope in run.scopes) or clashes(
            held.scopes, run.scopes, set(held.scopes)
        ):
            raise ValueError(
                "its scopes do not fit its settings: it was edited, or made by another version of prism-ray"
            )
        kept = {name: held.scopes[name] for name in held.scopes.keys() - run.scopes.keys()}
        run = replace(run, kept=kept)
    except (ValueError, TypeError, KeyError, AttributeError, PrismRayError) as error:
        raise StoreError(f"{origin} is damaged: {error}; {again}") from None
    return run


def _check_facts(facts: DataFacts) -> None:
    """Raise ValueError if facts do not fit each other."""
    counts = facts.train_counts
    if len(counts) != facts.num_classes or not counts or min(counts) < 0 or facts.channels not in (1, 3):
        raise ValueError(
            f"its facts say {facts.num_classes} classes, {len(counts)} counts of images and {facts.channels} "
            "channels"
        )


def _check_scopes(scopes: dict[str, Any]) -> None:
    """Raise ValueError if a scope is not what `run_scopes` makes, or needs one that is not there."""
    for name, inputs in scopes.items():
        if inputs.keys() != {"settings", "needs"} or not inputs["needs"].keys() <= scopes.keys():
            raise ValueError(f"scopes.{name} has not its settings, or not what it needs")


def bound_scopes(files: StoreFiles) -> set[str]:
    """Return the scopes of which a unit is committed: what they depend on can no longer change."""
    return {scope_of(unit_id) for unit_id in committed_units(files)}


def refusal(files: StoreFiles, held: Run, asked: Run, bound: set[str]) -> FingerprintError:
    """The error that says how the settings differ from those of the store's run."""
    lines = clashes(held.scopes, asked.scopes, bound)
    return FingerprintError(
        f"{files.location} holds another run, whose results the new settings would change:\n  "
        + "\n  ".join(lines)
        + "\nUse the old settings to go on with it, or another --store for the new ones."
    )
