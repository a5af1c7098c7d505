"""Folders of images to list and read: files of one colour, and the config of such a folder."""

from pathlib import Path
from typing import Any

from PIL import Image

from prism_ray.config import DataConfig

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def save(
    path: Path, color: tuple[int, ...] = RED, size: tuple[int, int] = (20, 20), mode: str = "RGB"
) -> Path:
    """Save an image of one colour; the suffix says in which format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"lossless": True} if path.suffix == ".webp" else {}
    Image.new("RGB", size, color[:3]).convert(mode).save(path, **options)
    return path


def config_of(root: Path, test_path: Path | None = None, size: int = 16, fraction: float = 0.2) -> DataConfig:
    return DataConfig(
        source="image-folder",
        path=str(root),
        test_path=None if test_path is None else str(test_path),
        image_size=size,
        test_fraction=fraction,
    )
