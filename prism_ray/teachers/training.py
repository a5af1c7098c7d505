"""Parts of the training of teachers and students: batches of nearly equal size, and accuracy."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from prism_ray.config.base import Precision
from prism_ray.data import RealImages, Split
from prism_ray.teachers.precision import logits_of
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
def logits_by_batch(
    network: nn.Module,
    data: RealImages,
    preprocessing: Preprocessing,
    device: torch.device,
    split: Split,
    indices: npt.NDArray[np.int64],
    precision: Precision = "fp32",
) -> Iterator[tuple[slice, Tensor]]:
    """Yield slices of `indices` (N,), and the network's logits (b, C) on these images of a split.

    The network is set to evaluation mode.
    """
    network.eval()
    for batch in split_evenly(len(indices), _BATCH):
        images = torch.from_numpy(data.read(split, indices[batch])).to(device)
        yield batch, logits_of(network, preprocessing.apply(to_pixels(images)), precision)


def classify(
    network: nn.Module,
    data: RealImages,
    preprocessing: Preprocessing,
    device: torch.device,
    split: Split,
    indices: npt.NDArray[np.int64],
    class_indices: Tensor | None = None,
) -> Tensor:
    """Return the class (N,) that the network takes each of a split's images `indices` (N,) for.

    The network is set to evaluation mode. `class_indices` (C,) are its outputs for the data's classes, if its
    classes differ: only these are compared.
    """
    return torch.cat(
        [
            (logits if class_indices is None else logits[:, class_indices]).argmax(dim=1)
            for _, logits in logits_by_batch(network, data, preprocessing, device, split, indices)
        ]
    )


def measure_accuracy(
    network: nn.Module,
    data: RealImages,
    preprocessing: Preprocessing,
    device: torch.device,
    split: Split = "test",
    class_indices: Tensor | None = None,
) -> float:
    """Return the share of a split's real images that the network classifies correctly.

    Arguments as for `classify`. The split must have images.
    """
    labels = data.labels[split]
    indices = np.arange(len(labels))
    answers = classify(network, data, preprocessing, device, split, indices, class_indices)
    return int((answers == torch.from_numpy(labels).to(device)).sum()) / len(labels)
