"""prism-ray: dataset distillation by PRISM, on Ray.

    load(store)       a torch Dataset of (image, label, soft label, view), for any DataLoader
    open_run(store)   a run's images, labels, units, students and teachers as Arrow tables
    distill(config)   do the missing work of a run, as `prism-ray distill` does
    plan(config)      what that would do, as `prism-ray plan` shows it

docs/library.md describes them. Importing the package loads nothing heavy: no torch, no Ray, no pandas.
"""

import os
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from prism_ray.errors import PrismRayError, UsageError

if TYPE_CHECKING:
    from prism_ray.analyze.preview import Preview
    from prism_ray.library.runs import OpenRun
    from prism_ray.library.views import DistilledViews

__version__ = "0.1.0"
__all__ = ["PrismRayError", "UsageError", "distill", "load", "open_run", "plan"]

_Path = str | os.PathLike[str]


def load(
    store: _Path,
    image_set: str | None = None,
    evaluation: str | None = None,
    *,
    student: int = 0,
    normalise: bool = True,
) -> "DistilledViews":
    """Return a finished image set as a torch Dataset of (image, label, soft label, view), epoch by epoch.

    The items are what the students of the run train with, to the bit: image float32 (3, S, S), normalised for
    the network; label int; soft label float32 (C,), logits before any softmax; view, a NamedTuple of numbers.
    Call `set_epoch(epoch)` before each epoch; `test_images()` has the real images of the test.

    `store` is the folder or URL of a run. `image_set` and `evaluation` are by default the first of the
    config. `student` is the number of the student in whose order pruned labels are used again. Without
    `normalise` the image is (channels, H, W) in [0, 1].

    Raises UsageError if there is no such store, image set or evaluation, if the images or labels are not
    finished, or if the run stores no labels; StoreError if a file is damaged.

    >>> data = prism_ray.load("runs/digits", "prism")
    >>> data.set_epoch(0)
    >>> image, label, soft_label, view = data[3]
    """
    from prism_ray.library.views import load_views  # late: it loads torch

    return load_views(store, image_set, evaluation, student, normalise)


def open_run(store: _Path) -> "OpenRun":
    """Open the run in a store for reading: its images and labels, and tables of all that it made.

    `store` is the folder or URL of a run, which need not be finished. Raises UsageError if there is none, and
    StoreError if its plan is damaged.

    >>> run = prism_ray.open_run("runs/digits")
    >>> run.students().to_pandas().groupby("image_set").accuracy.mean()
    """
    from prism_ray.library.runs import OpenRun

    return OpenRun(store)


def distill(
    config: _Path | Mapping[str, Any], *, store: _Path | None = None, set: Mapping[str, Any] | None = None
) -> "OpenRun":
    """Do the missing work of a run and return it; progress is printed. A finished run returns at once.

    `config` is a YAML file or URL, or the same keys as plain data. `store` replaces the config's store, and
    `set` single keys, for example {"recover.ipc": 10}. Call it in the main thread, before Ray is imported.

    Raises ConfigError for a wrong key or value, FingerprintError if the store belongs to another run,
    IncompleteError if units failed in all attempts, and the other errors of prism_ray.errors.

    >>> run = prism_ray.distill("jobs/digits.yaml", store="runs/digits", set={"seed": 1})
    >>> run.complete
    True
    """
    from prism_ray.library.calls import distill as do

    return do(config, store, set)


def plan(
    config: _Path | Mapping[str, Any], *, store: _Path | None = None, set: Mapping[str, Any] | None = None
) -> "Preview":
    """Return what `distill` would do and how much is done already; starts no cluster and writes nothing.

    Arguments as for `distill`. The result has the figures of `prism-ray plan`: `stages` (stage -> units done
    and in all), `estimated_image_bytes`, `estimated_label_bytes`, `batches` and others; `to_json()` returns
    plain data. Raises UsageError for whatever `distill` would refuse.

    >>> prism_ray.plan("jobs/digits.yaml").stages["recover"]
    (0, 3)
    """
    from prism_ray.library.calls import plan as preview

    return preview(config, store, set)


class _Package(ModuleType):
    """This package, in which the function `plan` is not replaced when the room plan/ is imported.

    Python would set the attribute to the module. `from prism_ray.plan import ...` does not need it.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name == "plan" and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
