"""Statistics of a teacher's layers over the real images: collected in shards of classes, merged when read.

A shard has two files. `totals` contains count, sum and sum of squares over its classes, so that shards merge
into the mean and variance of all images, not into a mean of means. `classes` contains mean and variance of
each class. The variance is over all values of the class, both between its images and within them.

Source: G-VBSM, arXiv 2311.17950; per class: EDC, arXiv 2404.13733 (whose public code pools differently).
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from prism_ray.collect.real_images import read_crops, read_pixels, side_of, training_indices
from prism_ray.collect.tensors import class_key, decode, encode
from prism_ray.config import CollectConfig
from prism_ray.crops import CropNumbers, Crops
from prism_ray.data import RealImages
from prism_ray.errors import EngineError
from prism_ray.geometry import apply_matrices, crop_matrix, flip_rows
from prism_ray.sealed import fits
from prism_ray.seeds import derive_seed
from prism_ray.stages.collect import CollectUnit
from prism_ray.teachers.layers import (
    LayerReference,
    TeacherReference,
    matched_layers,
    measure_channels,
    measure_patches,
)
from prism_ray.teachers.teacher import Teacher
from prism_ray.teachers.training import split_evenly

CHANNELS, PATCHES = "", "patch_"  # prefixes of the figures in the files
_LABELS = "labels"
_LEAVE_OUT = (
    "leave the teacher out of image sets with statistics.layers = 'bn+conv' or statistics.class_share > 0"
)


@dataclass(frozen=True)
class CollectedStatistics:
    """The files of one shard, safetensors.

    totals: `<layer>/count` (int64), `/sum` and `/squares` (float64, F); of convolutions also `/patch_count`,
    `/patch_sum`, `/patch_squares` (P). classes: `labels` (int64, K), and of each layer `<layer>/mean`
    and `/var` (float32, K, F), of convolutions also `/patch_mean`, `/patch_var` (K, P); row k is of class
    `labels[k]`.
    """

    totals: bytes
    classes: bytes


@dataclass
class Moments:
    """Number of values, their sum and their sum of squares (float64), for each channel or patch."""

    count: int
    total: Tensor
    squares: Tensor

    @classmethod
    def of(cls, mean: Tensor, var: Tensor, count: int) -> "Moments":
        """Return the moments of `count` values with the given mean and biased variance."""
        mean, var = mean.double(), var.double()
        return cls(count, count * mean, count * (var + mean**2))

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.count + other.count, self.total + other.total, self.squares + other.squares)

    def mean_var(self) -> tuple[Tensor, Tensor]:
        """Return mean and biased variance, float32; a variance below 0 due to rounding is 0."""
        mean = self.total / self.count
        var = (self.squares / self.count - mean**2).clamp(min=0.0)
        return mean.float(), var.float()


# (layer, CHANNELS or PATCHES) -> moments
Table = dict[tuple[str, str], Moments]


def _add(table: Table, key: tuple[str, str], moments: Moments) -> None:
    table[key] = table[key] + moments if key in table else moments


def _record(
    seen: Table, teacher: Teacher, patch_size: int, name: str, layer: nn.Module, inputs: tuple[Tensor, ...]
) -> None:
    """Add the moments of a layer's inputs to `seen`; the last three are the arguments of a hook."""
    features = inputs[0]  # N, F, ...
    per_channel = features.numel() // features.shape[1]
    _add(seen, (name, CHANNELS), Moments.of(*measure_channels(features), per_channel))
    if isinstance(layer, nn.Conv2d):
        per_patch = features.shape[0] * features.shape[1] * patch_size**2
        patches = Moments.of(*measure_patches(features, patch_size), per_patch)
        before = seen.get((name, PATCHES), patches)
        if before.total.shape != patches.total.shape:
            raise EngineError(
                f"teacher {teacher.name}: convolution {name} runs on maps of {len(before.total)} and of "
                f"{len(patches.total)} patches, which cannot be pooled; {_LEAVE_OUT}"
            )
        _add(seen, (name, PATCHES), patches)


