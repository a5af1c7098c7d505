"""Render a data set of 94 classes, the printable ASCII characters, from the fonts of this machine.

    xargs -a jobs/glyphs/packages.txt sudo apt-get install --no-install-recommends --yes
    python jobs/glyphs/render.py ./glyphs                               # or some of them:
    python jobs/glyphs/render.py ./digits --characters 0123456789

It writes a training and a test split as idx files (the format of MNIST; data.source: idx), and in validation/
the same training split with other test images, to choose settings on. Fonts are split by design: faces of one
family, and faces that draw nearly the same letters under other names (Arimo and Liberation Sans), are in one
split only. So students are tested on designs that no network has seen. The same fonts and arguments give the
same bytes.
"""

import argparse
import functools
import gzip
import hashlib
import random
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

CHARACTERS = [chr(code) for code in range(0x21, 0x7F)]
FONT_FOLDERS = (Path("/usr/share/fonts"), Path("/usr/share/texmf/fonts"))
SAMPLE = "agRQ28e&"  # the characters by which designs are compared
SAME_DESIGN = 0.97  # correlation of two faces' samples from which on they count as one design
NO_LETTERS = ("D050000L", "Standard Symbols PS", "Linux Biolinum Keyboard")  # pictures, Greek, keys
LARGER = 4  # glyphs are drawn four times larger and reduced
FACES_PER_FAMILY = 8  # so that one large family is not half of the data


@dataclass(frozen=True)
class Face:
    """One font file, its family and the pixels of SAMPLE, as a unit vector with mean 0."""

    path: Path
    family: str
    sample: npt.NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(description="Render glyphs of the printable ASCII characters.")
    parser.add_argument("folder", type=Path, help="folder to write; it must not exist")
    parser.add_argument("--train", type=int, default=700, help="training images per class (default: 700)")
    parser.add_argument(
        "--validation", type=int, default=50, help="validation images per class (default: 50)"
    )
    parser.add_argument("--test", type=int, default=128, help="test images per class (default: 128)")
    parser.add_argument("--characters", default="".join(CHARACTERS), help="classes (default: all 94)")
    parser.add_argument("--size", type=int, default=32, help="height and width in pixels (default: 32)")
    arguments = parser.parse_args()
    if arguments.folder.exists():
        sys.exit(f"{arguments.folder} exists; give a folder that does not, or remove it")
    for key in ("train", "validation", "test", "size"):
        if getattr(arguments, key) < 1:
            sys.exit(f"--{key} {getattr(arguments, key)}: give a number of at least 1")
    characters = list(arguments.characters)
    if len(set(characters)) < len(characters) or not set(characters) <= set(CHARACTERS) or not characters:
        sys.exit(f"--characters {arguments.characters!r}: give printable ASCII characters, each once")
    faces = find_faces(FONT_FOLDERS)
    designs = by_design(faces)
    splits = split_designs(designs)
    if any(len(faces) < 5 for faces in splits.values()):
        counts = ", ".join(f"{len(faces)} faces for {split}" for split, faces in splits.items())
        sys.exit(f"too few fonts: {counts}; install the packages of jobs/glyphs/packages.txt")
    files: dict[str, dict[str, bytes]] = {}
    for split, chosen in splits.items():
        families = len({face.family for face in chosen})
        print(f"{split}: {len(chosen)} faces of {families} families", flush=True)
        files[split] = render_split(split, chosen, getattr(arguments, split), arguments.size, characters)
    for folder, tested in ((arguments.folder, "test"), (arguments.folder / "validation", "validation")):
        folder.mkdir(parents=True)
        (folder / "classes.txt").write_text("".join(f"{class_name(each)}\n" for each in characters))
        for prefix, split in (("train", "train"), ("t10k", tested)):
            for kind, content in files[split].items():
                (folder / f"{prefix}-{kind}-ubyte.gz").write_bytes(content)
    print(f"wrote {arguments.folder}")


def find_faces(folders: Iterable[Path]) -> list[Face]:
    """Return the faces that have all characters, each drawn differently from a missing one."""
    paths = (path for folder in folders for path in folder.rglob("*") if path.suffix in (".ttf", ".otf"))
    files = {path.name: path for path in paths}
    faces: list[Face] = []
    per_family: dict[str, int] = {}
    for _, path in sorted(files.items()):
        try:
            font = ImageFont.truetype(str(path), 24)
            family = font.getname()[0] or path.stem
            if family in NO_LETTERS or not has_all(font) or has_small_capitals(path):
                continue
        except (OSError, ValueError):
            continue  # a bitmap font or a damaged file
        if per_family.get(family, 0) < FACES_PER_FAMILY:
            per_family[family] = per_family.get(family, 0) + 1
            faces.append(Face(path, family, shape_of(path, SAMPLE)))
    return faces


def has_all(font: ImageFont.FreeTypeFont) -> bool:
    """Say whether the font draws each character, and nearly each one differently."""
    missing = bytes(font.getmask("\U0010fffd"))
    masks = {character: bytes(font.getmask(character)) for character in CHARACTERS}
    if any(not any(mask) or mask == missing for mask in masks.values()):
        return False
    return len(set(masks.values())) > 0.9 * len(CHARACTERS)


