"""Images composed of the patches of their class with the best scores, as in RDED (arXiv 2312.03526)."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from prism_ray.collect.scores import ClassScores
from prism_ray.config import CropFrom
from prism_ray.crops import Crops
from prism_ray.data import RealImages
from prism_ray.errors import DataError
from prism_ray.geometry import apply_matrices, crop_matrix
from prism_ray.teachers.teacher import to_pixels


def collage(
    patches: ClassScores,
    ipc_indices: Sequence[int],
    ipc: int,
    patches_per_side: int,
    label: int,
    data: RealImages,
    image_size: int,
    crop_from: CropFrom = "square",
) -> npt.NDArray[np.uint8]:
    """Return the images of some IPC indices of a class, (len(ipc_indices), channels, size, size).

    `patches` are scores of kind rded, the best first, with boxes in the images that `crop_from` names
    (`collect.crop_from`). Cell q (row by row) of image i is the patch of rank q * ipc + i, so that each image
    has both good and less good patches. If `image_size` is not a multiple of
    `patches_per_side`, cells differ by a pixel. Raises DataError if there are too few patches, or if a patch
    is not inside its original picture.
    """
    num_cells = patches_per_side**2
    have, need = len(patches["place"]), num_cells * ipc
    if have < need:
        raise DataError(
            f"class {data.class_names[label]!r} has {have} scored patches, one per training image, but {ipc} "
            f"images of {num_cells} patches need {need}; raise collect.rded_images_per_class if the class "
            "has more training images, or lower ipc or collect.rded_patches_per_side"
        )
    bounds = [cell * image_size // patches_per_side for cell in range(patches_per_side + 1)]
    out = np.empty((len(ipc_indices), data.channels, image_size, image_size), np.uint8)
    indices = data.train_indices(label)
    for image_out, index in zip(out, ipc_indices, strict=True):
        ranks = np.arange(num_cells) * ipc + index
        for cell, rank in enumerate(ranks):
            row, column = divmod(cell, patches_per_side)
            rows, columns = slice(*bounds[row : row + 2]), slice(*bounds[column : column + 2])
            picked = indices[patches["place"][[rank]]]
            side = patches["side"][[rank]]
            box = Crops(patches["top"][[rank]], patches["left"][[rank]], height=side, width=side)
            height, width = rows.stop - rows.start, columns.stop - columns.start
            if crop_from == "original":
                crops, _ = data.read_crops("train", picked, partial(_same, box), height, width)
                image_out[:, rows, columns] = crops[0]
            else:
                image_out[:, rows, columns] = _patch(data, picked, box, height, width)
    return out


def _same(box: Crops, row: int, height: int, width: int) -> Crops:
    return box


def _patch(
    data: RealImages, picked: npt.NDArray[np.int64], box: Crops, height: int, width: int
) -> npt.NDArray[np.uint8]:
    """Return a box of the square image `picked` (1,), resized to (channels, height, width)."""
    image = data.read("train", picked)
    top, left, tall, wide = (torch.from_numpy(v) for v in (box.top, box.left, box.height, box.width))
    down = crop_matrix(top, tall, image.shape[-1], height)
    across = crop_matrix(left, wide, image.shape[-1], width)
    patch = apply_matrices(to_pixels(torch.from_numpy(image)), down, across)[0]
    pixels: npt.NDArray[np.uint8] = (patch * 255.0).round_().clamp_(0.0, 255.0).to(torch.uint8).numpy()
    return pixels
