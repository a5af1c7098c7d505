"""The whole config: teachers that other sections name, and the lists derived from them."""

from pathlib import Path

import pytest

from prism_ray.config import Config, RecoverConfig, load_config
from prism_ray.errors import ConfigError


def candidates(config: Config) -> tuple[str, ...]:
    """Return who may be drawn for the one image set of a config that names none."""
    distilled = config.image_sets["distilled"]
    assert isinstance(distilled, RecoverConfig)
    return config.candidates(distilled)


THIRD = 'teachers.pool=[{name: c, arch: "timm:x"}, {name: a, arch: "timm:y"}, {name: b, arch: "timm:z"}]'


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("recover.primary=third", "recover.primary names 'third'"),
        ("recover.selection.bn_teachers=[first, third]", "recover.selection.bn_teachers names 'third'"),
        ("relabel.teachers=[third]", "relabel.teachers names 'third'"),
    ],
)
def test_a_teacher_outside_the_pool_is_refused(config_path: Path, override: str, complaint: str) -> None:
    """A name that nobody trains, found out hours later when its weights are missing."""
    with pytest.raises(ConfigError) as caught:
        load_config(config_path, [override])
    message = str(caught.value)
    assert f"{complaint}, which is not in teachers.pool (first, second)" in message
    assert f"{config_path} with --set {override}" in message


@pytest.mark.parametrize("key", ["recover.selection.bn_teachers", "relabel.teachers"])
def test_a_teacher_named_twice_is_refused(config_path: Path, key: str) -> None:
    """A teacher that counts twice in the ensemble or in the draws."""
    with pytest.raises(ConfigError, match=f"{key} names 'second' twice"):
        load_config(config_path, [f"{key}=[second, second]"])


def test_extra_teachers_are_the_rest_of_the_pool_in_its_order(config_path: Path) -> None:
    """The primary among its own extras, or an order that depends on how the user listed them."""
    config = load_config(config_path, [THIRD, "recover.primary=a"])
    assert candidates(config) == ("c", "b")
    config = load_config(config_path, [THIRD, "recover.primary=a", "recover.selection.bn_teachers=[b, a, c]"])
    assert candidates(config) == ("c", "b")
    config = load_config(config_path, [THIRD, "recover.primary=a", "recover.selection.bn_teachers=[b]"])
    assert candidates(config) == ("b",)


def test_no_extra_teachers_means_none(config_path: Path) -> None:
    """An empty list taken for a list not given: the whole pool would join the alignment."""
    assert candidates(load_config(config_path, ["recover.selection.bn_teachers=[]"])) == ()


def test_label_teachers_are_the_named_ones_or_the_pool(config_path: Path) -> None:
    """Labels by other teachers than asked for."""
    assert load_config(config_path).label_teachers == ("first", "second")
    assert load_config(config_path, ["relabel.teachers=[second]"]).label_teachers == ("second",)


def test_an_empty_label_ensemble_is_refused(config_path: Path) -> None:
    """An empty list silently taken for the whole pool: labels by teachers the user asked to leave out."""
    with pytest.raises(ConfigError, match=r"relabel\.teachers"):
        load_config(config_path, ["relabel.teachers=[]"])


def test_a_teacher_is_found_by_name(config_path: Path) -> None:
    """The wrong architecture for a name."""
    config = load_config(config_path)
    assert config.teacher("second").arch == "timm:densenet121"
