"""The augmentation of recover: one crop, flip and roll for the whole batch per iteration."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from prism_ray.config import RecoverConfig
from prism_ray.crops import draw_crops
from prism_ray.geometry import apply_matrices, crop_matrix, flip_rows, roll_rows


def smallest_crops(config: RecoverConfig, num_iterations: int) -> npt.NDArray[np.float64]:
    """Return the smallest share of the area that a crop may have, for each iteration.

    With the cosine curriculum it falls from the largest share to the smallest. Source: DELT,
    arXiv 2411.19946, after CDA, arXiv 2311.18838.
    """
    low, high = config.crop_scale
    if config.crop_curriculum == "none":
        return np.full(num_iterations, low)
    progress = np.arange(num_iterations) / num_iterations
    return low + (high - low) * 0.5 * (1.0 + np.cos(np.pi * progress))


class Augmentation:
    """x' = roll(flip(random_resized_crop(x))), with the parameters of all iterations drawn beforehand.

    The parameters are on the device, so that a step needs nothing from the host. Iteration i is the same
    whether or not the iterations before it ran in this process.
    """

    def __init__(
        self, config: RecoverConfig, num_iterations: int, size: int, seed: int, device: torch.device
    ) -> None:
        rng = np.random.default_rng(seed)
        scale = (smallest_crops(config, num_iterations), config.crop_scale[1])
        crops = draw_crops(rng, num_iterations, size, scale)
        flips = (rng.random(num_iterations) < 0.5) & config.flip
        shifts = (rng.random((2, num_iterations)) * (config.jitter + 1)).astype(np.int64)
        rows, columns = (crops.top, crops.height, shifts[0]), (crops.left, crops.width, shifts[1])
        self._size = size
        self._rows = torch.from_numpy(np.stack(rows)).to(device)  # start, length, shift by iteration
        self._columns = torch.from_numpy(np.stack(columns)).to(device)
        self._flips = torch.from_numpy(flips).to(device)

    def __call__(self, x: Tensor, iteration: int) -> Tensor:
        """Return x (B, channels, H, W) as augmented in an iteration."""
        now = slice(iteration, iteration + 1)
        start, length, shift = self._rows[:, now]
        rows = roll_rows(crop_matrix(start, length, self._size, self._size), shift)
        start, length, shift = self._columns[:, now]
        columns = flip_rows(crop_matrix(start, length, self._size, self._size), self._flips[now])
        return apply_matrices(x, rows, roll_rows(columns, shift))
