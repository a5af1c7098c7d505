"""plan.json: what the run is. Created exclusively once; the same command later is held against it."""

import json
import platform
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from prism_ray.config import Config, dump_config, parse_config
from prism_ray.data import DataFacts
from prism_ray.errors import FingerprintError, PrismRayError, StoreError
from prism_ray.plan import Plan, differences, fingerprint, fingerprint_inputs
from prism_ray.store import layout
from prism_ray.store.commits import committed_units
from prism_ray.store.files import StoreFiles

_FORMAT = 1
_VERSIONED = ("prism-ray", "torch", "torchvision", "timm", "ray", "numpy", "pyarrow", "pillow")


@dataclass(frozen=True)
class Run:
    """A run as its store knows it."""

    config: Config
    facts: DataFacts
    num_threads: int  # per actor; kept for the life of the run
    created_at: str  # UTC, ISO 8601
    versions: dict[str, str]  # of the packages that made it

    @property
    def plan(self) -> Plan:
        return Plan(self.config, self.facts)

    @cached_property
    def fingerprint_inputs(self) -> dict[str, Any]:
        return fingerprint_inputs(self.config, self.facts, self.num_threads)

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.fingerprint_inputs)


def new_run(config: Config, facts: DataFacts, num_threads: int) -> Run:
    """Describe a run that starts now, with the packages of this process."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Run(config, facts, num_threads, created_at=now, versions=package_versions())


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
    """Create plan.json, or read the one that is there; return the run that the store holds.

    Settings that cannot change a result follow the present call. A store without any commit has nothing to
    lose: there another run's plan.json is replaced.
    Raises FingerprintError with a readable difference if the store holds another run's work.
    """
    text = _to_json(run)
    if not files.create(layout.PLAN, text):
        held = load_run(files)
        if held.fingerprint != run.fingerprint:
            if has_commits(files):
                raise refusal(files, held, run)
        else:
            run = replace(run, created_at=held.created_at, versions=held.versions)
            text = _to_json(run)
        if held != run:
            files.replace(layout.PLAN, text)
    files.replace(layout.CONFIG, dump_config(run.config).encode())
    return run


def _to_json(run: Run) -> bytes:
    return json.dumps(
        {
            "format": _FORMAT,
            "fingerprint": run.fingerprint,
            "num_batches": run.plan.num_batches,
            "num_images": run.plan.num_images,
            "num_threads": run.num_threads,
            "created_at": run.created_at,
            "versions": run.versions,
            "facts": asdict(run.facts),
            "config": run.config.model_dump(mode="json"),
        },
        indent=1,
    ).encode()


def load_run(files: StoreFiles) -> Run:
    """Read plan.json; raises StoreError if there is none, or if it is damaged."""
    if not files.exists(layout.PLAN):
        raise StoreError(
            f"{files.location} holds no run (no {layout.PLAN}); start one with "
            f"`prism-ray distill CONFIG --store {files.location}`"
        )
    origin = f"{files.location}/{layout.PLAN}"
    try:
        values = json.loads(files.read(layout.PLAN))
        if values["format"] != _FORMAT:
            raise ValueError(f"its format is {values['format']}, this version reads {_FORMAT}")
        facts = values["facts"]
        run = Run(
            config=parse_config(values["config"], origin),
            facts=DataFacts(
                class_names=tuple(facts["class_names"]),
                train_counts=tuple(facts["train_counts"]),
                num_test_images=facts["num_test_images"],
                channels=facts["channels"],
                identity=facts["identity"],
            ),
            num_threads=values["num_threads"],
            created_at=values["created_at"],
            versions=values["versions"],
        )
        if run.fingerprint != values["fingerprint"]:
            raise ValueError(
                "its fingerprint does not fit its settings: it was edited, or made by "
                "another version of prism-ray"
            )
    except (ValueError, TypeError, KeyError, PrismRayError) as error:
        raise StoreError(f"{origin} is damaged: {error}; restore it, or use another store") from None
    return run


def has_commits(files: StoreFiles) -> bool:
    """True if any unit of the store is done."""
    return next(committed_units(files), None) is not None


def refusal(files: StoreFiles, held: Run, asked: Run) -> FingerprintError:
    """The error that says how the settings differ from those of the store's run."""
    lines = differences(held.fingerprint_inputs, asked.fingerprint_inputs)
    return FingerprintError(
        f"{files.location} holds another run, whose results the new settings would change:\n  "
        + "\n  ".join(lines)
        + "\nUse the old settings to go on with it, or another --store for the new ones."
    )
