"""Images composed of the patches of their class with the best scores, as in RDED (arXiv 2312.03526)."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from prism_ray.collect.scores import ClassScores
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
) -> npt.NDArray[np.uint8]:
    """Return the images of some IPC indices of a class, (len(ipc_indices), channels, size, size).

    `patches` are scores of kind rded, the best first. Cell q (row by row) of image i is the patch of rank
    q * ipc + i, so that each image has both good and less good patches. If `image_size` is not a multiple of
    `patches_per_side`, cells differ by a pixel. Raises DataError if there are too few patches.
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
        images = data.read("train", indices[patches["place"][ranks]])
        for cell, (rank, image) in enumerate(zip(ranks, images, strict=True)):
            row, column = divmod(cell, patches_per_side)
            rows, columns = slice(*bounds[row : row + 2]), slice(*bounds[column : column + 2])
            top, left, side = (torch.tensor([patches[name][rank]]) for name in ("top", "left", "side"))
            down = crop_matrix(top, side, image.shape[-1], rows.stop - rows.start)
            across = crop_matrix(left, side, image.shape[-1], columns.stop - columns.start)
            patch = apply_matrices(to_pixels(torch.from_numpy(image))[None], down, across)[0]
            image_out[:, rows, columns] = (patch * 255.0).round_().clamp_(0.0, 255.0).to(torch.uint8).numpy()
    return out
