"""Scores that a teacher gives the real training images: of whole images (DELT), of patches (RDED).

Both are safetensors whose keys begin with a class, `00012/loss`:

    median   `<label>/probability` (float32, N): of the true class, in the order of the class's images
    rded     `<label>/place`, `/top`, `/left`, `/side` (int64, N), `/loss` (float32, N): the best patch of
             each image, best first; `place` is the image's place in its class, the rest pixels of it
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from prism_ray.collect.files import class_key, decode, encode
from prism_ray.collect.reading import Indices, read_pixels, side_of, training_indices
from prism_ray.config import CollectConfig
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

Ints = npt.NDArray[np.int64]

_NUMBERS = ("place", "top", "left", "side")


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
            indices = training_indices(data, label, config.images_per_class)
            scores = {"probability": _probabilities(teacher, label, data, indices, config, device)}
        else:
            rng = np.random.default_rng(derive_seed(unit.seed, "patches", label))
            scores = _best_patches(rng, teacher, label, data, config, side, device)
        for name, values in scores.items():
            if not np.isfinite(values).all():
                raise EngineError(
                    f"{unit.id}: teacher {teacher.name} gives images of class {data.class_names[label]!r} a "
                    f"{name} that is not finite; look at its weights"
                )
            tensors[class_key(label, name)] = torch.from_numpy(values)
    return encode(tensors)


def read_scores(data: bytes, label: int, num_images: int, size: int) -> ClassScores:
    """Return the scores of a class out of a unit's file.

    Raises ValueError if it is damaged, does not hold the class, or scores of other than `num_images` images
    of `size` pixels a side.
    """
    scores = under(decode(data), class_key(label, ""))
    if not scores:
        raise ValueError(f"no collected scores of class {label}")
    if scores.keys() == {"probability"}:
        is_sound = fits(scores, {"probability": torch.empty(num_images, dtype=torch.float32)})
    else:
        num_scored = scores["loss"].numel() if "loss" in scores else 0
        numbers = dict.fromkeys(_NUMBERS, torch.empty(num_scored, dtype=torch.int64))
        loss = torch.empty(num_scored, dtype=torch.float32)
        is_sound = len(scores) == 5 and fits(scores, {**numbers, "loss": loss})
        if is_sound:
            place, top, left, side = (scores[name] for name in _NUMBERS)
            inside = (top >= 0) & (left >= 0) & (side > 0) & (top + side <= size) & (left + side <= size)
            is_sound = bool((inside & (place >= 0) & (place < num_images)).all())
    if not is_sound:
        raise ValueError(f"the scores of class {label} are not finite, or not of its {num_images} images")
    return {name: values.numpy() for name, values in scores.items()}


def median_order(probabilities: npt.NDArray[np.float32]) -> Ints:
    """Return the places of a class's images, those of median probability first.

    Sorted ascending, the middle one m = ceil(N / 2) (counted from 0), then m + 1, m - 1, m + 2, m - 2, ...
    and what is left of the longer side. Source: DELT, arXiv 2411.19946, and its public code.
    """
    ranked = np.argsort(probabilities, kind="stable")
    count = len(ranked)
    middle = min(-(-count // 2), count - 1)
    rank = np.arange(count)
    # The distance decides, and of two at the same distance the upper comes first.
    return ranked[np.lexsort((rank < middle, np.abs(rank - middle)))]


def _probabilities(
    teacher: Teacher,
    label: int,
    data: RealImages,
    indices: Indices,
    config: CollectConfig,
    device: torch.device,
) -> npt.NDArray[np.float32]:
    """Return the softmax probability of `label` for each of the images."""
    found = []
    for batch in split_evenly(len(indices), config.batch_size):
        pixels = read_pixels(data, indices[batch], device)
        logits = teacher_logits(teacher, pixels)
        found.append(logits.softmax(dim=1)[:, label])
    return torch.cat(found).float().cpu().numpy()


def draw_squares(
    rng: np.random.Generator, shape: tuple[int, int], size: int, scale: tuple[float, float]
) -> tuple[Ints, Ints, Ints]:
    """Return top, left and side of square crops of `size` x `size` images, in pixels.

    Share of the area uniform in `scale`, place uniform; as torchvision's RandomResizedCrop of ratio 1.
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
    """Return the best of some random crops of some random images of a class, the best first.

    The best has the least cross-entropy. A crop is judged at the size of a patch, alone in the middle of the
    teacher's mean colour. Source: RDED, arXiv 2312.03526, and its public code.
    """
    indices = training_indices(data, label, None)
    places = np.sort(rng.permutation(len(indices))[: config.rded_images_per_class])
    crops_per_image = config.rded_crops_per_image
    boxes = draw_squares(rng, (len(places), crops_per_image), size, config.rded_crop_scale)  # N, crops
    top, left, side = (torch.from_numpy(values).to(device) for values in boxes)
    patch_size = size // config.rded_patches_per_side
    found = []
    for batch in split_evenly(len(places), max(1, config.batch_size // crops_per_image)):
        pixels = read_pixels(data, indices[places[batch]], device).repeat_interleave(crops_per_image, dim=0)
        rows = crop_matrix(top[batch].flatten(), side[batch].flatten(), size, patch_size)
        columns = crop_matrix(left[batch].flatten(), side[batch].flatten(), size, patch_size)
        patches = _on_mean_colour(apply_matrices(pixels, rows, columns), size, teacher)
        logits = teacher_logits(teacher, patches)
        labels = torch.full((len(logits),), label, device=device)
        found.append(F.cross_entropy(logits, labels, reduction="none"))
    losses = torch.cat(found).float().reshape(-1, crops_per_image).cpu().numpy()  # N, crops
    row, best = np.arange(len(places)), losses.argmin(axis=1)
    order = np.argsort(losses[row, best], kind="stable")
    row, best = row[order], best[order]
    corners = {name: values[row, best] for name, values in zip(("top", "left", "side"), boxes, strict=True)}
    return {"place": places[row], **corners, "loss": losses[row, best]}


def _on_mean_colour(patches: Tensor, size: int, teacher: Teacher) -> Tensor:
    """Return patches (B, 1 or 3, p, p) in the middle of (B, 3, size, size) of the teacher's mean colour.

    Normalised, that is a margin of zeros.
    """
    mean, _ = teacher.preprocessing.mean_std(patches)
    canvas = mean.expand(len(patches), 3, size, size).clone()
    first = (size - patches.shape[-1]) // 2
    last = first + patches.shape[-1]
    canvas[:, :, first:last, first:last] = patches
    return canvas
