"""What training any network takes, teacher or student: cutting images into batches, measuring accuracy."""

from itertools import pairwise

import numpy as np
import torch
from torch import nn

from prism_ray.data import RealImages
from prism_ray.teachers.teacher import Preprocessing, to_pixels

_BATCH = 256


def split_evenly(count: int, batch_size: int) -> list[slice]:
    """Cut `count` items into as few batches of at most `batch_size` as it takes, of nearly equal sizes.

    Nothing is dropped, and from a batch size of 3 on no batch of a single image upsets a BatchNorm layer.
    """
    num_batches = max(1, -(-count // batch_size))
    bounds = [count * number // num_batches for number in range(num_batches + 1)]
    return [slice(first, last) for first, last in pairwise(bounds)]


@torch.no_grad()
def measure_accuracy(
    network: nn.Module, data: RealImages, preprocessing: Preprocessing, device: torch.device
) -> float:
    """Return the share of real test images that the network classifies right (evaluation mode)."""
    network.eval()
    labels = torch.from_numpy(data.labels["test"]).to(device)
    num_right = torch.zeros((), dtype=torch.int64, device=device)
    for batch in split_evenly(len(labels), _BATCH):
        images = torch.from_numpy(data.read("test", np.arange(batch.start, batch.stop))).to(device)
        logits = network(preprocessing.apply(to_pixels(images)))
        num_right += (logits.argmax(dim=1) == labels[batch]).sum()
    return int(num_right) / len(labels)
