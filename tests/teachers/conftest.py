"""What the tests of the teachers share: one thread, digits, a folder of colour images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prism_ray.config import DataConfig
from prism_ray.data import RealImages, open_data


@pytest.fixture(scope="session")
def digits() -> RealImages:
    return open_data(DataConfig(source="digits", image_size=32))


@pytest.fixture
def colour_images(tmp_path: Path) -> RealImages:
    """Three classes of random colour images whose channels differ in mean and spread."""
    rng = np.random.default_rng(0)
    for label in ("ant", "bee", "cat"):
        folder = tmp_path / "images" / label
        folder.mkdir(parents=True)
        for number in range(5):
            noise = rng.normal((60, 120, 200), (10, 40, 20), (20, 24, 3))
            Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    return open_data(DataConfig(source="image-folder", path=str(tmp_path / "images"), image_size=16))
