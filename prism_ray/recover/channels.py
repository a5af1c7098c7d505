"""Mean and variance of channels without a gradient, as fast as memory on the CPU.

torch.var_mean takes 60 ms for activations that BatchNorm's own kernel measures in 2.
"""

import torch
from torch import Tensor

from prism_ray.teachers.layers import measure_channels

_ROWS_PER_BLOCK = 16384  # fewer would be more calls; more would lose a digit


def measure_values(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of each channel of (N, F, ...), both (F,) and at least float32.

    They have no gradient. Where the mean is 1,000 times the deviation, the variance is exact to 1e-5.
    """
    features = features.detach()
    rows = _as_rows(features) if features.device.type == "cpu" else None
    return measure_channels(features) if rows is None else _measure_rows(rows)


def _as_rows(features: Tensor) -> Tensor | None:
    """Return (N, F, ...) as (M, F) without a copy, None where channels are not next to each other."""
    last = features.movedim(1, -1)
    return last.reshape(-1, features.shape[1]) if last.is_contiguous() and features.numel() else None


def _measure_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance of the columns of (M, F), many times as fast as torch.var_mean.

    The kernel adds up one value after the other. Blocks of rows, put together as those of parallel processes
    are, keep its rounding at that of float32.
    """
    wide = torch.float64 if rows.dtype == torch.float64 else torch.float32
    unused = rows.new_zeros(2, rows.shape[1], dtype=wide)  # their type is that of the results
    if len(rows) <= _ROWS_PER_BLOCK:
        mean, var = torch.batch_norm_update_stats(rows, unused[0], unused[1], 0.0)
        return mean, var
    blocks = torch.split(rows, _ROWS_PER_BLOCK)
    measured = [torch.batch_norm_update_stats(block, unused[0], unused[1], 0.0) for block in blocks]
    means, variances = (torch.stack(values) for values in zip(*measured, strict=True))
    shares = rows.new_full((len(blocks), 1), _ROWS_PER_BLOCK / len(rows), dtype=wide)
    shares[-1] = len(blocks[-1]) / len(rows)
    mean = (shares * means).sum(0)
    return mean, (shares * (variances + (means - mean).square())).sum(0)
