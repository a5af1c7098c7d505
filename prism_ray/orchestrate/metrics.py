"""The metrics of a run in Ray's Prometheus endpoint; cluster/grafana/prism-ray.json shows them.

The driver alone exports them, from what it knows of units and from what the actors tell it every two seconds.
So no actor makes a metric call, and the series of an actor that dies do not stay behind. In a sweep they are
the sums over its points: a series for each point would be too many.
"""

from collections import Counter as Counts
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ray.util import metrics

from prism_ray.orchestrate.actor import UnitDone
from prism_ray.orchestrate.estimate import stage_of_unit
from prism_ray.run.live import Live
from prism_ray.stages import stage_of

# Name -> description, and the labels beside `run`, the name of the store or of the sweep's folder. In
# Prometheus a gauge has the prefix ray_, a counter also the suffix _total.
GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "prism_units": (
        "Units by state: planned, done (in earlier calls too), running, failed (attempts) and set-aside "
        "(both in this call).",
        ("stage", "state"),
    ),
    "prism_iterations_per_second": (
        "Steps per second of the running units: iterations, training steps, batches of views.",
        ("stage",),
    ),
    "prism_device_bytes": (
        "Memory that an actor has on its GPU; without a GPU its resident memory.",
        ("actor", "host"),
    ),
}
COUNTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "prism_images": ("Images that were committed in this call.", ()),
    "prism_commits": ("Units that were committed in this call.", ("stage",)),
    "prism_part_bytes": ("Bytes of the files of these units.", ("stage",)),
    "prism_upload_seconds": (
        "Seconds in which the files of these units were encoded and written.",
        ("stage",),
    ),
    "prism_commit_seconds": ("Seconds in which their commits were written.", ("stage",)),
    "prism_retries": ("Attempts that failed and are repeated.", ("stage",)),
    "prism_preemptions": ("Actors that were lost because their machine was taken away.", ()),
    "prism_teacher_cache_hits": ("Teachers that an actor had loaded when a unit needed them.", ()),
    "prism_teacher_cache_loads": ("Teachers that an actor had to load.", ()),
}


def exported_names() -> set[str]:
    """Return the names of all metrics as Prometheus sees them."""
    return {f"ray_{name}" for name in GAUGES} | {f"ray_{name}_total" for name in COUNTERS}


class Metrics:
    """The metrics of one call of `distill` or `sweep`."""

    def __init__(self, run: str) -> None:
        """`run` is the label of that name."""
        self._run = run
        self._gauges = {name: _make(metrics.Gauge, name, *about) for name, about in GAUGES.items()}
        self._counters = {name: _make(metrics.Counter, name, *about) for name, about in COUNTERS.items()}
        self._failed: Counts[str] = Counts()  # by stage: attempts
        self._aside: Counts[str] = Counts()
        self._stages: set[str] = set()  # that have begun
        self._actors: set[tuple[str, str]] = set()  # that have a series: name, host
        self._begin(with_stage=False)

    def done(self, result: UnitDone, is_first: bool) -> None:
        """An actor has done a unit; `is_first` tells whether it counts."""
        self._add("prism_teacher_cache_hits", result.num_hits)
        self._add("prism_teacher_cache_loads", result.num_loads)
        if not is_first:
            return
        commit, stage = result.commit, stage_of(result.commit.unit)
        self._add("prism_commits", 1, stage=stage)
        self._add("prism_part_bytes", commit.num_bytes, stage=stage)
        self._add("prism_upload_seconds", result.upload_seconds, stage=stage)
        self._add("prism_commit_seconds", result.commit_seconds, stage=stage)
        if stage == "recover" and commit.files:
            self._add("prism_images", commit.files[0].num_rows or 0)

    def failed(self, unit_id: str, again: bool) -> None:
        """An attempt at a unit failed; `again` tells whether there will be another."""
        stage = stage_of(unit_id)
        self._failed[stage] += 1
        if again:
            self._add("prism_retries", 1, stage=stage)
        else:
            self._aside[stage] += 1

    def preempted(self) -> None:
        """An actor was lost because its machine was taken away."""
        self._add("prism_preemptions", 1)

    def look(self, live: Live) -> None:
        """Set the gauges to the state of the call."""
        running: Counts[str] = Counts()
        rates: dict[str, float] = {}
        for unit in (unit for actor in live.actors for unit in actor.units):
            stage = stage_of_unit(unit)
            running[stage] += 1
            rates[stage] = rates.get(stage, 0.0) + (unit.per_second or 0.0)
        for each in live.stages:
            if each.stage not in self._stages:
                self._stages.add(each.stage)
                self._begin(with_stage=True, stage=each.stage)
            states = {
                "planned": each.num_units,
                "done": each.num_done,
                "running": running[each.stage],
                "failed": self._failed[each.stage],
                "set-aside": self._aside[each.stage],
            }
            for state, number in states.items():
                self._set("prism_units", number, stage=each.stage, state=state)
            self._set("prism_iterations_per_second", rates.get(each.stage, 0.0), stage=each.stage)
        here = {(actor.name, actor.host): actor.device_bytes for actor in live.actors}
        gone = dict.fromkeys(self._actors - here.keys(), 0)  # Ray keeps their series
        for (name, host), num_bytes in {**gone, **here}.items():
            self._set("prism_device_bytes", num_bytes, actor=name, host=host)
        self._actors |= here.keys()

    def _begin(self, *, with_stage: bool, **labels: str) -> None:
        """Let counters begin at zero: one that first appears with its first event has no rate there."""
        for name, (_, keys) in COUNTERS.items():
            if bool(keys) == with_stage:
                with suppress(AttributeError, TypeError):  # Ray has no public call for it: inc(0) is refused
                    self._counters[name]._record(0, tags=self._labels(labels))

    def _add(self, name: str, value: float, **labels: str) -> None:
        if value > 0:
            self._counters[name].inc(value, tags=self._labels(labels))

    def _set(self, name: str, value: float, **labels: str) -> None:
        self._gauges[name].set(value, tags=self._labels(labels))

    def _labels(self, labels: Mapping[str, str]) -> dict[str, str]:
        return {"run": self._run, **labels}


def _make(kind: Any, name: str, description: str, labels: tuple[str, ...]) -> Any:
    return kind(name, description=description, tag_keys=("run", *labels))