@torch.no_grad()
def collect_statistics(
    unit: CollectUnit, teacher: Teacher, data: RealImages, config: CollectConfig, device: torch.device
) -> CollectedStatistics:
    """Pass the training images of the unit's classes through the teacher, each once, class by class.

    Each image has one random resized crop and flip, drawn from the unit's seed and its class. Raises
    DataError if a class has no image, EngineError if a statistic is not finite, or if a layer runs only for
    some of the classes.
    """
    totals: Table = {}
    rows: dict[str, list[Tensor]] = {}  # key -> class by class
    labels = range(unit.first_class, unit.first_class + unit.num_classes)
    seen: Table = {}  # of the present class; a layer that did not run is not in it
    with ExitStack() as hooks:
        for name, module in matched_layers(teacher.network, convolutions=True).items():
            hook = partial(_record, seen, teacher, config.patch_size, name)
            hooks.callback(module.register_forward_pre_hook(hook).remove)
        for label in labels:
            seen.clear()
            for pixels in _views(unit.seed, label, data, config, device):
                teacher.network(teacher.preprocessing.apply(pixels))
            if totals and seen.keys() != totals.keys():
                layers = sorted({layer for layer, _ in seen.keys() ^ totals.keys()})
                raise EngineError(
                    f"{unit.id}: teacher {teacher.name} runs the layers {', '.join(layers)} for some classes "
                    f"and not for others, such as class {data.class_names[label]!r}; {_LEAVE_OUT}"
                )
            for (layer, pooled), moments in seen.items():
                _add(totals, (layer, pooled), moments)
                for figure, values in zip(("mean", "var"), moments.mean_var(), strict=True):
                    rows.setdefault(f"{layer}/{pooled}{figure}", []).append(values.cpu())
    figures: dict[str, Tensor] = {}
    for (layer, pooled), moments in totals.items():
        if not torch.isfinite(moments.squares).all():
            raise EngineError(
                f"{unit.id}: the inputs of layer {layer} of teacher {teacher.name} are not finite for real "
                "images; check its weights"
            )
        figures[f"{layer}/{pooled}count"] = torch.tensor(moments.count)
        figures[f"{layer}/{pooled}sum"] = moments.total.cpu()
        figures[f"{layer}/{pooled}squares"] = moments.squares.cpu()
    stacked = {key: torch.stack(values) for key, values in rows.items()}
    return CollectedStatistics(encode(figures), encode({_LABELS: torch.tensor(labels), **stacked}))


def _views(
    seed: int, label: int, data: RealImages, config: CollectConfig, device: torch.device
) -> Iterator[Tensor]:
    """Yield a class's images in batches, each image with its crop and flip: (B, channels, side, side)."""
    side = side_of(data)
    indices = training_indices(data, label, config.images_per_class)
    rng = np.random.default_rng(derive_seed(seed, "views", label))
    numbers = CropNumbers.draw(rng, len(indices))
    flips = (rng.random(len(indices)) < 0.5) & config.flip
    if config.crop_from == "original":
        for batch in split_evenly(len(indices), config.batch_size):
            boxes_of = partial(_box_of, numbers[batch], config.crop_scale)
            pixels, _ = read_crops(data, indices[batch], boxes_of, side, device)
            flip = torch.from_numpy(flips[batch]).to(device)[:, None, None, None]
            yield torch.where(flip, pixels.flip(3), pixels)
        return
    crops = numbers.boxes(side, side, config.crop_scale)
    top, left, height, width, flip = (
        torch.from_numpy(values).to(device)
        for values in (crops.top, crops.left, crops.height, crops.width, flips)
    )
    for batch in split_evenly(len(indices), config.batch_size):
        rows = crop_matrix(top[batch], height[batch], side, side)
        columns = flip_rows(crop_matrix(left[batch], width[batch], side, side), flip[batch])
        yield apply_matrices(read_pixels(data, indices[batch], device), rows, columns)


def _box_of(numbers: CropNumbers, scale: tuple[float, float], row: int, height: int, width: int) -> Crops:
    return numbers[row : row + 1].boxes(height, width, scale)


def read_reference(
    totals: Iterable[bytes], classes: Iterable[bytes], labels: Collection[int], device: torch.device
) -> TeacherReference:
    """Merge the shards of a teacher: all `totals`, and the `classes` of at least those that contain `labels`.

    Both are iterated once, so that a caller can read one file at a time. Raises ValueError if a shard is
    damaged, if the shards are not of one network, or if a class of `labels` is in none of them.
    """
    merged: Table = {}
    for shard in totals:
        table = _read_totals(shard)
        if merged and table.keys() != merged.keys():
            raise ValueError("the collected statistics are not of one network: their layers differ")
        for key, moments in table.items():
            _add(merged, key, moments)
    figures: dict[str, Tensor] = {}
    for (layer, pooled), moments in merged.items():
        mean, var = moments.mean_var()
        figures |= {f"{layer}/{pooled}mean": mean[None], f"{layer}/{pooled}var": var[None]}
    (layers,) = _rows(figures, 1, device)
    rows: dict[int, dict[str, LayerReference]] = {}
    wanted = set(labels)
    for shard in classes:
        rows |= _read_classes(shard, wanted, device)
    missing = sorted(wanted - rows.keys())
    if missing:
        raise ValueError(f"no collected statistics of the classes {', '.join(map(str, missing))}")
    return TeacherReference(layers, rows)


