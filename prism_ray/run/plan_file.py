"""plan.json: the description of a run. It is created once, exclusively; later calls are compared with it.

It grows: image sets and evaluations can be added to a run. What they depend on is kept permanently when one
of their units is committed, even if a later config leaves them out. That earlier config is kept too, so that
everything in the store can be read and shown, whatever config was used last.
"""

import json
import platform
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from typing import Annotated, Any

from pydantic import Field

from prism_ray.config import Config, dump_config, parse_stored_config
from prism_ray.data import Changes, DataFacts
from prism_ray.errors import (
    ConfigError,
    FingerprintError,
    NewerStoreError,
    PrismRayError,
    StoreError,
    UsageError,
)
from prism_ray.plan import Plan
from prism_ray.plan.fingerprint import Scopes, clashes, fingerprint, needed_scopes, plan_version, run_scopes
from prism_ray.plan.versions import OLDEST_PLAN_VERSION, PLAN_VERSION
from prism_ray.shell import command
from prism_ray.stages import ALL, Within, scope_of, stages
from prism_ray.stages.squeeze import RUN, scope_of_teacher
from prism_ray.store import layout
from prism_ray.store.commits import list_commits
from prism_ray.store.files import StoreFiles
from prism_ray.store.records import FIGURES, Figures, decode_record
from prism_ray.store.remedy import lost_plan
from prism_ray.suggest import did_you_mean

NOT_IN_CONFIG = "not in the present config"  # of image sets that only an earlier config names

_FORMAT = 2
_MAX_BYTES = 2**23  # of plan.json; with 20,000 classes and 1,000 scopes it has about 3 MB
_PACKAGES = ("prism-ray", "torch", "torchvision", "timm", "ray", "numpy", "pyarrow", "pillow")


@dataclass(frozen=True)
class Run:
    """A run as plan.json describes it."""

    config: Config
    facts: DataFacts
    num_threads: int  # per actor; never changed
    weights: dict[str, str]  # teacher -> SHA-256 of its file of weights, for those that have one
    created_at: str  # UTC, ISO 8601
    versions: dict[str, str]  # of the packages that it was begun with
    scopes: Scopes  # those of the config, and those kept from earlier configs
    # Earlier configs, the latest first, of units that are committed and that `config` does not name.
    earlier: tuple[Config, ...] = ()

    @property
    def plan(self) -> Plan:
        return Plan(self.config, self.facts)

    @cached_property
    def others(self) -> tuple["Run", ...]:
        """The same run under each earlier config."""
        return tuple(replace(self, config=config, earlier=()) for config in self.earlier)

    @property
    def image_sets(self) -> dict[str, "Run"]:
        """The run under the config that names an image set, by set: first those of the present config."""
        found: dict[str, Run] = {}
        for run in (self, *self.others):
            for name in run.config.image_sets:
                if name not in found and (run is self or f"recover/{name}" in self.scopes):
                    found[name] = run
        return found

    @property
    def forgotten(self) -> tuple[str, ...]:
        """Names of committed image sets whose config an earlier version of prism-ray did not keep."""
        scopes = (scope.partition("/") for scope in self.scopes)
        return tuple(name for kind, _, name in scopes if kind == "recover" and name not in self.image_sets)

    def of_image_set(self, name: str, location: str) -> "Run":
        """Return the run under the config that names an image set; raises UsageError if there is none.

        `location` names the store in the error.
        """
        found = self.image_sets
        if name in found:
            return found[name]
        if name in self.forgotten:
            raise UsageError(
                f"{location}: the image set {name!r} is not in the present config, and the version of "
                "prism-ray that left it out did not keep its settings; run "
                f"`{command('distill', 'CONFIG', '--store', location)}` once with a config that names it "
                "(nothing is made twice)"
            )
        hint = did_you_mean(name, list(found))
        raise UsageError(f"{location} has no image set {name!r}{hint}; it has {', '.join(found)}")

    @property
    def plan_version(self) -> int:
        """The plan version that the run was begun with."""
        return plan_version(self.scopes)

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """The fingerprint of each scope."""
        return {scope: fingerprint(inputs) for scope, inputs in self.scopes.items()}

    def fingerprint_of(self, unit_id: str) -> str:
        """Return the fingerprint in the commit of a unit; raises StoreError if there is no such unit."""
        try:
            return self.fingerprints[scope_of(unit_id)]
        except KeyError:
            raise StoreError(f"{unit_id} is not a unit of this run, nor of an earlier config of it") from None


