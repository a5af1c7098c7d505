"""Weights & Biases: its server if this machine is logged in, else files in a local folder (offline)."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from prism_ray.trackers.base import Item, Point, TrackedRun, Tracker


class WandB(Tracker):
    """Logs to the run with the id of ours in the project `prism-ray`, or WANDB_PROJECT.

    W&B has no steps of its own for each series, so the steps are figures too: axis/unit, axis/epoch.
    """

    name = "wandb"
    package = "wandb"

    def __init__(self, run: TrackedRun) -> None:
        import wandb

        Path(run.folder).mkdir(parents=True, exist_ok=True)
        # Without a key it would ask for one on the terminal.
        mode = os.environ.get("WANDB_MODE") or ("online" if _is_logged_in() else "offline")
        self._wandb, self._seen = wandb, set[str]()
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "prism-ray"),
            id=run.id,
            name=run.name,
            resume="allow",
            dir=run.folder,
            config=dict(run.config),
            mode=mode,
            reinit="create_new",  # a sweep has several at once
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
        )
        self._url = self._run.url if mode == "online" else None
        self.where = self._url or run.folder

    def log(self, items: Sequence[Item]) -> None:
        rows: dict[tuple[str, int], dict[str, Any]] = {}
        for item in items:
            value: Any
            if isinstance(item, Point):
                axis, value = item.axis, item.value
            else:
                axis, value = "unit", self._wandb.Image(Image.fromarray(item.pixels))
            if item.tag not in self._seen:
                self._seen.add(item.tag)
                self._run.define_metric(item.tag, step_metric=f"axis/{axis}")
            rows.setdefault((axis, item.step), {f"axis/{axis}": item.step})[item.tag] = value
        for row in rows.values():
            self._run.log(row)

    def state(self) -> dict[str, Any]:
        return {"url": self._url}

    def close(self) -> None:
        self._run.finish()


def _is_logged_in() -> bool:
    """Return whether there is a key, in the environment or where `wandb login` writes it."""
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return bool(os.environ.get("WANDB_API_KEY")) or "wandb" in netrc.read_text()
    except OSError:
        return False
