"""What the benchmarks of relabel and evaluate share: pictures, their PNG files, a plain pipeline over these.

The plain pipeline is what public code of the field does for each image and epoch: open the PNG, a random
resized crop, a flip, a tensor, normalisation; then CutMix of a batch.
"""

import functools
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import torch
from measure import describe
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from prism_ray.parts.images import StoredImages
from prism_ray.parts.png import encode_png
from prism_ray.stages.formation import Slot
from prism_ray.teachers.teacher import Preprocessing


def make_pictures(count: int, size: int, classes: int) -> StoredImages:
    """Return smooth pictures with some noise: uint8 (count, 3, size, size), one class after the other."""
    rng = np.random.default_rng(0)
    images = np.empty((count, 3, size, size), np.uint8)
    for image in images:
        image[:] = draw_picture(rng, size).transpose(2, 0, 1)
    return StoredImages(tuple(Slot(number % classes, number // classes) for number in range(count)), images)


def draw_picture(rng: np.random.Generator, size: int) -> npt.NDArray[np.uint8]:
    """Return one such picture, (size, size, 3)."""
    small = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC))
    noise = rng.integers(-12, 13, smooth.shape, dtype=np.int16)
    return (smooth + noise).clip(0, 255).astype(np.uint8)


def write_files(stored: StoredImages, folder: Path) -> None:
    """Write the pictures as PNG files, named by their number."""
    for number, image in enumerate(stored.images):
        (folder / f"{number:06}.png").write_bytes(encode_png(image))


class PngFiles(Dataset[tuple[Tensor, int]]):
    """The PNG files of a folder, each with its number."""

    def __init__(self, folder: Path, preprocessing: Preprocessing, crop_scale: tuple[float, float]) -> None:
        self._paths = sorted(folder.glob("*.png"))
        self._transform = transforms.Compose(
            [
                transforms.RandomResizedCrop(preprocessing.size, scale=crop_scale),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(preprocessing.mean, preprocessing.std),
            ]
        )

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        with Image.open(self._paths[number]) as image:
            return self._transform(image.convert("RGB")), number


def loader(files: PngFiles, batch: int, workers: int, shuffle: bool) -> DataLoader[tuple[Tensor, Tensor]]:
    return DataLoader(files, batch, shuffle=shuffle, num_workers=workers, persistent_workers=workers > 0)


def mixed(
    batches: DataLoader[tuple[Tensor, Tensor]], device: torch.device, rng: np.random.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches on the device after CutMix, which draws one box and one order for a batch."""
    for images, numbers in batches:
        images = images.to(device, non_blocking=True)
        size = images.shape[-1]
        half = int(size * np.sqrt(1.0 - rng.beta(1.0, 1.0))) // 2
        y, x = rng.integers(0, size, 2)
        rows = slice(max(0, y - half), min(size, y + half))
        columns = slice(max(0, x - half), min(size, x + half))
        order = torch.from_numpy(rng.permutation(len(images))).to(device)
        images[:, :, rows, columns] = images[order][:, :, rows, columns]
        yield images, numbers


@dataclass(frozen=True)
class Pictures:
    """The pictures of a benchmark, and how a plain pipeline reads them."""

    images: int
    size: int
    classes: int
    folder: Path  # empty
    device: torch.device
    workers: int = 0  # processes that open PNG files
    epochs: int = 1  # of a round


def picture_options(images: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options of pictures as one argument `pictures` (Pictures), and set the CPU threads.

    `images` is the default of their number.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def with_pictures(*, device: str, threads: int, workers: int, **options: Any) -> None:
            torch.set_num_threads(threads)
            place = torch.device(device)
            names = ("images", "size", "classes", "epochs")
            numbers = {name: options.pop(name) for name in names}
            click.echo(describe(place))
            count, size = numbers["images"], numbers["size"]
            click.echo(f"{count} images of {size}, {workers} processes of the loader")
            with tempfile.TemporaryDirectory() as folder:
                pictures = Pictures(folder=Path(folder), device=place, workers=workers, **numbers)
                command(pictures=pictures, **options)

        wrapped: Callable[..., None] = with_pictures
        for option in (
            click.option("--threads", default=2, show_default=True, help="CPU threads."),
            click.option("--workers", default=0, show_default=True, help="Processes that open PNG files."),
            click.option("--epochs", default=1, show_default=True, help="Measured epochs of a round."),
            click.option("--classes", default=1000, show_default=True),
            click.option("--size", default=224, show_default=True),
            click.option("--images", default=images, show_default=True),
            click.option("--device", default="cpu", show_default=True),
        ):
            wrapped = option(wrapped)
        return wrapped

    return decorate
