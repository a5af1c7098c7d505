"""Data densification (G-VBSM): a loss term against images of a class that become alike."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from prism_ray.geometry import pool

_SIZE = 32  # pixels to which images are pooled
_TAU = 4.0


def densification(x: Tensor, classes: Sequence[Tensor]) -> Tensor:
    """Return the sum over classes of KL(softmax(l / 4) || softmax(l)), the first one held constant.

    l are the eigenvalues of the Gram matrix X X^T of a class's images in x (B, channels, H, W), each pooled
    to 32 x 32 pixels if it is larger, and flattened. `classes` has the indices of each class's images. A
    class of one image adds 0. Source: G-VBSM, arXiv 2311.17950.
    """
    pooled = pool(x, _SIZE).flatten(1)  # B, D
    total = x.new_zeros(())
    for count in sorted({len(indices) for indices in classes} - {1}):  # together: each call waits for a GPU
        rows = pooled[torch.stack([indices for indices in classes if len(indices) == count])]  # K, n, D
        eigenvalues = torch.linalg.eigvalsh(rows @ rows.transpose(1, 2))  # K, n
        tempered = F.softmax(eigenvalues / _TAU, dim=1).detach()
        total = total + F.kl_div(F.log_softmax(eigenvalues, dim=1), tempered, reduction="sum")
    return total
