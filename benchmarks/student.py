"""A student against a plain DataLoader over PNG files: python benchmarks/student.py [--device cuda]

Both train the same network with AdamW on crops, flips and CutMix with soft labels. Ours reads its labels
from a store; the plain one has them in memory. Prints also the share of a step that goes into its input:
reading the labels, moving them, rendering and normalising the views.
"""

from dataclasses import dataclass
from functools import partial
from statistics import median

import click
import numpy as np
import torch
from measure import Pairs, Took, Watch, deterministic, pair
from pictures import Pictures, PngFiles, loader, make_pictures, mixed, picture_options, write_files
from setups import PRECISIONS, Clock
from torch import nn
from torch.nn import functional as F

from prism_ray.config import EvaluateConfig, RelabelConfig
from prism_ray.data.base import ArrayImages
from prism_ray.evaluate.protocol import make_optimizer
from prism_ray.evaluate.student import train_student
from prism_ray.parts.images import StoredImages
from prism_ray.parts.labels import EpochLabels, LabelForm, LabelReader, encode_labels
from prism_ray.parts.views import draw_views
from prism_ray.relabel.augment import ShownImages
from prism_ray.relabel.views import render, to_device
from prism_ray.store import Commit, StoreFiles, write_part
from prism_ray.teachers.build import build_network
from prism_ray.teachers.library import IMAGENET_MEAN, IMAGENET_STD
from prism_ray.teachers.precision import prepared
from prism_ray.teachers.teacher import Preprocessing
from prism_ray.teachers.training import split_evenly

_WARMUP = 1  # epochs of a round that do not count


