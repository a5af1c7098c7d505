"""Crops with their resizes, flips and rolls as pairs of small matrices: x' = A_h x A_w^T.

Bilinear resizing is linear and separable, so a crop, its resize, a flip and a roll are one matrix for the
rows and one for the columns. Matrix products have deterministic gradients on every device; the gradients of
interpolation kernels may not be deterministic. The matrices are built on the device from parameters that
were drawn beforehand, so nothing waits for the host.
"""

import torch
from torch import Tensor


def crop_matrix(start: Tensor, length: Tensor, size_in: int, size_out: int) -> Tensor:
    """Return (B, size_out, size_in): matrices that crop start..start+length and resize it to `size_out`.

    `start` and `length` are (B,), in pixels. Bilinear with antialiasing, like torchvision's resized_crop with
    antialias=True: triangle weights around the centre of each output pixel. Their width is an input pixel, or
    an output pixel when shrinking; they are cut off at the border of the crop and normalised.
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
    source = torch.arange(size, device=matrix.device)[None, :] - shift[:, None]  # B, out
    return matrix.gather(1, (source % size)[:, :, None].expand_as(matrix))


def apply_matrices(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return A_h x A_w^T for x (B, C, H, W), rows (B or 1, H', H) and columns (B or 1, W', W)."""
    return rows[:, None] @ x @ columns[:, None].transpose(2, 3)


def resize(x: Tensor, size: int) -> Tensor:
    """Return x (B, C, H, W) resized to (B, C, size, size), bilinear with antialiasing."""
    height, width = x.shape[2:]
    if (height, width) == (size, size):
        return x
    zero = torch.zeros(1, device=x.device)
    rows, columns = (crop_matrix(zero, zero + length, length, size) for length in (height, width))
    return apply_matrices(x, rows, columns)


def pool(x: Tensor, size: int) -> Tensor:
    """Return x (B, C, H, W) averaged to at most `size` x `size`, in the cells of adaptive average pooling."""
    rows, columns = (pool_matrix(length, min(length, size), x) for length in x.shape[2:])
    return apply_matrices(x, rows, columns)


def pool_matrix(size_in: int, size_out: int, like: Tensor) -> Tensor:
    """Return (1, size_out, size_in): cell i averages pixels floor(i in/out) up to ceil((i + 1) in/out).

    These are the cells of adaptive average pooling; they overlap if `size_out` is the larger. The matrix has
    the dtype and device of `like`.
    """
    cell = torch.arange(size_out, device=like.device)[:, None]
    pixel = torch.arange(size_in, device=like.device)[None, :]
    first, last = cell * size_in // size_out, -(-(cell + 1) * size_in // size_out)
    inside = ((pixel >= first) & (pixel < last)).to(like.dtype)
    return (inside / inside.sum(dim=1, keepdim=True))[None]
