"""Seconds and bytes of relabel and of a student's step against the number of classes.

The network is the same apart from its last layer, and so is the number of images. A row group of labels has
one epoch of more than 2,048 images, so that a student reads labels from the store in each epoch.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from laws import Series
from measure import Took, Watch, Way, in_turn
from pictures import Pictures
from relabel import Relabelling
from student import Studying

from prism_ray.parts.labels import EpochLabels, encode_labels
from prism_ray.parts.views import draw_views

STEP = 64  # images of a student's step


class Classes:
    """Relabel and a student with one number of classes."""

    def __init__(self, arch: str, pictures: Pictures) -> None:
        """The folder of the pictures must not exist."""
        folders = {name: pictures.folder / name for name in ("relabel", "student")}
        for folder in folders.values():
            folder.mkdir(parents=True)
        self._device = pictures.device
        self._relabelling = Relabelling.of([arch], replace(pictures, folder=folders["relabel"]))
        self._studying = Studying.of(arch, replace(pictures, folder=folders["student"]), STEP)
        rng = np.random.default_rng(0)
        logits = rng.normal(scale=3.0, size=(pictures.images, pictures.classes)).astype(np.float16)
        slots, config = self._relabelling.stored.slots, self._relabelling.config
        self._labels = [EpochLabels(0, draw_views(slots, 0, 0, config, pictures.size), logits)]
        self.bytes_per_view = len(encode_labels(self._labels)) / pictures.images

    def ways(self) -> dict[str, Way]:
        """Return what is measured: relabel and its encoding by view, a student and its labels by step."""
        return {
            "relabel": self._relabelling.ours,
            "encoding": self._timed(lambda: encode_labels(self._labels), len(self._labels[0].views)),
            "student": lambda: self._studying.ours().per(1 / STEP),
            "reading": self._timed(
                self._read, self._studying.relabel.epochs * len(self._labels[0].views) / STEP
            ),
        }

    def _read(self) -> None:
        for epoch in range(self._studying.relabel.epochs):
            self._studying.read_epoch(epoch)

    def _timed(self, work: Callable[[], object], count: float) -> Way:
        def way() -> Took:
            watch = Watch(self._device)
            work()
            return watch.stop().per(count)

        return way


def measure(
    arch: str, numbers: Sequence[int], images: int, size: int, rounds: int, device: torch.device
) -> list[Series]:
    """Return the series of relabel and evaluate, and that of the bytes of a view in float16."""
    with tempfile.TemporaryDirectory(prefix="growth-") as folder:
        found = {
            count: Classes(arch, Pictures(images, size, count, Path(folder, str(count)), device))
            for count in numbers
        }
        ways = [(name, count, way) for count, each in found.items() for name, way in each.ways().items()]
        took = in_turn([way for *_, way in ways], rounds)
    series = []
    for name in dict.fromkeys(name for name, *_ in ways):
        for unit in Took._fields:
            values = {
                count: [getattr(each, unit) for each in of_way]
                for (which, count, _), of_way in zip(ways, took, strict=True)
                if which == name
            }
            series.append(Series.of(f"{name}, {unit}", "s", values))
    return [*series, Series.of("bytes", "bytes", {x: [each.bytes_per_view] for x, each in found.items()})]
