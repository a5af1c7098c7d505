"""Images x views per second of relabel: python benchmarks/relabel.py [--device cuda]

Against a plain pipeline with the same ensemble, which opens a PNG file for each view, and against the bare
forward passes of the teachers on batches that are ready. Relabel reads its images once for all epochs of a
unit, so its images are in memory here; drawing the views, rendering, the ensemble and encoding are in it.
"""

import copy
import io
from collections.abc import Sequence
from dataclasses import dataclass

import click
import numpy as np
import torch
from measure import Pairs, Took, Watch, deterministic, pair
from pictures import Pictures, PngFiles, loader, make_pictures, mixed, picture_options, write_files
from setups import PRECISIONS, make_network
from torch import Tensor, nn

from prism_ray.config import RelabelConfig
from prism_ray.parts.images import StoredImages
from prism_ray.parts.labels import encode_labels
from prism_ray.relabel.ensemble import GroupLabeller
from prism_ray.teachers.library import IMAGENET_MEAN, IMAGENET_STD
from prism_ray.teachers.precision import logits_of, prepared
from prism_ray.teachers.teacher import Preprocessing, Teacher, freeze

ARCHS = ("torchvision:resnet18", "torchvision:mobilenet_v2")


@dataclass(frozen=True)
class Relabelling:
    """A label group, and the three ways to pass its views through the teachers. Times are of one view."""

    stored: StoredImages
    networks: Sequence[nn.Module]  # contiguous, on the device
    teachers: Sequence[Teacher]
    config: RelabelConfig
    pictures: Pictures

    @classmethod
    def of(
        cls, archs: Sequence[str], pictures: Pictures, batch: int = 256, precision: str = "fp32"
    ) -> "Relabelling":
        size, classes, device = pictures.size, pictures.classes, pictures.device
        preprocessing = Preprocessing(IMAGENET_MEAN, IMAGENET_STD, size)
        stored = make_pictures(pictures.images, size, classes)
        write_files(stored, pictures.folder)
        networks = [make_network(arch, classes, size, number) for number, arch in enumerate(archs)]
        teachers = [
            Teacher(arch, freeze(copy.deepcopy(network), device), preprocessing)
            for arch, network in zip(archs, networks, strict=True)
        ]
        config = RelabelConfig.model_validate(
            {"epochs": pictures.epochs, "teacher_batch_size": batch, "precision": precision}
        )
        return cls(stored, [network.to(device) for network in networks], teachers, config, pictures)

    @property
    def num_views(self) -> int:
        return self.config.epochs * len(self.stored.slots)

    def ours(self) -> Took:
        """Draw, render, label and encode, as a unit of relabel does."""
        labeller = GroupLabeller(
            "benchmark", 0, self.config, self.stored, self.teachers, self.pictures.device
        )
        with deterministic(True):
            watch = Watch(self.pictures.device)
            encode_labels([labeller.epoch(epoch) for epoch in range(self.config.epochs)])
            return watch.stop().per(self.num_views)

    @torch.no_grad()
    def plain(self) -> Took:
        """Open, crop, flip, normalise and mix the PNG files, label them, and save each batch's logits."""
        rng = np.random.default_rng(0)
        files = PngFiles(self.pictures.folder, self.teachers[0].preprocessing, self.config.crop_scale)
        batches = loader(files, self._batch, self.pictures.workers, shuffle=False)
        watch = Watch(self.pictures.device)
        for _ in range(self.config.epochs):
            for images, _numbers in mixed(batches, self.pictures.device, rng):
                logits = sum(network(images) for network in self.networks) / len(self.networks)
                assert isinstance(logits, Tensor)
                torch.save(logits.half().cpu(), io.BytesIO())
        return watch.stop().per(self.num_views)

    @torch.no_grad()
    def bare(self) -> Took:
        """Pass batches that are ready through the teachers, channels last and in our precision."""
        size = self.teachers[0].preprocessing.size
        pixels = torch.randn(self._batch, 3, size, size, device=self.pictures.device)
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        num_batches = max(1, self.num_views // self._batch)
        networks, precision = [teacher.network for teacher in self.teachers], self.config.precision
        with deterministic(True), prepared(networks, precision):
            watch = Watch(self.pictures.device)
            for _ in range(num_batches):
                for network in networks:
                    logits_of(network, pixels, precision)
            return watch.stop().per(num_batches * self._batch)

    @property
    def _batch(self) -> int:
        return min(self.config.teacher_batch_size, len(self.stored.slots))


def measure(work: Relabelling, rounds: int) -> tuple[Pairs, Pairs]:
    """Return the pairs with the plain pipeline, and those with the bare forward passes."""
    return pair(work.ours, work.plain, rounds), pair(work.ours, work.bare, rounds)


@click.command(help=(__doc__ or "").partition("\n")[0])
@picture_options(images=64)
@click.option("--archs", default=",".join(ARCHS), show_default=True, help="The ensemble.")
@click.option("--batch", default=64, show_default=True, help="Views of a forward pass.")
@click.option("--precision", default="fp32", show_default=True, type=click.Choice(PRECISIONS))
@click.option("--rounds", default=7, show_default=True, help="Paired measurements.")
def main(pictures: Pictures, archs: str, batch: int, precision: str, rounds: int) -> None:
    click.echo(f"{archs}, batches of {batch}, ours in {precision}, the plain pipeline in fp32")
    plain, bare = measure(Relabelling.of(archs.split(","), pictures, batch, precision), rounds)
    for name, pairs in (("plain", plain), ("bare", bare)):
        ours, theirs = pairs.seconds
        click.echo(f"views a second: relabel {1 / ours:.1f}, {name} {1 / theirs:.1f}; {pairs}")


if __name__ == "__main__":
    main()
