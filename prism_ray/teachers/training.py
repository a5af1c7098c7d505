"""Parts of the training of teachers and students: batches of nearly equal size, and accuracy."""

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from prism_ray.data import RealImages, Split
from prism_ray.teachers.teacher import Preprocessing, to_pixels

_BATCH = 256


def split_evenly(count: int, batch_size: int) -> list[slice]:
    """Cut `count` items into the fewest batches of at most `batch_size`, of nearly equal sizes.

    No item is dropped, and from a batch size of 3 on no batch has a single image, which BatchNorm cannot use.
    """
    num_batches = max(1, -(-count // batch_size))
    bounds = [count * number // num_batches for number in range(num_batches + 1)]
    return [slice(first, last) for first, last in pairwise(bounds)]


@torch.no_grad()
def measure_accuracy(
    network: nn.Module,
    data: RealImages,
    preprocessing: Preprocessing,
    device: torch.device,
    split: Split = "test",
    class_indices: Tensor | None = None,
) -> float:
    """Return the share of a split's real images that the network classifies correctly (evaluation mode).

    `class_indices` (C,) are its outputs for the data's classes, if its classes differ: only these are
    compared. The split must have images.
    """
    network.eval()
    labels = torch.from_numpy(data.labels[split]).to(device)
    num_right = torch.zeros((), dtype=torch.int64, device=device)
    for batch in split_evenly(len(labels), _BATCH):
        images = torch.from_numpy(data.read(split, np.arange(batch.start, batch.stop))).to(device)
        logits = network(preprocessing.apply(to_pixels(images)))
        if class_indices is not None:
            logits = logits[:, class_indices]
        num_right += (logits.argmax(dim=1) == labels[batch]).sum()
    return int(num_right) / len(labels)
