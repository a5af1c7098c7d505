"""Trackio: files in a local folder, and a Space of Hugging Face if TRACKIO_SPACE_ID names one."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prism_ray.trackers.base import Item, Point, TrackedRun, Tracker


class Trackio(Tracker):
    """Logs to the run with the name of ours in the project `prism-ray`."""

    name = "trackio"
    package = "trackio"

    def __init__(self, run: TrackedRun) -> None:
        Path(run.folder).mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("TRACKIO_DIR", run.folder)  # which it reads on import
        import trackio

        self._trackio = trackio
        self._run = trackio.init(
            project="prism-ray",
            name=f"{run.name}-{run.id[:6]}",
            space_id=os.environ.get("TRACKIO_SPACE_ID"),
            config=dict(run.config),
            resume="allow",
        )
        self.where = os.environ["TRACKIO_DIR"]

    def log(self, items: Sequence[Item]) -> None:
        rows: dict[int, dict[str, Any]] = {}
        for item in items:
            value = item.value if isinstance(item, Point) else self._trackio.Image(item.pixels)
            rows.setdefault(item.step, {})[item.tag] = value
        for step, row in rows.items():
            self._run.log(row, step=step)

    def state(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        self._run.finish()
