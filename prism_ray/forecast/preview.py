"""The preview of a run with its forecast: what `prism-ray plan` shows. Loads neither torch nor Ray.

A calibration runs in processes of its own, and is kept in the store as calibration.json.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from prism_ray import machine
from prism_ray.analyze.forecast_table import Forecast
from prism_ray.analyze.preview import Preview, preview
from prism_ray.calibrate.figures import Calibration
from prism_ray.calibrate.process import calibrate
from prism_ray.config import Config
from prism_ray.data.assumed import Assumption
from prism_ray.errors import StoreError, UsageError
from prism_ray.forecast.kept import fitting_figures, read_calibration
from prism_ray.forecast.price import make_forecast, shape_of
from prism_ray.plan import Plan
from prism_ray.run import Asked, RunProgress
from prism_ray.store import StoreFiles, layout
from prism_ray.store.lease import read_holder


@dataclass(frozen=True)
class Wishes:
    """What a user asks of a forecast."""

    num_actors: int | None = None  # None: those of the config
    price_per_hour: float | None = None  # of a GPU; without GPUs of an actor
    assumption: Assumption | None = None  # of real images that are not there
    calibrates: bool = False


def preview_with_forecast(
    config: Config,
    origin: str,
    max_batches: int | None,
    wishes: Wishes = Wishes(),
    say: Callable[[str], None] = lambda text: None,
) -> Preview:
    """Return the preview of a run with its forecast; see `preview`. `say` gets the steps of a calibration.

    Raises UsageError too if the wishes do not fit the run or this machine.
    """

    def forecast_of(asked: Asked, files: StoreFiles, progress: RunProgress | None) -> Forecast:
        return _forecast(asked, files, progress, wishes, say)

    return preview(config, origin, max_batches, forecast_of, wishes.assumption)


def _forecast(
    asked: Asked,
    files: StoreFiles,
    progress: RunProgress | None,
    wishes: Wishes,
    say: Callable[[str], None],
) -> Forecast:
    config, plan = asked.config, Plan(asked.config, asked.facts)
    notes: list[str] = []
    calibration = None
    if wishes.calibrates and progress is not None and progress.complete:
        notes.append("the run is complete, so nothing was calibrated")
    elif wishes.calibrates:
        calibration = _calibrate(asked, files, wishes, say, notes)
    calibration = calibration or read_calibration(files, notes)
    device = None if calibration is None else calibration.machine.device
    shape = shape_of(config, asked.num_threads, wishes.num_actors, device)
    groups: Mapping[str, Mapping[str, float]] = {}
    if calibration is not None:
        groups = fitting_figures(calibration, plan, shape.num_threads, notes)
        calibration = calibration if groups else None
    return make_forecast(plan, progress, shape, calibration, groups, wishes.price_per_hour, notes)


def _calibrate(
    asked: Asked, files: StoreFiles, wishes: Wishes, say: Callable[[str], None], notes: list[str]
) -> Calibration:
    """Measure the run's steps on this machine, and keep the figures in the store if that can be."""
    config, gpu = asked.config, machine.gpu_name()
    gpus = config.orchestrate.gpus_per_actor
    if gpus not in ("auto", 0.0) and gpu is None:
        raise UsageError(
            f"--calibrate: orchestrate.gpus_per_actor = {gpus:g}, and this machine has no GPU that the "
            "driver shows; calibrate on a machine with such GPUs (with the same --store, which keeps the "
            "figures), or set gpus_per_actor to 0 for a run on CPUs"
        )
    holder = read_holder(files)
    if holder is not None and not holder.is_gone:
        notes.append(f"{holder} worked on the store during the calibration: if on this machine, it slowed it")
    shape = shape_of(config, asked.num_threads, wishes.num_actors, None)
    side_by_side = 1 if shape.gpus_per_actor else machine.num_cores() // shape.num_threads
    side_by_side = max(1, min(shape.num_actors, side_by_side))
    if os.environ.get("RAY_ADDRESS"):
        notes.append("calibrated on this machine; the cluster of RAY_ADDRESS may have others")
    use_gpu, is_assumed = shape.gpus_per_actor > 0, wishes.assumption is not None
    made = calibrate(asked, shape.num_threads, side_by_side, use_gpu, is_assumed, say)
    try:
        files.replace(layout.CALIBRATION, made.to_json())
    except StoreError as error:
        notes.append(f"the calibration is used here and not kept: {error}")
    return made