def has_small_capitals(path: Path) -> bool:
    """Say whether a, e, r and g look like capitals, so that two classes would be one."""
    return all(float(shape_of(path, small) @ shape_of(path, small.upper())) > 0.8 for small in "aerg")


def shape_of(path: Path, characters: str) -> npt.NDArray[np.float32]:
    """Return the characters' pixels, each stretched to 24 x 24, less their mean, with norm 1."""
    font = ImageFont.truetype(str(path), 64)
    cells = []
    for character in characters:
        left, top, right, bottom = font.getbbox(character)
        image = Image.new("L", (max(1, int(right - left)), max(1, int(bottom - top))))
        ImageDraw.Draw(image).text((-left, -top), character, 255, font=font)
        cells.append(np.asarray(image.resize((24, 24), Image.Resampling.BILINEAR), np.float32))
    pixels = np.concatenate([cell.ravel() for cell in cells])
    pixels -= pixels.mean()
    return pixels / max(float(np.linalg.norm(pixels)), 1e-6)


def by_design(faces: Sequence[Face]) -> list[list[Face]]:
    """Group the faces: of one family, or alike, directly or through others."""
    group = list(range(len(faces)))

    def root(index: int) -> int:
        while group[index] != index:
            index = group[index]
        return index

    alike = np.stack([face.sample for face in faces]) if faces else np.zeros((0, 1), np.float32)
    close = alike @ alike.T > SAME_DESIGN
    for i in range(len(faces)):
        for j in range(i):
            if close[i, j] or faces[i].family == faces[j].family:
                group[root(i)] = root(j)
    designs: dict[int, list[Face]] = {}
    for index, face in enumerate(faces):
        designs.setdefault(root(index), []).append(face)
    return list(designs.values())


def split_designs(designs: Sequence[Sequence[Face]]) -> dict[str, list[Face]]:
    """Give a sixth of the designs to test, a tenth to validation and the others to train."""
    ranked = sorted(designs, key=lambda faces: number("split", min(face.path.name for face in faces)))
    num_test, num_validation = round(len(ranked) / 6), round(len(ranked) / 10)
    parts = {
        "test": ranked[:num_test],
        "validation": ranked[num_test : num_test + num_validation],
        "train": ranked[num_test + num_validation :],
    }
    return {split: [face for faces in part for face in faces] for split, part in parts.items()}


def number(*words: object) -> int:
    """Return a number that depends on the words alone."""
    return int.from_bytes(hashlib.sha256(repr(words).encode()).digest()[:8], "big")


def class_name(character: str) -> str:
    """Return the character and its name in Unicode: `A latin capital letter a`."""
    return f"{character} {unicodedata.name(character).lower()}"


def render_split(
    split: str, faces: Sequence[Face], per_class: int, size: int, characters: Sequence[str] = CHARACTERS
) -> dict[str, bytes]:
    """Return the idx files of images and labels, gzipped. The classes take turns.

    The images of a character do not depend on which others there are.
    """
    images = np.empty((per_class, len(characters), size, size), np.uint8)
    for index in range(per_class):
        for label, character in enumerate(characters):
            draw = random.Random(number(split, character, index))
            images[index, label] = render(character, draw, faces, size)
    labels = np.tile(np.arange(len(characters), dtype=np.uint8), per_class)
    pixels = images.reshape(-1, size, size)
    return {"images-idx3": idx(pixels), "labels-idx1": idx(labels)}


def idx(array: npt.NDArray[np.uint8]) -> bytes:
    """Return an array as a gzipped idx file: two zero bytes, type 8, rank, sizes, data."""
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return gzip.compress(header + array.tobytes(), mtime=0)


@functools.lru_cache(maxsize=4096)
def font_of(path: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(path), size)


def render(character: str, draw: random.Random, faces: Sequence[Face], size: int) -> npt.NDArray[np.uint8]:
    """Draw a character in a random face, at a random size, place, angle and contrast, on one base line."""
    face = draw.choice(faces)
    large = size * LARGER
    font = font_of(face.path, round(large * draw.uniform(0.62, 0.8)))
    left, _, right, _ = font.getbbox(character, anchor="ls")
    x = large / 2 - (left + right) / 2 + large * draw.uniform(-0.06, 0.06)
    y = large * (0.72 + draw.uniform(-0.05, 0.05))
    image = Image.new("L", (large, large))
    ImageDraw.Draw(image).text((x, y), character, 255, font=font, anchor="ls")
    turned = image.rotate(draw.uniform(-8, 8), Image.Resampling.BILINEAR)
    ink = np.asarray(turned.resize((size, size), Image.Resampling.LANCZOS), np.float32) / 255
    paper, pen = draw.uniform(0, 90), draw.uniform(165, 255)
    return np.rint(paper + (pen - paper) * ink).clip(0, 255).astype(np.uint8)


if __name__ == "__main__":
    main()
