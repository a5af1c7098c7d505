"""Crops of original pictures against crops of the square: python benchmarks/crops.py

Reads JPEG files as collect does, from an image folder made for it, 5 crops of each picture (RDED's draw).
"""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click
import numpy as np
import psutil
import sklearn.datasets
from PIL import Image

import prism_ray.data.decode as decode
from prism_ray.config import DataConfig
from prism_ray.crops import CropNumbers, Crops
from prism_ray.data import RealImages, open_data

_CROPS = 5  # of each picture


@click.command()
@click.option("--pictures", default=40, show_default=True)
@click.option("--size", default=224, show_default=True, help="Pixels of a side; a patch has half.")
@click.argument("shapes", nargs=-1)
def main(pictures: int, size: int, shapes: tuple[str, ...]) -> None:
    """Print pictures per second and the growth of the memory's peak, for SHAPES such as 500x375."""
    heads = ("square", "original", "original, never reduced")
    print("pixels     ", *(head.rjust(24) for head in heads), "  (pictures/s; MB)")
    for shape in shapes or ("500x375", "2000x1500", "4000x3000"):
        width, height = (int(part) for part in shape.split("x"))
        with tempfile.TemporaryDirectory() as folder:
            data = _folder(Path(folder), pictures, width, height, size)
            figures = [_measure(_read_squares, data, size), _measure(_read_crops, data, size // 2)]
            with _never_reduced():
                figures.append(_measure(_read_crops, data, size // 2))
        print(f"{shape:<11}", *(f"{rate:.1f}; {growth:.0f}".rjust(24) for rate, growth in figures))
    _print_differences()


@contextmanager
def _never_reduced() -> Iterator[None]:
    gap, decode._REDUCING_GAP = decode._REDUCING_GAP, float("inf")
    try:
        yield
    finally:
        decode._REDUCING_GAP = gap


def _print_differences() -> None:
    """Print how far crops of the photographs in scikit-learn differ if the JPEG is decoded in full."""
    numbers = CropNumbers.draw(np.random.default_rng(0), 200)
    for path in sorted((Path(sklearn.datasets.__file__).parent / "images").glob("*.jpg")):
        for size in (32, 48):
            found = []
            for row in range(200):
                own = numbers[row : row + 1]
                make = partial(
                    decode.decode_crops, path.read_bytes(), partial(_half_or_more, own), size, size
                )
                reduced, _ = make(180)
                with _never_reduced():
                    full, _ = make(180)
                found.append(np.abs(reduced.astype(int) - full))
            levels = np.stack(found)
            least, most = np.quantile(levels, 0.999), levels.max()
            print(f"{path.name} at {size}: mean {levels.mean():.2f}, 99.9 % within {least:.0f}, most {most}")


def _half_or_more(numbers: CropNumbers, height: int, width: int) -> Crops:
    return numbers.boxes(height, width, (0.5, 1.0), 1.0)


def _read_squares(data: RealImages, size: int) -> None:
    data.read("train", np.arange(len(data.labels["train"])))


def _read_crops(data: RealImages, size: int) -> None:
    count = len(data.labels["train"])
    numbers = CropNumbers.draw(np.random.default_rng(0), count * _CROPS)
    data.read_crops(
        "train",
        np.arange(count),
        lambda row, h, w: numbers[row * _CROPS : (row + 1) * _CROPS].boxes(h, w, (0.08, 1.0), 1.0),
        size,
        size,
    )


def _measure(work: Callable[[RealImages, int], None], data: RealImages, size: int) -> tuple[float, float]:
    """Return pictures per second, and by how many MB the resident memory grew at most."""
    process, done = psutil.Process(), threading.Event()
    before, peak = process.memory_info().rss, [0]

    def watch() -> None:
        while not done.wait(0.002):
            peak[0] = max(peak[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.perf_counter()
    work(data, size)
    seconds = time.perf_counter() - started
    done.set()
    watcher.join()
    return len(data.labels["train"]) / seconds, max(0, peak[0] - before) / 1e6


def _folder(root: Path, pictures: int, width: int, height: int, size: int) -> RealImages:
    """Make two classes of smooth pictures with some noise, as JPEG files."""
    rng = np.random.default_rng(0)
    for number in range(pictures):
        small = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))
        noise = rng.integers(-6, 7, smooth.shape, dtype=np.int16)
        path = root / f"class{number % 2}" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray((smooth + noise).clip(0, 255).astype(np.uint8)).save(path, quality=90)
    config = DataConfig(source="image-folder", path=str(root), image_size=size, test_fraction=0.01)
    return open_data(config)


if __name__ == "__main__":
    main()
