"""What the page shows, as plain data: the state of the run, its newest images and its loss curves."""

import base64
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from prism_ray.errors import PrismRayError, StoreError
from prism_ray.parts.curves import StoredCurve, read_curve
from prism_ray.parts.images import ImageForm, read_batch
from prism_ray.parts.png import encode_png
from prism_ray.run import Run, read_progress
from prism_ray.run.live import Live, read_live
from prism_ray.stages import find_stage, stage_of, stages
from prism_ray.store import StoreFiles, read_commit, read_driver, read_failures
from prism_ray.wording import duration

_PROGRESS_EVERY_S = 10.0  # without a driver at work: the commits are listed and read
_NUM_IMAGES = 24
_NUM_CURVES = 60  # batches
_NUM_FAILURES = 5
_MIN_PIXELS = 64  # smaller images are enlarged, each pixel to a square


class DashboardState:
    """Reads a store for the page; several requests at a time read it once."""

    def __init__(self, files: StoreFiles, run: Run) -> None:
        self._files, self._run = files, run
        self._lock = threading.Lock()
        self._curves: OrderedDict[str, StoredCurve] = OrderedDict()  # of batches, the newest last
        self._newest: list[str] = []  # ids of batches, the newest first
        self._stages: dict[str, tuple[int, int]] = {}  # units done, units
        self._read_at = float("-inf")
        self._images: tuple[str, list[dict[str, Any]]] = "", []

    def state(self) -> dict[str, Any]:
        """Return stages, actors, driver and failures. Raises StoreError if the store cannot be read."""
        with self._lock:
            driver, live = read_driver(self._files), read_live(self._files)
            self._look(live)
            failures = [
                {"unit": each.unit_id, "error": each.error, "message": each.message.strip()[:500]}
                for each in list(read_failures(self._files))[-_NUM_FAILURES:]
            ]
            return {
                "store": self._files.location,
                "driver": None if driver is None else asdict(driver) | {"text": str(driver)},
                "live": None if live is None else asdict(live) | {"actors": _actors(live)},
                "stages": self._stage_rows(live),
                "failures": failures,
                "newest": self._newest[:_NUM_CURVES],
            }

    def images(self) -> dict[str, Any]:
        """Return the images of the newest batch as PNG in data URLs, with label, class and IPC index."""
        with self._lock:
            unit_id = self._newest[0] if self._newest else ""
            if unit_id and self._images[0] != unit_id:
                self._images = unit_id, self._read_images(unit_id)
            return {"batch": unit_id, "images": self._images[1]}

    def curves(self) -> dict[str, Any]:
        """Return the loss curves of the newest batches, by the ids of their units."""
        with self._lock:
            for unit_id in reversed(self._newest[:_NUM_CURVES]):
                if unit_id not in self._curves:
                    with suppress(StoreError):  # revoked meanwhile, or damaged: `verify` tells
                        curve = read_curve(self._files, read_commit(self._files, unit_id))
                        if curve is not None:
                            self._curves[unit_id] = curve
            while len(self._curves) > _NUM_CURVES:
                self._curves.popitem(last=False)
            return {unit_id: asdict(curve) for unit_id, curve in self._curves.items()}

    def _look(self, live: Live | None) -> None:
        """Bring the newest batches up to date: from the driver if one is at work, else from the commits."""
        if live is not None:
            batches = [unit_id for unit_id in live.latest if _is_batch(unit_id)]
            self._newest = list(dict.fromkeys([*batches, *self._newest]))[:_NUM_CURVES]
        if live is not None and live.stages and self._stages:
            self._stages |= {each.stage: (each.num_done, each.num_units) for each in live.stages}
            return
        if time.monotonic() - self._read_at < _PROGRESS_EVERY_S:
            return
        progress = read_progress(self._files, self._run)
        self._read_at = time.monotonic()
        self._stages = {stage.stage: (stage.num_done, stage.num_units) for stage in progress.stages}
        if len(self._newest) < _NUM_CURVES:
            self._newest = list(dict.fromkeys([*self._newest, *self._last_batches(progress.done)]))[
                :_NUM_CURVES
            ]

    def _last_batches(self, done: Iterable[str]) -> list[str]:
        """Return some committed batches of sets that are optimised, in turn from each set, the last first."""
        plan, is_done = self._run.plan, set(done)
        of_sets = [
            [unit_id for unit_id in plan.unit_ids("recover", name) if unit_id in is_done][::-1]
            for name in plan.image_sets
        ]
        longest = max(map(len, of_sets), default=0)
        return [ids[place] for place in range(longest) for ids in of_sets if place < len(ids)]

    def _stage_rows(self, live: Live | None) -> list[dict[str, Any]]:
        now = {} if live is None else {each.stage: each for each in live.stages}
        rows = []
        for stage in stages():
            done, total = self._stages.get(stage.name, (0, stage.count(self._run.plan)))
            row = {"stage": stage.name, "done": done, "units": total, "left": ""}
            row["share"] = done / total if total else 1.0
            if stage.name in now:
                left = now[stage.name].seconds_left
                row |= {"share": now[stage.name].share, "left": duration(left) if left else ""}
            if total:
                rows.append(row)
        return rows

    def _read_images(self, unit_id: str) -> list[dict[str, Any]]:
        name = unit_id.split("/")[1]
        try:
            form = ImageForm.of(self._run.plan, name)
            _, stored = read_batch(self._files, read_commit(self._files, unit_id), form)
        except (PrismRayError, LookupError):  # damaged, or made again meanwhile
            return []
        shown = []
        for slot, image in zip(stored.slots[:_NUM_IMAGES], stored.images, strict=False):
            scale = max(1, -(-_MIN_PIXELS // image.shape[-1]))
            png = encode_png(image.repeat(scale, 1).repeat(scale, 2))
            url = "data:image/png;base64," + base64.b64encode(png).decode()
            names = self._run.plan.facts.class_names
            shown.append({"label": slot.label, "name": names[slot.label], "ipc": slot.ipc_index, "src": url})
        return shown


def _is_batch(unit_id: str) -> bool:
    return find_stage(stage_of(unit_id)).name == "recover"


def _actors(live: Live) -> list[dict[str, Any]]:
    """Return the actors with what each says of its unit."""
    return [
        asdict(actor)
        | {"units": [asdict(unit) | {"share": unit.share, "text": unit.describe()} for unit in actor.units]}
        for actor in live.actors
    ]