def _read_totals(shard: bytes) -> Table:
    figures: dict[tuple[str, str], dict[str, Tensor]] = {}
    for key, values in decode(shard).items():
        layer, _, figure = key.rpartition("/")
        pooled = PATCHES if figure.startswith(PATCHES) else CHANNELS
        figures.setdefault((layer, pooled), {})[figure.removeprefix(pooled)] = values
    table: Table = {}
    for (layer, pooled), found in figures.items():
        if found.keys() != {"count", "sum", "squares"}:
            raise ValueError(f"layer {layer!r} has the figures {', '.join(sorted(found))}")
        count, total, squares = found["count"], found["sum"], found["squares"]
        like = torch.zeros(len(total) if total.dim() == 1 else 0, dtype=torch.float64)
        if not fits(found, {"count": torch.tensor(0), "sum": like, "squares": like}) or int(count) < 1:
            raise ValueError(f"the {pooled}moments of layer {layer!r} are not finite, or not of one shape")
        table[layer, pooled] = Moments(int(count), total, squares)
    return table


def check_layers(layers: Mapping[str, LayerReference], network: nn.Module) -> None:
    """Raise ValueError if a network does not have the layers of the statistics, with as many channels."""
    own = matched_layers(network, convolutions=True)
    for name, reference in layers.items():
        layer = own.get(name)
        channels = getattr(layer, "num_features", getattr(layer, "in_channels", None))
        if any(values.shape != (channels,) for values in (reference.mean, reference.var)):
            raise ValueError(f"the statistics of layer {name!r} are not of the network's {channels} channels")


def _read_classes(
    shard: bytes, wanted: Set[int], device: torch.device
) -> dict[int, dict[str, LayerReference]]:
    """Return those of the classes `wanted` that a shard contains, by label."""
    tensors = decode(shard)
    if _LABELS not in tensors:
        tensors = _stack_classes(tensors)
    labels = tensors.pop(_LABELS)
    if labels.dtype != torch.int64 or labels.dim() != 1 or len(set(labels.tolist())) != len(labels):
        raise ValueError("the labels of the classes are not different whole numbers")
    rows = {label: row for row, label in enumerate(labels.tolist()) if label in wanted}
    for key, values in tensors.items():
        if values.shape[:1] != labels.shape:
            raise ValueError(f"{key} does not have the {len(labels)} classes of its file")
    # Copies: the other classes need not stay in memory.
    taken = {key: values[list(rows.values())] for key, values in tensors.items()}
    return dict(zip(rows, _rows(taken, len(rows), device), strict=True))


def _stack_classes(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the layout of earlier versions, `00012/<layer>/<figure>` of each class, to the present one."""
    classes: dict[int, dict[str, Tensor]] = {}
    for key, values in tensors.items():
        label, _, name = key.partition("/")
        if not (label.isdecimal() and key == class_key(int(label), name)):
            raise ValueError(f"it has no labels, and {key!r} does not name a class")
        classes.setdefault(int(label), {})[name] = values
    names = {name for figures in classes.values() for name in figures}
    try:
        stacked = {
            name: torch.stack([figures[name] for figures in classes.values()]) for name in sorted(names)
        }
        return {_LABELS: torch.tensor(list(classes), dtype=torch.int64), **stacked}
    except (LookupError, RuntimeError) as error:
        raise ValueError(f"its classes do not have the same layers: {error}") from None


def _rows(
    figures: Mapping[str, Tensor], num_rows: int, device: torch.device
) -> list[dict[str, LayerReference]]:
    """Gather `<layer>/<figure>` (num_rows, F or P) by row and layer; raises ValueError if one is invalid."""
    layers: dict[str, dict[str, Tensor]] = {}
    for key, values in figures.items():
        layer, _, figure = key.rpartition("/")
        layers.setdefault(layer, {})[figure] = values
    rows: list[dict[str, LayerReference]] = [{} for _ in range(num_rows)]
    for layer, found in layers.items():
        pooled_over = (CHANNELS, PATCHES) if len(found) > 2 else (CHANNELS,)
        pairs = [(f"{pooled}mean", f"{pooled}var") for pooled in pooled_over]
        for mean, var in pairs:
            like = found.get(mean, torch.empty(0))
            is_matrix = like.dtype == torch.float32 and like.dim() == 2
            if not (is_matrix and fits(found, {mean: like, var: like}) and (found[var] >= 0).all()):
                raise ValueError(
                    f"mean and variance of layer {layer!r} are missing, not finite, or not of one shape"
                )
        columns = (found[name].to(device) for pair in pairs for name in pair)
        for row, figures_of_row in zip(rows, zip(*columns, strict=True), strict=True):
            row[layer] = LayerReference(*figures_of_row)
    return rows
