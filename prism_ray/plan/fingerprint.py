"""Fingerprints: the settings that each unit of a run depends on, and how two runs differ. Pure.

A scope is a part of a run whose results depend on the same settings: one teacher, one collection, one image
set, its labels, one evaluation of it. Its inputs are these settings and the fingerprints of the scopes that
it needs, so a fingerprint covers everything upstream. A scope is bound once a unit of it is committed. Other
scopes may still change, and scopes may be added to a finished run.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import MISSING
from typing import Any, NamedTuple

from prism_ray.config import DISTILLED, Config
from prism_ray.config.base import Section
from prism_ray.config.resolve import CONTROL
from prism_ray.config.text import shown
from prism_ray.data import DataFacts
from prism_ray.plan.plan import Plan
from prism_ray.plan.versions import PLAN_VERSION, View
from prism_ray.stages import stages
from prism_ray.stages.squeeze import RUN

Scopes = dict[str, dict[str, Any]]  # scope -> {"settings": plain data, "needs": {scope: fingerprint}}

# Settings that cannot change a result: the location of the data, their download, and what decides which files
# are taken and in which order, because the facts of the data contain that.
_FREE_DATA_KEYS = {"path", "test_path", "download", "num_classes", "classes"}
_FREE_DATA_KEYS |= {"allow_left_out", "hashed", "max_megapixels"}


def run_scopes(
    config: Config,
    facts: DataFacts,
    num_threads: int,
    weights: Mapping[str, str] | None = None,
    version: int = PLAN_VERSION,
) -> Scopes:
    """Return the inputs of every scope of a run; a scope comes after those that it needs.

    `weights` has the SHA-256 of each teacher's file of weights, whose path is free. `version` is the plan
    version of the run.
    """
    view = View(version)
    settings = {
        "seed": config.seed,
        "data": view("data", config.data, free=_FREE_DATA_KEYS),
        "data_facts": view.facts(facts),
        "orchestrate": {"threads_per_actor": num_threads},
        "plan_version": version,
    }
    scopes: Scopes = {RUN: {"settings": settings, "needs": {}}}
    fingerprints = {RUN: fingerprint(scopes[RUN])}
    basis = Plan(config, facts)
    for stage in stages():
        for scope in stage.scopes(basis, view, dict(weights or {})):
            needs = {need: fingerprints[need] for need in scope.needs}
            scopes[scope.name] = {"settings": scope.settings, "needs": needs}
            fingerprints[scope.name] = fingerprint(scopes[scope.name])
    return scopes


def plan_version(scopes: Scopes) -> int:
    """Return the plan version that the scopes of a run were written with."""
    return int(scopes[RUN]["settings"]["plan_version"])


def fingerprint(inputs: Mapping[str, Any]) -> str:
    """Return the SHA-256 (hex) of plain data, independent of the order of keys."""
    text = json.dumps(inputs, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def clashes(stored: Scopes, requested: Scopes, bound: Collection[str]) -> list[str]:
    """Return a line for each difference of `requested` that changes results of `bound` scopes of `stored`.

    Empty if and only if every bound scope that is in both has the same fingerprint. Both are of one plan
    version.
    """
    both = stored.keys() & requested.keys()
    changed = {scope for scope in both if fingerprint(stored[scope]) != fingerprint(requested[scope])}
    explain = changed & needed_scopes(stored, bound)
    found: set[str] = set()
    while explain:
        scope = explain.pop()
        found.add(scope)
        needs = stored[scope]["needs"].keys() | requested[scope]["needs"].keys()
        explain |= (needs & changed) - found
    lines: dict[str, None] = {}
    sets = {scope.removeprefix("recover/") for scope in stored if scope.startswith("recover/")}
    for scope in (scope for scope in stored if scope in found):
        old, new = stored[scope], requested[scope]
        kind, _, name = scope.partition("/")
        is_of_set = kind in ("recover", "relabel", "evaluate", "measure")
        whose = f" (image set {name.split('/')[0]})" if is_of_set and sets - {DISTILLED, CONTROL} else ""
        for line in differences(old["settings"], new["settings"], View(plan_version(stored))):
            lines[f"{line}{whose}"] = None
        for need in sorted(old["needs"].keys() ^ new["needs"].keys()):
            which = "the store used it, now it is not used" if need in old["needs"] else "it is new"
            lines[f"{need}: {which}{whose}"] = None
    return list(lines)


def needed_scopes(scopes: Scopes, bound: Collection[str]) -> set[str]:
    """Return the bound scopes that are among `scopes`, and all that they need."""
    found: set[str] = set()
    left = scopes.keys() & set(bound)
    while left:
        scope = left.pop()
        found.add(scope)
        left |= scopes[scope]["needs"].keys() - found
    return found


class Difference(NamedTuple):
    """A key whose values differ in two pieces of plain data; MISSING stands for no value."""

    key: str  # a.b.c
    old: Any
    new: Any

    def __str__(self) -> str:
        if self.old is MISSING:
            return f"{self.key}: the store has nothing, now {shown(self.new)}"
        now = "nothing" if self.new is MISSING else shown(self.new)
        return f"{self.key}: the store has {shown(self.old)}, now {now}"


def differences(old: Any, new: Any, view: View | None = None) -> list[Difference]:
    """Return the innermost keys that differ in two pieces of plain data.

    With `view`, which needs a scope's settings, a missing value is shown as its default.
    """
    method = old.get("recover", {}).get("method", "prism") if view else ""

    def value_of(side: dict[str, Any], key: tuple[str, ...]) -> Any:
        if key[-1] in side or view is None:
            return side.get(key[-1], MISSING)
        default = view.default_at(key, method)
        return {} if isinstance(default, Section) else default

    def differ(old: Any, new: Any, key: tuple[str, ...]) -> Iterator[Difference]:
        one_is_missing = old is MISSING or new is MISSING
        if one_is_missing and (old or new) and isinstance(new if old is MISSING else old, dict):
            inside = list(differ({} if old is MISSING else old, {} if new is MISSING else new, key))
            yield from inside or [Difference(".".join(key), old, new)]
        elif not one_is_missing and isinstance(old, dict) and isinstance(new, dict):
            for inner in sorted(old.keys() | new.keys()):
                path = (*key, inner)
                yield from differ(value_of(old, path), value_of(new, path), path)
        elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
            for number, pair in enumerate(zip(old, new, strict=True)):
                yield from differ(*pair, (*key, str(number)))
        elif one_is_missing or json.dumps(old) != json.dumps(new):
            yield Difference(".".join(key), old, new)

    return list(differ(old, new, ()))
