"""Scores of the real training images by a teacher: of whole images (DELT), of patches (RDED).

Both are safetensors whose keys begin with a class, for example `00012/loss`:

    median   `<label>/probability` (float32, N): of the true class, in the order of the class's images
    rded     `<label>/place`, `/top`, `/left`, `/side` (int64, N), `/loss` (float32, N): the best patch of
             each image, best first; `place` is the image's index in its class, the box is in pixels
             of the square image, or of the original picture with `collect.crop_from: original`
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from prism_ray.collect.real_images import Indices, read_crops, read_pixels, side_of, training_indices
from prism_ray.collect.tensors import class_key, decode, encode
from prism_ray.config import CollectConfig
from prism_ray.crops import CropNumbers, Crops
from prism_ray.data import RealImages
from prism_ray.errors import EngineError
from prism_ray.geometry import apply_matrices, crop_matrix
from prism_ray.sealed import fits, under
from prism_ray.seeds import derive_seed
from prism_ray.stages.collect import CollectUnit
from prism_ray.teachers.teacher import Teacher, teacher_logits
from prism_ray.teachers.training import split_evenly

# The arrays of one class by name, as above.
ClassScores = Mapping[str, npt.NDArray[Any]]

_NUMBERS = ("place", "top", "left", "side")

# Images of a batch -> their patches (B * crops, channels, p, p); top, left and side of each, (B * crops,).
PatchesOf = Callable[[slice], tuple[Tensor, Indices, Indices, Indices]]


@torch.no_grad()
def collect_scores(
    unit: CollectUnit, teacher: Teacher, data: RealImages, config: CollectConfig, device: torch.device
) -> bytes:
    """Score the training images of the unit's classes; return the file of its kind (median or rded).

    Raises DataError if a class has no image, EngineError if a score is not finite.
    """
    side = side_of(data)
    tensors: dict[str, Tensor] = {}
    for label in range(unit.first_class, unit.first_class + unit.num_classes):
        if unit.kind == "median":
            indices, found = training_indices(data, label, config.images_per_class), []
            for batch in split_evenly(len(indices), config.batch_size):
                logits = teacher_logits(teacher, read_pixels(data, indices[batch], device))
                found.append(logits.softmax(dim=1)[:, label])
            scores = {"probability": torch.cat(found).float().cpu().numpy()}
        else:
            rng = np.random.default_rng(derive_seed(unit.seed, "patches", label))
            scores = _best_patches(rng, teacher, label, data, config, side, device)
        for name, values in scores.items():
            if not np.isfinite(values).all():
                raise EngineError(
                    f"{unit.id}: teacher {teacher.name} gives images of class {data.class_names[label]!r} a "
                    f"{name} that is not finite; check its weights"
                )
            tensors[class_key(label, name)] = torch.from_numpy(values)
    return encode(tensors)


def read_scores(data: bytes, label: int, num_images: int, size: int | None) -> ClassScores:
    """Return the scores of a class from a unit's file.

    Raises ValueError if the file is damaged or does not contain the class, or if the scores are not of
    `num_images` images of `size` x `size` pixels. With `size` None the boxes are of original pictures, whose
    sizes are known when they are read: `RealImages.read_crops` checks them.
    """
    scores = under(decode(data), class_key(label, ""))
    if not scores:
        raise ValueError(f"no collected scores of class {label}")
    if scores.keys() == {"probability"}:
        is_sound = fits(scores, {"probability": torch.empty(num_images, dtype=torch.float32)})
    else:
        loss = torch.empty(scores["loss"].numel() if "loss" in scores else 0, dtype=torch.float32)
        numbers = dict.fromkeys(_NUMBERS, torch.empty(len(loss), dtype=torch.int64))
        is_sound = len(scores) == 5 and fits(scores, {**numbers, "loss": loss})
        if is_sound:
            place, top, left, side = (scores[name] for name in _NUMBERS)
            inside = (top >= 0) & (left >= 0) & (side > 0)
            if size is not None:
                inside &= (top + side <= size) & (left + side <= size)
            is_sound = bool((inside & (place >= 0) & (place < num_images)).all())
    if not is_sound:
        raise ValueError(f"the scores of class {label} are not finite, or not of its {num_images} images")
    return {name: values.numpy() for name, values in scores.items()}


def median_order(probabilities: npt.NDArray[np.float32]) -> Indices:
    """Return the indices of a class's images in their class, those of median probability first.

    Sorted ascending, the middle one m = ceil(N / 2) (counted from 0), then m + 1, m - 1, m + 2, m - 2, ...
    and the rest of the longer side. Source: DELT, arXiv 2411.19946, and its public code.
    """
    ranked = np.argsort(probabilities, kind="stable")
    rank, middle = np.arange(len(ranked)), min(-(-len(ranked) // 2), len(ranked) - 1)
    # Sorted by distance; of two at the same distance, the upper one comes first.
    return ranked[np.lexsort((rank < middle, np.abs(rank - middle)))]


def draw_squares(
    rng: np.random.Generator, shape: tuple[int, int], size: int, scale: tuple[float, float]
) -> tuple[Indices, Indices, Indices]:
    """Return top, left and side of square crops of `size` x `size` images, in pixels.

    The share of the area is uniform in `scale`, the position uniform: torchvision's RandomResizedCrop with
    ratio 1.
    """
    share = scale[0] + (scale[1] - scale[0]) * rng.random(shape)
    side = np.rint(size * np.sqrt(share)).astype(np.int64).clip(1, size)
    top = (rng.random(shape) * (size - side + 1)).astype(np.int64)
    left = (rng.random(shape) * (size - side + 1)).astype(np.int64)
    return top, left, side


def _best_patches(
    rng: np.random.Generator,
    teacher: Teacher,
    label: int,
    data: RealImages,
    config: CollectConfig,
    size: int,
    device: torch.device,
) -> dict[str, npt.NDArray[Any]]:
    """Return the best random crop of each of some random images of a class, sorted, the best first.

    The best crop has the lowest cross-entropy. A crop is scored at the size of a patch, alone in the middle
    of the teacher's mean colour. Source: RDED, arXiv 2312.03526, and its public code.
    """
    indices = training_indices(data, label, None)
    chosen = np.sort(rng.permutation(len(indices))[: config.rded_images_per_class])
    crops_per_image = config.rded_crops_per_image
    make = _squares_of_originals if config.crop_from == "original" else _squares
    patches_of = make(rng, data, indices[chosen], config, size, device)
    found, drawn = [], []
    for batch in split_evenly(len(chosen), max(1, config.batch_size // crops_per_image)):
        patches, *corners = patches_of(batch)
        logits = teacher_logits(teacher, _on_mean_colour(patches, size, teacher))
        labels = torch.full((len(logits),), label, device=device)
        found.append(F.cross_entropy(logits, labels, reduction="none"))
        drawn.append([values.reshape(-1, crops_per_image) for values in corners])
    boxes = [np.concatenate(values) for values in zip(*drawn, strict=True)]  # top, left, side: N, crops
    losses = torch.cat(found).float().reshape(-1, crops_per_image).cpu().numpy()  # N, crops
    row, best = np.arange(len(chosen)), losses.argmin(axis=1)
    order = np.argsort(losses[row, best], kind="stable")
    row, best = row[order], best[order]
    best_boxes = {name: values[row, best] for name, values in zip(_NUMBERS[1:], boxes, strict=True)}
    return {"place": chosen[row], **best_boxes, "loss": losses[row, best]}


def _squares(
    rng: np.random.Generator,
    data: RealImages,
    indices: Indices,
    config: CollectConfig,
    size: int,
    device: torch.device,
) -> PatchesOf:
    """Draw the crops of the square images at `indices`."""
    crops_per_image = config.rded_crops_per_image
    boxes = draw_squares(rng, (len(indices), crops_per_image), size, config.rded_crop_scale)  # N, crops
    patch_size = size // config.rded_patches_per_side

    def patches_of(batch: slice) -> tuple[Tensor, Indices, Indices, Indices]:
        corners = [values[batch].flatten() for values in boxes]
        top, left, side = (torch.from_numpy(values).to(device) for values in corners)
        pixels = read_pixels(data, indices[batch], device).repeat_interleave(crops_per_image, dim=0)
        rows = crop_matrix(top, side, size, patch_size)
        columns = crop_matrix(left, side, size, patch_size)
        return apply_matrices(pixels, rows, columns), corners[0], corners[1], corners[2]

    return patches_of


def _squares_of_originals(
    rng: np.random.Generator,
    data: RealImages,
    indices: Indices,
    config: CollectConfig,
    size: int,
    device: torch.device,
) -> PatchesOf:
    """Draw the crops of the original pictures at `indices`, each of which is decoded once.

    torchvision's RandomResizedCrop with ratio 1: of a picture of which no square has the area drawn, the
    largest square in the middle.
    """
    crops_per_image = config.rded_crops_per_image
    numbers = CropNumbers.draw(rng, len(indices) * crops_per_image)
    patch_size = size // config.rded_patches_per_side

    def boxes_of(first: int, row: int, height: int, width: int) -> Crops:
        start = (first + row) * crops_per_image
        own = numbers[start : start + crops_per_image]
        return own.boxes(height, width, config.rded_crop_scale, max_ratio=1.0)

    def patches_of(batch: slice) -> tuple[Tensor, Indices, Indices, Indices]:
        chosen = partial(boxes_of, batch.start)
        patches, boxes = read_crops(data, indices[batch], chosen, patch_size, device)
        return patches, boxes.top, boxes.left, boxes.height

    return patches_of


def _on_mean_colour(patches: Tensor, size: int, teacher: Teacher) -> Tensor:
    """Return patches (B, 1 or 3, p, p) in the middle of (B, 3, size, size) of the teacher's mean colour.

    After normalisation, the margin is zero.
    """
    mean, _ = teacher.preprocessing.mean_std(patches)
    canvas = mean.expand(len(patches), 3, size, size).clone()
    first = (size - patches.shape[-1]) // 2
    last = first + patches.shape[-1]
    canvas[:, :, first:last, first:last] = patches
    return canvas
