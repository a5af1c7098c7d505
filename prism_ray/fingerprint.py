"""Fingerprints: which settings each unit of a run answers to, and how two runs differ. Pure.

A scope is a part of a run whose results depend on the same settings: one teacher, one collection, one image
set, its labels, one evaluation of it. Its inputs are these settings and the fingerprints of the scopes that
it needs, so a fingerprint covers everything upstream. A scope is bound once a unit of it is committed;
what is not bound may still change, and scopes may be added to a finished run.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

from prism_ray.config import DISTILLED, Config, RecoverConfig
from prism_ray.config.layers import CONTROL
from prism_ray.config.renamed import old_name
from prism_ray.data import DataFacts
from prism_ray.plan import Plan
from prism_ray.units import CollectKind

# Raise this when a change of the code changes the bytes that a config leads to.
PLAN_VERSION = 3

Scopes = dict[str, dict[str, Any]]  # scope -> {"settings": plain data, "needs": {scope: fingerprint}}

RUN = "run"

# Settings that cannot change a result: where data are, and how they get there.
_FREE_DATA_KEYS = {"path", "test_path", "download", "num_classes"}
_FREE_TEACHER_KEYS = {"name"}
# The settings of a collection, and of those who use it.
_SHARDS = ("classes_per_unit", "batch_size")
_COLLECT_KEYS: dict[CollectKind, tuple[str, ...]] = {
    "statistics": (*_SHARDS, "images_per_class", "crop_scale", "flip", "patch_size"),
    "median": (*_SHARDS, "images_per_class"),
    "rded": (
        *_SHARDS,
        "rded_images_per_class",
        "rded_crops_per_image",
        "rded_crop_scale",
        "rded_patches_per_side",
    ),
}
# A draw picks by place among the teachers, and logits are summed in their order.
_ORDER = "order of teachers.pool"
_FREE_EVALUATE_KEYS = {"num_students", "image_sets"}  # each student and each image set has its own seed


def run_scopes(
    config: Config, facts: DataFacts, num_threads: int, weights: Mapping[str, str] | None = None
) -> Scopes:
    """Return the inputs of every scope of a run, those that others need first.

    `weights` has the SHA-256 of each teacher's file of weights, if it has one; its path is free.
    """
    values = config.model_dump(mode="json")
    scopes: Scopes = {}
    fingerprints: dict[str, str] = {}

    def add(scope: str, settings: dict[str, Any], *needs: str) -> None:
        inputs = {"settings": settings, "needs": {need: fingerprints[need] for need in needs}}
        scopes[scope] = inputs
        fingerprints[scope] = fingerprint(inputs)

    run_settings = {
        "seed": config.seed,
        "data": _without(values["data"], _FREE_DATA_KEYS),
        "data_facts": json.loads(json.dumps(asdict(facts))),  # with lists, as read back from a store
        "orchestrate": {"threads_per_actor": num_threads},
        "plan_version": PLAN_VERSION,
    }
    add(RUN, run_settings)
    for number, teacher in enumerate(config.teachers.pool):
        network = _without(values["teachers"]["pool"][number], _FREE_TEACHER_KEYS)
        if teacher.weights_path is not None:
            network["arch"] = f"{teacher.library}:{teacher.architecture}"
            network["weights_sha256"] = (weights or {})[teacher.name]
        teachers = {"pool": {teacher.name: network}}
        if teacher.weights is None:
            teachers["squeeze"] = values["teachers"]["squeeze"]
        add(f"squeeze/{teacher.name}", {"teachers": teachers}, RUN)
    plan = Plan(config, facts)
    settings: dict[str, Any]
    for kind, name in plan.collections:
        settings = {"collect": {key: values["collect"][key] for key in _COLLECT_KEYS[kind]}}
        add(f"collect/{kind}/{name}", settings, f"squeeze/{name}")
    for name, image_set in config.image_sets.items():
        needs = [f"collect/{kind}/{teacher}" for kind, teacher in plan.collections_of(image_set)]
        settings = {"recover": {old_name("recover", key): v for key, v in values["image_sets"][name].items()}}
        if isinstance(image_set, RecoverConfig):
            candidates = config.candidates(image_set)
            needs += [f"squeeze/{teacher}" for teacher in dict.fromkeys([image_set.primary, *candidates])]
            settings[_ORDER] = list(candidates)
        add(f"recover/{name}", settings, RUN, *needs)
        labellers = [f"squeeze/{teacher}" for teacher in config.label_teachers]
        settings = {"relabel": values["relabel"]}
        if config.relabel.teachers == "pool":
            settings[_ORDER] = list(config.label_teachers)
        add(f"relabel/{name}", settings, f"recover/{name}", *labellers)
        judges = dict.fromkeys([config.feature_teacher, *config.analyze.verifiers])
        add(
            f"measure/{name}",
            {"analyze": values["analyze"]},
            f"recover/{name}",
            *(f"squeeze/{teacher}" for teacher in judges),
        )
    for key in config.evaluations:
        settings = _without(values["evaluations"][key], _FREE_EVALUATE_KEYS)
        for name in config.sets_of(key):
            add(
                f"evaluate/{name}/{key}",
                {"evaluate": settings},
                f"relabel/{name}",
                f"squeeze/{config.primary}",
            )
    return scopes


def fingerprint(inputs: Mapping[str, Any]) -> str:
    """Return the SHA-256 (hex) of plain data, independent of the order of keys."""
    text = json.dumps(inputs, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def clashes(held: Scopes, asked: Scopes, bound: Collection[str]) -> list[str]:
    """Say in one line each how `asked` would change what `bound` scopes of `held` have made.

    Empty if and only if every bound scope that both know has the same fingerprint.
    """
    both = held.keys() & asked.keys()
    changed = {scope for scope in both if fingerprint(held[scope]) != fingerprint(asked[scope])}
    explain = changed & set(bound)
    found: set[str] = set()
    while explain:
        scope = explain.pop()
        found.add(scope)
        needs = held[scope]["needs"].keys() | asked[scope]["needs"].keys()
        explain |= (needs & changed) - found
    lines: dict[str, None] = {}
    sets = {scope.removeprefix("recover/") for scope in held if scope.startswith("recover/")}
    for scope in held:
        if scope in found:
            whose = _whose(scope) if sets - {DISTILLED, CONTROL} else ""
            for line in differences(held[scope]["settings"], asked[scope]["settings"]):
                lines[line + whose] = None
            here, now = held[scope]["needs"].keys(), asked[scope]["needs"].keys()
            for need in sorted(here ^ now):
                which = "the store used it, now it is not used" if need in here else "it is new"
                lines[f"{need}: {which}{whose}"] = None
    return list(lines)


def differences(old: Any, new: Any, key: str = "") -> list[str]:
    """Say in one line each where two pieces of plain data differ, for a person to read."""
    if isinstance(old, dict) and isinstance(new, dict):
        lines = []
        for name in sorted(old.keys() | new.keys()):
            inner = f"{key}.{name}" if key else name
            if name in old and name in new:
                lines += differences(old[name], new[name], inner)
            elif name in old:
                lines.append(f"{inner}: the store has {old[name]!r}, now nothing")
            else:
                lines.append(f"{inner}: the store has nothing, now {new[name]!r}")
        return lines
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return [line for i, (a, b) in pairs for line in differences(a, b, f"{key}.{i}")]
    return [] if json.dumps(old) == json.dumps(new) else [f"{key}: the store has {old!r}, now {new!r}"]


def _whose(scope: str) -> str:
    """Name the image set of a scope, if it is one's."""
    parts = scope.split("/")
    return f" (image set {parts[1]})" if parts[0] in ("recover", "relabel", "evaluate", "measure") else ""


def _without(values: Mapping[str, Any], keys: Collection[str]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in keys}