@dataclass(frozen=True)
class _PlanFile:
    """The keys of plan.json that are read; the others are for people, or for later versions."""

    format: int
    num_threads: Annotated[int, Field(ge=1, le=2**16)]
    weights: dict[str, str]
    created_at: str
    versions: dict[str, str]
    facts: DataFacts
    config: Figures
    scopes: Annotated[dict[str, dict[str, dict[str, Any]]], FIGURES]
    earlier: tuple[Figures, ...] = ()


def new_run(
    config: Config,
    facts: DataFacts,
    num_threads: int,
    weights: dict[str, str] | None = None,
    version: int = PLAN_VERSION,
) -> Run:
    """Return a run that starts now, with the packages of this process."""
    scopes = run_scopes(config, facts, num_threads, weights, version)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Run(config, facts, num_threads, weights or {}, now, package_versions(), scopes)


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that can change a byte."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def save_run(files: StoreFiles, run: Run, bound: Collection[str] | None = None) -> Run:
    """Create plan.json, or update the existing one; return the run that is then in the store.

    `bound` names the scopes with commits; without it they are listed. Settings that cannot change a result
    are replaced by the present ones, and so is all that is not committed yet. Raises FingerprintError with a
    readable difference if the store has other results under these names.
    """
    text = _to_json(run)
    if not files.create(layout.PLAN, text):
        held = load_run(files)
        bound = bound_scopes(list_commits(files)) if bound is None else bound
        if bound:
            if run.plan_version != held.plan_version:
                scopes = run_scopes(run.config, run.facts, run.num_threads, run.weights, held.plan_version)
                run = replace(run, scopes=scopes)
            if clashes(held.scopes, run.scopes, bound):
                raise refusal(files, held, run, bound)
            run = continued(held, run, bound)
            text = _to_json(run)
        if held != run:
            files.replace(layout.PLAN, text)
    files.replace(layout.CONFIG, dump_config(run.config).encode())
    return run


def continued(held: Run, run: Run, bound: Collection[str]) -> Run:
    """Return `run` with all that the stored run keeps: its begin, committed scopes and their configs."""
    kept = needed_scopes(held.scopes, bound) - run.scopes.keys()
    scopes = {scope: held.scopes[scope] for scope in kept} | run.scopes
    weights = {name: digest for name, digest in held.weights.items() if scope_of_teacher(name) in kept}
    covered = _claims(run, bound)
    earlier = []
    for other in (held, *held.others):
        claims = _claims(other, bound)
        if not claims <= covered:
            covered |= claims
            earlier.append(other.config)
    return replace(
        run,
        created_at=held.created_at,
        versions=held.versions,
        scopes=scopes,
        weights=weights | run.weights,
        earlier=tuple(earlier),
    )


def _claims(run: Run, bound: Collection[str]) -> set[str]:
    """Return the units of `bound` scopes that a config names; in stages of many, the scopes themselves.

    A scope of students may have more units under one config than under another (`num_students`).
    """
    claims: set[str] = set()
    for stage in stages():
        pieces = [Within(name) for name in run.plan.image_sets] if stage.many else [ALL]
        for piece in pieces:
            ids = stage.ids(run.plan, piece)
            claims.update(map(scope_of, islice(ids, 1)) if stage.many else ids)
    return {claim for claim in claims if claim in bound or scope_of(claim) in bound}


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
            "earlier": [config.model_dump(mode="json") for config in run.earlier],
        },
        indent=1,
    ).encode()
    if len(text) > _MAX_BYTES:
        raise ConfigError(
            f"{layout.PLAN} would have {len(text):,} bytes, and it has {_MAX_BYTES:,} at most; divide "
            "image_sets and evaluations among several runs"
        )
    return text


