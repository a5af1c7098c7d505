"""What trackers are told of a committed unit: a pure function of its commit, its files and its number.

    recover/distilled/ce                          a figure of each unit, by its number in its scope
    recover/distilled/<key>/ce                    loss curves of some batches, by iteration
    recover/distilled/<key>/alignment/<teacher>   the same for the R_m of each teacher
    recover/distilled/images                      images of these batches
    squeeze/resnet/train_loss                     by epoch
    evaluate/distilled/student/s000/accuracy      by epoch

No series has the name of another one's folder, because MLflow keeps them as files in folders.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cache
from typing import Any

import numpy as np

from prism_ray.errors import StoreError
from prism_ray.parts.curves import read_curve
from prism_ray.parts.images import ImageForm, read_batch
from prism_ray.plan import Plan
from prism_ray.stages import scope_of, stage_of
from prism_ray.stages.base import key_of
from prism_ray.stages.relabel import RelabelUnit
from prism_ray.store import Commit, StoreFiles, read_part
from prism_ray.trackers import Item, Picture, Point

_ATTEMPT = ("resumed_at", "num_iterations", "first_epoch", "num_epochs", "num_parameters", "num_bn_layers")
_MAX_CARD_BYTES = 2**26
_MAX_SIDE = 1024  # of a picture, in pixels
_NUM_IMAGES = 20  # in a picture


class Numbering:
    """The numbers of units in their scopes; in stages of many units by arithmetic."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._few = cache(self._numbers_of)

    def number(self, unit_id: str) -> int | None:
        """Return the number of a unit in its scope, from 0; None if the plan has no such unit."""
        stage = stage_of(unit_id)
        if stage == "recover":
            _, image_set, key = unit_id.split("/")
            return self._plan.formation(image_set).number(key) if image_set in self._plan.image_sets else None
        if stage == "relabel":
            unit = self._plan.find(unit_id)
            if not isinstance(unit, RelabelUnit):
                return None
            relabel = self._plan.config.relabel
            ranges = -(-relabel.num_label_epochs // relabel.epochs_per_unit)
            return unit.group * ranges + unit.first_epoch // relabel.epochs_per_unit
        return self._few(stage).get(unit_id) if self._plan.has(unit_id) else None

    def _numbers_of(self, stage: str) -> dict[str, int]:
        counts: dict[str, int] = {}
        numbers = {}
        for unit_id in self._plan.unit_ids(stage):
            scope = scope_of(unit_id)
            numbers[unit_id] = counts.get(scope, 0)
            counts[scope] = numbers[unit_id] + 1
        return numbers


def is_shown(number: int) -> bool:
    """Return whether the images and loss curves of a batch are shown: 0, 1, 2, 4, 8, 16 and so on."""
    return number & (number - 1) == 0


def items_of(files: StoreFiles, plan: Plan, commit: Commit, number: int) -> list[Item]:
    """Return what trackers are told of a unit; what cannot be read is left out, and `verify` tells why."""
    scope, stage = scope_of(commit.unit), stage_of(commit.unit)
    time = _time(commit)
    figures = {"seconds": commit.seconds, "bytes": commit.num_bytes, **_figures(commit.stats)}
    items: list[Item] = list(_points(scope, "unit", [(number, figures)], time))
    with suppress(StoreError, ValueError, LookupError, TypeError):
        if stage == "recover" and is_shown(number):
            items += _batch(files, plan, commit, number, time)
        elif stage == "squeeze":
            losses = _card(files, commit).get("train_losses", ())
            rows = [(epoch, {"train_loss": loss}) for epoch, loss in enumerate(losses, 1)]
            items += _points(scope, "epoch", rows, time)
        elif stage == "evaluate":
            rows = [(point.pop("num_epochs"), point) for point in _card(files, commit)["curve"]]
            items += _points(f"{scope}/{key_of(commit.unit)}", "epoch", rows, time)
    return items


def _batch(files: StoreFiles, plan: Plan, commit: Commit, number: int, time: float) -> Iterator[Item]:
    scope, key = scope_of(commit.unit), key_of(commit.unit)
    curve = read_curve(files, commit)
    if curve is not None:
        columns: dict[str, Sequence[float | None]] = {"ce": curve.ce, "bn": curve.bn, **curve.terms}
        columns |= {f"alignment/{teacher}": values for teacher, values in curve.alignments.items()}
        rows = [
            (iteration, {name: values[place] for name, values in columns.items()})
            for place, iteration in enumerate(curve.iterations)
        ]
        yield from _points(f"{scope}/{key}", "iteration", rows, time)
    _, stored = read_batch(files, commit, ImageForm.of(plan, scope.partition("/")[2]))
    yield Picture(f"{scope}/images", number, _side_by_side(stored.images), time)


def _side_by_side(images: Any) -> Any:
    """Return some images (B, channels, H, W) in rows as one (H, W, 3); small ones are enlarged."""
    side = images.shape[2]
    chosen = images[:: max(1, len(images) // _NUM_IMAGES)][:_NUM_IMAGES]
    columns = max(1, min(len(chosen), 10, _MAX_SIDE // side))
    chosen = chosen[: columns * max(1, _MAX_SIDE // side)]
    rows = -(-len(chosen) // columns)
    sheet = np.zeros((rows * columns, 3, side, side), np.uint8)
    sheet[: len(chosen)] = chosen  # a grey image has one channel, which becomes three
    scale = max(1, 64 // side)
    sheet = sheet.repeat(scale, 2).repeat(scale, 3)
    grid = sheet.reshape(rows, columns, 3, side * scale, side * scale).transpose(0, 3, 1, 4, 2)
    return np.ascontiguousarray(grid.reshape(rows * side * scale, columns * side * scale, 3))


def _card(files: StoreFiles, commit: Commit) -> dict[str, Any]:
    part = next(part for part in commit.files if part.name.endswith(".json"))
    card = json.loads(read_part(files, part, _MAX_CARD_BYTES))
    if not isinstance(card, dict):
        raise ValueError(f"{part.name} is no card")
    return card


def _figures(stats: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures among a unit's statistics; of a batch those of its last iteration."""
    last = stats.get("last")
    inner = dict(last) if isinstance(last, dict) else {}
    terms = inner.pop("terms", None)
    return {
        name: value
        for name, value in {**stats, **inner, **(terms if isinstance(terms, dict) else {})}.items()
        if name not in _ATTEMPT
    }


def _points(
    prefix: str, axis: str, rows: Iterable[tuple[Any, Mapping[str, Any]]], time: float
) -> Iterator[Point]:
    """Yield the finite figures of rows (step, figures) as points."""
    for step, figures in rows:
        for name, value in figures.items():
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if is_number and isinstance(step, int) and math.isfinite(value):
                yield Point(f"{prefix}/{name}", axis, step, float(value), time)


def _time(commit: Commit) -> float:
    try:
        return datetime.fromisoformat(commit.finished_at).timestamp()
    except ValueError:  # of a hand that edited it
        return 0.0