@dataclass(frozen=True)
class Studying:
    """An image set with labels in a store, and the two ways to train on it. Times are of one image."""

    stored: StoredImages
    reader: LabelReader
    logits: torch.Tensor  # N, C: what the plain way learns
    config: EvaluateConfig
    relabel: RelabelConfig
    data: ArrayImages
    preprocessing: Preprocessing
    pictures: Pictures

    @classmethod
    def of(cls, arch: str, pictures: Pictures, batch: int = 50, precision: str = "fp32") -> "Studying":
        images, size, classes = pictures.images, pictures.size, pictures.classes
        stored = make_pictures(images, size, classes)
        (pictures.folder / "png").mkdir()
        write_files(stored, pictures.folder / "png")
        relabel = RelabelConfig(epochs=pictures.epochs + _WARMUP)
        rng = np.random.default_rng(0)
        labels = [
            EpochLabels(
                epoch,
                draw_views(stored.slots, epoch, 0, relabel, size),
                rng.standard_normal((images, classes)).astype(np.float16),
            )
            for epoch in range(relabel.epochs)
        ]
        files = StoreFiles(str(pictures.folder / "store"))
        part = write_part(
            files,
            lambda attempt: f"labels/part-{attempt}.parquet",
            encode_labels(labels),
            images * len(labels),
        )
        commit = Commit("relabel/benchmark", "", (part,), {}, 0.0, "here", "now")
        names = tuple(f"class{number}" for number in range(classes))
        few = {"train": np.zeros((2, size, size), np.uint8), "test": np.zeros((2, size, size), np.uint8)}
        return cls(
            stored=stored,
            reader=LabelReader(files, [commit], LabelForm(images, classes, size)),
            logits=torch.from_numpy(labels[0].logits).to(pictures.device),
            config=EvaluateConfig.model_validate(
                {
                    "student": {"arch": arch},
                    "batch_size": batch,
                    "test_every": relabel.epochs,
                    "precision": precision,
                }
            ),
            relabel=relabel,
            data=ArrayImages("benchmark", names, few, dict.fromkeys(few, np.arange(2)), size),
            preprocessing=Preprocessing(IMAGENET_MEAN, IMAGENET_STD, size),
            pictures=pictures,
        )

    @property
    def num_views(self) -> int:
        return self.pictures.epochs * len(self.stored.slots)

    def read_epoch(self, epoch: int) -> EpochLabels:
        return self.reader.sound_epoch(epoch, "benchmark")

    def ours(self) -> Took:
        """Train a student as evaluate does."""
        clock = Clock(self.pictures.device, _WARMUP)
        with deterministic(True), prepared([], self.config.precision):
            train_student(
                self.stored,
                self.read_epoch,
                self.relabel.epochs,
                self.config,
                self.data,
                self.preprocessing,
                0,
                self.pictures.device,
                clock,
            )
        assert clock.took is not None
        return clock.took.per(len(self.stored.slots))

    def plain(self) -> Took:
        """Train the same network from a DataLoader over PNG files."""
        student = (
            build_network(self.config.student, self.logits.shape[1], "--arch")
            .to(self.pictures.device)
            .train()
        )
        optimizer = make_optimizer(student, self.config)
        files = PngFiles(self.pictures.folder / "png", self.preprocessing, self.relabel.crop_scale)
        batches = loader(files, self.config.batch_size, self.pictures.workers, shuffle=True)
        rng = np.random.default_rng(0)
        for epoch in range(self.relabel.epochs):
            if epoch == _WARMUP:
                watch = Watch(self.pictures.device)
            self._plain_epoch(student, optimizer, partial(mixed, batches, self.pictures.device, rng))
        return watch.stop().per(self.num_views)

    def _plain_epoch(self, student: nn.Module, optimizer: torch.optim.Optimizer, batches) -> None:
        for images, numbers in batches():
            numbers = numbers.to(self.pictures.device)
            logits = student(images)
            loss = F.mse_loss(logits, self.logits[numbers].float())
            loss = loss + self.config.ce_weight * F.cross_entropy(logits, numbers % logits.shape[1])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()

    def input(self) -> Took:
        """Only make the input of the steps."""
        shown = ShownImages(self.stored, self.pictures.device)
        order = torch.arange(len(self.stored.slots), device=self.pictures.device)
        watch = Watch(self.pictures.device)
        for epoch in range(_WARMUP, self.relabel.epochs):
            labels = self.read_epoch(epoch)
            torch.from_numpy(labels.logits).to(self.pictures.device)
            views = to_device(labels.views, self.stored.slots, self.pictures.device)
            images = shown.of_epoch(labels.views)
            for batch in split_evenly(len(order), self.config.batch_size):
                self.preprocessing.apply(render(images, views, order[batch]))
        return watch.stop().per(self.num_views)


def measure(work: Studying, rounds: int) -> tuple[Pairs, Pairs]:
    """Return the pairs with the plain loader, and those with the input alone: its ratio is its share."""
    return pair(work.ours, work.plain, rounds), pair(work.ours, work.input, rounds)


@click.command(help=(__doc__ or "").partition("\n")[0])
@picture_options(images=50)
@click.option("--arch", default="torchvision:resnet18", show_default=True, help="The student.")
@click.option("--batch", default=50, show_default=True, help="Images of a step.")
@click.option("--precision", default="fp32", show_default=True, type=click.Choice(PRECISIONS))
@click.option("--rounds", default=7, show_default=True, help="Paired measurements.")
def main(pictures: Pictures, arch: str, batch: int, precision: str, rounds: int) -> None:
    click.echo(f"{arch}, steps of {batch}, ours in {precision}, the plain loader in fp32")
    plain, own_input = measure(Studying.of(arch, pictures, batch, precision), rounds)
    ours, theirs = plain.seconds
    click.echo(f"images a second: ours {1 / ours:.1f}, plain {1 / theirs:.1f}; {plain}")
    shares = sorted(own_input.ratios)
    click.echo(f"share of the input in a step: {median(shares):.1%} ({shares[0]:.1%} to {shares[-1]:.1%})")


if __name__ == "__main__":
    main()