def load_run(files: StoreFiles) -> Run:
    """Read plan.json. Its scopes are used as they are: a later version may derive others from its config.

    Raises StoreError if it is damaged or lost, UsageError if the store contains no run, and NewerStoreError
    if a newer version made it.
    """
    if not files.exists(layout.PLAN):
        if next(files.list(layout.COMMITS), None) is not None:
            raise lost_plan(files, "is missing, but the store has finished units")
        raise UsageError(
            f"{files.location} contains no run (no {layout.PLAN}); start one with "
            f"`{command('distill', 'CONFIG', '--store', files.location)}`"
        )
    origin = f"{files.location}/{layout.PLAN}"
    data = files.read_up_to(layout.PLAN, _MAX_BYTES + 1)
    try:
        read = decode_record(_PlanFile, data, origin, _MAX_BYTES, newest=_FORMAT)
        if read.format < _FORMAT:
            raise ValueError(f"its format is {read.format}, this version reads {_FORMAT}")
        run = Run(
            config=parse_stored_config(read.config, origin),
            facts=read.facts,
            num_threads=read.num_threads,
            weights=read.weights,
            created_at=read.created_at,
            versions=read.versions,
            scopes=read.scopes,
            earlier=tuple(parse_stored_config(values, origin) for values in read.earlier),
        )
        _check(run)
        for each in (run, *run.others):
            each.plan.check_size(origin)
    except NewerStoreError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, PrismRayError) as error:
        raise lost_plan(files, f"is damaged: {error}") from None
    return run


def check_resumable(files: StoreFiles, run: Run) -> None:
    """Raise NewerStoreError or StoreError if a run cannot be resumed because of its plan version."""
    what = (
        f"{files.location}/{layout.PLAN} has plan version {run.plan_version}, and this version of prism-ray "
        "resumes runs of version"
    )
    if run.plan_version > PLAN_VERSION:
        raise NewerStoreError(f"{what} {PLAN_VERSION} and older; upgrade prism-ray")
    if run.plan_version < OLDEST_PLAN_VERSION:
        raise StoreError(
            f"{what} {OLDEST_PLAN_VERSION} and newer; finish the run with prism-ray "
            f"{run.versions.get('prism-ray', '?')}, or use another --store"
        )


def _check(run: Run) -> None:
    """Raise ValueError if the parts of plan.json do not fit each other, because it was edited.

    Each scope contains the fingerprints of the scopes that it needs, so an edited scope is detected.
    """
    facts, scopes = run.facts, run.scopes
    counts = facts.train_counts
    if len(counts) != facts.num_classes or not counts or min(counts) < 0 or facts.channels not in (1, 3):
        raise ValueError(
            f"its facts say {facts.num_classes} classes, {len(counts)} counts of images and {facts.channels} "
            "channels"
        )
    for name, inputs in scopes.items():
        if inputs.keys() != {"settings", "needs"} or not inputs["needs"].keys() <= scopes.keys():
            raise ValueError(f"scopes.{name} lacks its settings, or a scope that it needs")
    for name, inputs in scopes.items():
        for need, expected in inputs["needs"].items():
            if run.fingerprints[need] != expected:
                raise ValueError(
                    f"scopes.{name} needs another scopes.{need} than the stored one: it was edited"
                )
    settings = scopes[RUN]["settings"]
    values = json.loads(json.dumps(asdict(facts)))
    if any(values.get(key, value) != value for key, value in settings["data_facts"].items()):
        raise ValueError("its facts are not those of scopes.run: it was edited")
    if settings["orchestrate"]["threads_per_actor"] != run.num_threads or settings["seed"] != run.config.seed:
        raise ValueError("num_threads or config.seed is not that of scopes.run: it was edited")


def bound_scopes(committed: Collection[str]) -> set[str]:
    """Return the scopes of the committed units; their settings can no longer change."""
    return {scope_of(unit_id) for unit_id in committed}


def refusal(
    files: StoreFiles, held: Run, requested: Run, bound: Collection[str], changes: Changes | None = None
) -> FingerprintError:
    """Return the error of a requested run that would change committed results, with the differences.

    `changes` of the image folder say more than the hash of the data.
    """
    found = clashes(held.scopes, requested.scopes, bound)
    if changes is not None and changes.all_lines:
        found = [f"data: {line}" for line in changes.all_lines] + [
            line for line in found if not line.startswith("data_facts.identity")
        ]
    lines = "\n  ".join(found)
    return FingerprintError(
        f"{files.location} contains another run, and the new settings would change its results:\n  {lines}\n"
        "Use the old settings to resume it, or another --store for the new ones."
    )
