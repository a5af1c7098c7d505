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
        "relabel.mixup_alpha=-0.1",
        "relabel.mixup_alpha=true",
        "relabel.crop_scale=[1.0, 0.25]",
        "relabel.crop_scale=[0.0, 1.0]",
        "relabel.crop_scale=[0.5, 1.5]",
        "relabel.crop_scale=[0.5]",
        "relabel.flip=1",
        "evaluate.num_students=0",
        "evaluate.batch_size=0",
        "evaluate.learning_rate=0",
        "evaluate.weight_decay=-1",
        "evaluate.ce_weight=-1",
        "evaluate.student.arch=resnet18",
        "relabel.ensemble=median",
        "relabel.teacher_batch_norm=frozen",
        "relabel.teacher_batch_size=2",
        "relabel.patch_shuffle=2",
        "relabel.rand_augment=rand-m9",
        "evaluate.split=train",
        "evaluate.labels=online",
        "evaluate.loss=ce",
        "evaluate.temperature=0",
        "evaluate.cosine_stretch=0",
        "evaluate.linear_tail=1",
        "evaluate.ema_decay=1",
    ],
)
def test_values_out_of_bounds_are_refused_by_name(config_path: Path, override: str) -> None:
    """A run of zero epochs, a negative weight or an impossible crop that starts all the same."""
    key = override.partition("=")[0]
    with pytest.raises(ConfigError) as caught:
        load_config(config_path, [override])
    assert f"--set {override}: {key}" in str(caught.value)


def test_an_unknown_protocol_is_refused_with_those_there_are(config_path: Path) -> None:
    """A misspelt protocol whose defaults are another's."""
    with pytest.raises(ConfigError, match=r"'fkd' is not a protocol; set one of prism, sre2l, .*, rded"):
        load_config(config_path, ["evaluate.protocol=fkd"])


def test_no_cutmix_no_cross_entropy_and_no_average_are_allowed(config_path: Path) -> None:
    """A bound that takes zero, which switches a term off, for a mistake."""
    overrides = ["relabel.cutmix_alpha=0", "evaluate.ce_weight=0", "evaluate.ema_decay=0"]
    config = load_config(config_path, overrides)
    (evaluation,) = config.evaluations.values()
    assert (config.relabel.cutmix_alpha, evaluation.ce_weight, evaluation.ema_decay) == (0.0, 0.0, 0.0)
