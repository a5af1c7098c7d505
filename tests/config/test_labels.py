"""`relabel` and `evaluate`: bounds of the settings."""

from pathlib import Path

import pytest

from prism_ray.config import load_config
from prism_ray.errors import ConfigError


@pytest.mark.parametrize(
    "override",
    [
        "relabel.epochs=0",
        "relabel.images_per_group=0",
        "relabel.epochs_per_unit=0",
        "relabel.cutmix_alpha=-0.1",
        "relabel.cutmix_alpha=.inf",
        "relabel.crop_scale=[1.0, 0.25]",
        "relabel.crop_scale=[0.0, 1.0]",
        "relabel.crop_scale=[0.5, 1.5]",
        "relabel.crop_scale=[0.5]",
        "relabel.flip=1",
        "evaluate.seeds=0",
        "evaluate.batch_size=0",
        "evaluate.learning_rate=0",
        "evaluate.weight_decay=-1",
        "evaluate.ce_weight=-1",
        "evaluate.protocol=fkd",
        "evaluate.student.arch=resnet18",
    ],
)
def test_values_out_of_bounds_are_refused_by_name(config_path: Path, override: str) -> None:
    """A run of zero epochs, a negative weight or an impossible crop that starts all the same."""
    key = override.partition("=")[0]
    with pytest.raises(ConfigError) as caught:
        load_config(config_path, [override])
    assert f"--set {override}: {key}" in str(caught.value)


def test_no_cutmix_and_no_cross_entropy_are_allowed(config_path: Path) -> None:
    """A bound that takes zero, which switches a term off, for a mistake."""
    config = load_config(config_path, ["relabel.cutmix_alpha=0", "evaluate.ce_weight=0"])
    assert (config.relabel.cutmix_alpha, config.evaluate.ce_weight) == (0.0, 0.0)
