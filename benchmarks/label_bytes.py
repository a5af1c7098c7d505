"""Bytes of soft labels per view, by encoding: python benchmarks/label_bytes.py

Views are drawn as in a run, logits are random. The last column divides the bytes of float16 labels of all
epochs by those of the encoding with `relabel.prune_ratio: 0.9`.
"""

import time

import click
import numpy as np

from prism_ray.config import RelabelConfig
from prism_ray.encodings import find_encoding
from prism_ray.parts.labels import EpochLabels, encode_labels
from prism_ray.parts.views import draw_views
from prism_ray.stages.formation import Slot

NAMES = "fp16 int8 int4 top-100 top-50 top-10 top-100-int8 top-50-int8 top-50-int4 top-10-int4"


@click.command()
@click.option("--classes", default=1000, show_default=True)
@click.option("--size", default=224, show_default=True, help="Pixels of a side.")
@click.option("--epochs", default=4, show_default=True)
@click.argument("names", nargs=-1)
def main(classes: int, size: int, epochs: int, names: tuple[str, ...]) -> None:
    """Print a table of encodings, the given ones or a choice: one view of each class in each epoch."""
    slots = [Slot(label, 0) for label in range(classes)]
    rng = np.random.default_rng(0)
    labels = [
        EpochLabels(
            epoch,
            draw_views(slots, epoch, 0, RelabelConfig(), size),
            rng.normal(scale=3.0, size=(classes, classes)).astype(np.float16),
        )
        for epoch in range(epochs)
    ]
    dense = len(encode_labels(labels)) / (epochs * classes)
    heads = ("bytes/view", "logits alone", "seconds", "times less, a tenth kept")
    print("encoding".ljust(14), *(head.rjust(len(head) + 2) for head in heads))
    for name in names or NAMES.split():
        encoding = find_encoding(name)
        if encoding.least_classes > classes:
            continue
        started = time.perf_counter()
        found = len(encode_labels(labels, encoding)) / (epochs * classes)
        seconds = time.perf_counter() - started
        alone = encoding.bytes_per_view(classes)
        print(f"{name:<14} {found:>12.1f} {alone:>14.1f} {seconds:>9.2f} {10 * dense / found:>26.0f}")


if __name__ == "__main__":
    main()
