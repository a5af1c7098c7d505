"""Cut four folders of photographs from Debian packages, to see what image-folder.yaml makes of pictures.

    xargs -a jobs/photographs/packages.txt sudo apt-get install --no-install-recommends --yes
    python jobs/photographs/cut.py ./photographs
    prism-ray distill jobs/image-folder.yaml --set data.path=./photographs/things/train \
        --set data.test_path=./photographs/things/test

`things` has six classes of objects (80 training, 40 test images each). Each photograph is in one split only,
several times, turned and moved on white: students are tested on objects that no network saw. In `lomiri`,
`mate` and `plasma` a class is a wallpaper, cut into cells that do not overlap (60 training, 30 test images
each); cells of one wallpaper are in all splits. Every folder has train/, validation/ (to choose settings on)
and test/. The same packages give the same pixels.
"""

import argparse
import random
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

STAMPS = Path("usr/share/tuxpaint/stamps")
THINGS = {
    "birds": "animals/birds",
    "flowers": "plants/flowers",
    "fruit": "food/fruit",
    "household": "household",
    "mammals": "animals/mammals",
    "vegetables": "food/vegetables",
}
THING_COUNTS = {"train": 80, "validation": 40, "test": 40}
CELL_COUNTS = {"train": 60, "validation": 30, "test": 30}
CELLS_PER_ROW = {"lomiri": 16, "mate": 24, "plasma": 16}
LEAST_CONTRAST = 6.0  # standard deviation of a cell's grey values; plain sky tells no class
LEAST_CELL = 64  # pixels of a side


def main() -> None:
    parser = argparse.ArgumentParser(description="Cut folders of photographs from Debian packages.")
    parser.add_argument("folder", type=Path, help="folder to write; it must not exist")
    parser.add_argument("--root", type=Path, default=Path("/"), help="where the packages are (default: /)")
    arguments = parser.parse_args()
    if arguments.folder.exists():
        sys.exit(f"{arguments.folder} exists; give a folder that does not, or remove it")
    for name in ("things", *CELLS_PER_ROW):
        if name == "things":
            num_classes = cut_things(arguments.root / STAMPS, arguments.folder / name)
        else:
            pictures = wallpapers(name, arguments.root / "usr/share")
            num_classes = cut_wallpapers(name, pictures, arguments.folder / name)
        if num_classes < 2:
            sys.exit(
                f"{name}: {num_classes} classes found; install the packages of jobs/photographs/packages.txt"
            )
        print(f"{arguments.folder / name}: {num_classes} classes", flush=True)


def cut_things(stamps: Path, target: Path) -> int:
    """Write the classes of THINGS; return how many there are."""
    num_classes = 0
    for name, folder in THINGS.items():
        photographs = sorted(p for p in (stamps / folder).rglob("*.png") if "cartoon" not in p.parts)
        if len(photographs) < 5:
            continue
        num_classes += 1
        rng = random.Random(f"stamps{name}")
        rng.shuffle(photographs)
        for split, own in split_photographs(photographs).items():
            (target / split / name).mkdir(parents=True)
            for number in range(THING_COUNTS[split]):
                photograph = own[number % len(own)]
                shown = show(Image.open(photograph).convert("RGBA"), rng)
                shown.save(target / split / name / f"{photograph.stem}-{number:03}.jpg", quality=92)
    return num_classes


def split_photographs(photographs: list[Path]) -> dict[str, list[Path]]:
    """Return which photographs are in which split: 22 % each for test and validation, at least one each."""
    count = max(min(3, len(photographs) // 3), round(0.22 * len(photographs)))
    parts = photographs[:count], photographs[count : 2 * count], photographs[2 * count :]
    return dict(zip(("test", "validation", "train"), parts, strict=True))


def show(photograph: Image.Image, rng: random.Random, size: int = 128) -> Image.Image:
    """Return a cut-out object on white, turned by up to 20 degrees, mirrored or not, somewhere."""
    photograph.thumbnail((112, 112))
    photograph = photograph.rotate(rng.uniform(-20, 20), expand=True, resample=Image.Resampling.BICUBIC)
    if rng.random() < 0.5:
        photograph = photograph.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    scale = rng.uniform(0.7, 1.05)
    photograph = photograph.resize(
        (max(8, int(photograph.width * scale)), max(8, int(photograph.height * scale)))
    )
    background = Image.new("RGBA", (size, size), (255, 255, 255, 255))
    seen = photograph.crop((0, 0, min(size, photograph.width), min(size, photograph.height)))
    right, down = (rng.randint(0, max(0, size - length)) for length in photograph.size)
    background.alpha_composite(seen, (right, down))
    return background.convert("RGB")


def wallpapers(name: str, share: Path) -> dict[str, Path]:
    """Return the photographs of a folder by the names of their classes."""
    if name == "plasma":
        found: Iterable[Path] = (share / "wallpapers").glob("*/contents/images/2560x1600.jpg")
        return {path.parts[-4]: path for path in sorted(found)}
    if name == "mate":
        found = (share / "backgrounds/mate/nature").glob("*.jpg")
    else:
        found = (share / "backgrounds").glob("*_by_*.jpg")
    return {path.stem: path for path in sorted(found)}


def cut_wallpapers(name: str, pictures: dict[str, Path], target: Path) -> int:
    """Write a class for each photograph that has enough cells; return how many there are."""
    num_classes, needed = 0, sum(CELL_COUNTS.values())
    for stem, path in pictures.items():
        picture = Image.open(path).convert("RGB")
        per_row = CELLS_PER_ROW[name]
        side = min(picture.width // per_row, picture.height * 16 // (9 * per_row))
        cells = contrasting_cells(picture, side) if side >= LEAST_CELL else []
        if len(cells) < needed:
            continue
        num_classes += 1
        random.Random(name + stem).shuffle(cells)
        for split, count in CELL_COUNTS.items():
            folder = target / split / stem.partition("_by")[0]
            folder.mkdir(parents=True)
            for number, (left, top) in enumerate(cells[:count]):
                cell = picture.crop((left, top, left + side, top + side))
                cell.resize((96, 96), Image.Resampling.LANCZOS).save(folder / f"{number:03}.jpg", quality=92)
            cells = cells[count:]
    return num_classes


def contrasting_cells(picture: Image.Image, side: int) -> list[tuple[int, int]]:
    """Return left and top of each cell of a grid that is not plain."""
    corners = [
        (x * side, y * side) for x in range(picture.width // side) for y in range(picture.height // side)
    ]

    def contrast(left: int, top: int) -> float:
        cell = picture.crop((left, top, left + side, top + side)).convert("L").resize((16, 16))
        return float(np.asarray(cell, float).std())

    return [corner for corner in corners if contrast(*corner) > LEAST_CONTRAST]


if __name__ == "__main__":
    main()
