"""Random resized crops, flips and rolls as pairs of small matrices: x' = A_h x A_w^T.

Bilinear resizing is linear and separable, so a crop, its resize, a flip and a roll are one matrix for the
rows and one for the columns. Matrix products have deterministic gradients on every device, where the
backward pass of an interpolation kernel may not, and the matrices are built on the device from parameters
that were drawn beforehand, so that nothing waits for the host.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_NUM_TRIES = 10
_LOG_RATIO = float(np.log(4.0 / 3.0))  # aspect ratios between 3/4 and 4/3


@dataclass(frozen=True)
class Crops:
    """Boxes in pixels of a square image, each field an array of B."""

    top: npt.NDArray[np.int64]
    left: npt.NDArray[np.int64]
    height: npt.NDArray[np.int64]
    width: npt.NDArray[np.int64]


def draw_crops(
    rng: np.random.Generator,
    count: int,
    size: int,
    scale: tuple[float | npt.NDArray[np.float64], float],
) -> Crops:
    """Draw `count` random resized crops of a `size` x `size` image.

    The law is that of torchvision's RandomResizedCrop: share of the area uniform in `scale`, logarithm of
    the aspect ratio uniform between those of 3/4 and 4/3, ten tries to fit, else the whole image. The lower
    end of `scale` may differ from crop to crop.
    """
    lowest = np.broadcast_to(scale[0], count)[:, None]
    area = size * size * (lowest + (scale[1] - lowest) * rng.random((count, _NUM_TRIES)))
    ratio = np.exp(_LOG_RATIO * (2.0 * rng.random((count, _NUM_TRIES)) - 1.0))
    widths = np.rint(np.sqrt(area * ratio)).astype(np.int64)
    heights = np.rint(np.sqrt(area / ratio)).astype(np.int64)
    fits = (widths > 0) & (widths <= size) & (heights > 0) & (heights <= size)
    first = fits.argmax(axis=1)
    row = np.arange(count)
    found = fits[row, first]
    width = np.where(found, widths[row, first], size)
    height = np.where(found, heights[row, first], size)
    top = (rng.random(count) * (size - height + 1)).astype(np.int64)
    left = (rng.random(count) * (size - width + 1)).astype(np.int64)
    return Crops(top=top, left=left, height=height, width=width)


def crop_matrix(start: Tensor, length: Tensor, size_in: int, size_out: int) -> Tensor:
    """Return (B, size_out, size_in): rows that pick start..start+length and resize it to `size_out`.

    `start` and `length` are (B,), in pixels. Bilinear with antialiasing, as torchvision's resized_crop with
    antialias=True: triangle weights around each output pixel's centre, of the width of an input pixel, or of
    an output pixel when shrinking, cut off at the crop's border and normalised.
    """
    dtype = torch.get_default_dtype()
    start, length = start.to(dtype)[:, None, None], length.to(dtype)[:, None, None]
    step = length / size_out  # B, 1, 1: input pixels per output pixel
    out = torch.arange(size_out, dtype=dtype, device=start.device)[None, :, None] + 0.5
    pixel = torch.arange(size_in, dtype=dtype, device=start.device)[None, None, :] + 0.5
    distance = (pixel - start - out * step).abs() / step.clamp(min=1.0)
    inside = (pixel > start) & (pixel < start + length)
    weights = (1.0 - distance).clamp(min=0.0) * inside
    return weights / weights.sum(dim=2, keepdim=True)


def flip_rows(matrix: Tensor, flip: Tensor) -> Tensor:
    """Return (B, out, in) with the output reversed where `flip` (B,) is true."""
    return torch.where(flip[:, None, None], matrix.flip(1), matrix)


def roll_rows(matrix: Tensor, shift: Tensor) -> Tensor:
    """Return (B, out, in) with the output rolled forward by `shift` (B,) pixels."""
    size = matrix.shape[1]
    place = torch.arange(size, device=matrix.device)[None, :] - shift[:, None]  # B, out
    index = (place % size)[:, :, None].expand_as(matrix)
    return matrix.gather(1, index)


def apply_matrices(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return A_h x A_w^T for x (B, C, H, W), rows (B or 1, H', H) and columns (B or 1, W', W)."""
    return rows[:, None] @ x @ columns[:, None].transpose(2, 3)


def resize(x: Tensor, size: int) -> Tensor:
    """Return x (B, C, H, W) resized to (B, C, size, size), bilinear with antialiasing."""
    height, width = x.shape[2:]
    if (height, width) == (size, size):
        return x
    zero = torch.zeros(1, device=x.device)
    rows = crop_matrix(zero, zero + height, height, size)
    columns = crop_matrix(zero, zero + width, width, size)
    return apply_matrices(x, rows, columns)


def pool(x: Tensor, size: int) -> Tensor:
    """Return x (B, C, H, W) averaged to at most `size` x `size`, in the cells of adaptive average pooling."""
    height, width = x.shape[2:]
    rows = pool_matrix(height, min(height, size), x)
    columns = pool_matrix(width, min(width, size), x)
    return apply_matrices(x, rows, columns)


def pool_matrix(size_in: int, size_out: int, like: Tensor) -> Tensor:
    """Return (1, size_out, size_in): cell i averages pixels floor(i in/out) up to ceil((i + 1) in/out).

    The cells are those of adaptive average pooling; where `size_out` is the larger, they overlap. Dtype and
    device are those of `like`.
    """
    cell = torch.arange(size_out, device=like.device)[:, None]
    pixel = torch.arange(size_in, device=like.device)[None, :]
    first, last = cell * size_in // size_out, -(-(cell + 1) * size_in // size_out)
    inside = ((pixel >= first) & (pixel < last)).to(like.dtype)
    return (inside / inside.sum(dim=1, keepdim=True))[None]
