"""A folder of images that the tests of the image-folder source list and read."""

from pathlib import Path

import pytest

from tests.data.folders import BLUE, GREEN, RED, save


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three classes of five images each: red cats, green dogs, blue owls."""
    folder = tmp_path / "train"
    for name, color in (("cat", RED), ("dog", GREEN), ("owl", BLUE)):
        for number in range(5):
            save(folder / name / f"{number}.png", color)
    return folder
