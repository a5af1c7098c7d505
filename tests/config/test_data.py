"""`data`: which paths go with which source."""

from pathlib import Path

import pytest

from prism_ray.config import load_config
from prism_ray.errors import ConfigError


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (
            ["data.source=image-folder"],
            "data: source = 'image-folder' needs a folder of class folders; set data.path",
        ),
        (
            ["data.source=fashion-mnist"],
            "data: source = 'fashion-mnist' needs the folder of the four idx .gz files; set data.path",
        ),
        (
            ["data.source=idx"],
            "data: source = 'idx' needs the folder of the four idx .gz files; set data.path",
        ),
        (["data.source=fashion-mnist", "data.download=true"], "set data.path to it"),
        (["data.path=somewhere"], "data: data.path = 'somewhere': source = 'digits' reads no files"),
        (
            ["data.test_path=somewhere"],
            "data.test_path = 'somewhere' needs source = 'image-folder', not 'digits'",
        ),
        (["data.download=true"], "data.download = true needs source = 'fashion-mnist', not 'digits'"),
        (
            ["data.source=fashion-mnist", "data.path=a", "data.test_path=b"],
            "data.test_path = 'b' needs source = 'image-folder', not 'fashion-mnist'",
        ),
    ],
)
def test_paths_that_do_not_fit_the_source_are_refused(
    config_path: Path, overrides: list[str], complaint: str
) -> None:
    """A path that is silently ignored, or a source that finds out only on the cluster that it has none."""
    with pytest.raises(ConfigError) as caught:
        load_config(config_path, overrides)
    assert complaint in str(caught.value)
    assert overrides[0] in str(caught.value)


@pytest.mark.parametrize(
    "overrides",
    [
        ["data.source=image-folder", "data.path=a"],
        ["data.source=image-folder", "data.path=a", "data.test_path=b"],
        ["data.source=fashion-mnist", "data.path=a"],
        ["data.source=idx", "data.path=a"],
        ["data.source=fashion-mnist", "data.path=a", "data.download=true"],
    ],
)
def test_paths_that_fit_are_kept(config_path: Path, overrides: list[str]) -> None:
    """A rule that is too strict for a source that it was not written for."""
    config = load_config(config_path, overrides)
    assert config.data.path == "a"


@pytest.mark.parametrize("value", ["0", "1", "0.0", "1.0", "-0.1", "1.5", ".nan", "half"])
def test_test_fraction_leaves_images_on_both_sides(config_path: Path, value: str) -> None:
    """A fraction of 0 or 1 would leave no test or no training image."""
    with pytest.raises(ConfigError, match=r"data\.test_fraction"):
        load_config(config_path, [f"data.test_fraction={value}"])


@pytest.mark.parametrize("value", ["0", "-1", "32.0", "'32'", "true"])
def test_sizes_are_whole_positive_numbers(config_path: Path, value: str) -> None:
    """A size given as text or as a fraction would be rounded or fail deep inside a network."""
    with pytest.raises(ConfigError, match=r"data\.image_size"):
        load_config(config_path, [f"data.image_size={value}"])
