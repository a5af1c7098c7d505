"""Bytes of soft labels per view, by encoding: python benchmarks/label_bytes.py

Views are drawn as in a run, logits are random. "drawn" is with `relabel.view_parameters: drawn`. "times less"
divides the bytes of float16 labels of all epochs, with the views' parameters, by those of the encoding with
`relabel.prune_ratio: 0.9`.
"""

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
    heads = ("bytes/view", "drawn", "logits alone", "times less, a tenth kept", "drawn")
    print("encoding".ljust(14), *(head.rjust(len(head) + 2) for head in heads))
    for name in names or NAMES.split():
        encoding = find_encoding(name)
        if encoding.least_classes > classes:
            continue
        stored, drawn = (
            len(encode_labels(labels, encoding, has_views=has_views)) / (epochs * classes)
            for has_views in (True, False)
        )
        alone = encoding.bytes_per_view(classes)
        times = f"{10 * dense / stored:>26.0f} {10 * dense / drawn:>7.0f}"
        print(f"{name:<14} {stored:>12.1f} {drawn:>7.1f} {alone:>14.1f} {times}")


if __name__ == "__main__":
    main()
