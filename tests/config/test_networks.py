"""`teachers`: names and architectures."""

from pathlib import Path

import pytest

from prism_ray.config import load_config
from prism_ray.errors import ConfigError


@pytest.mark.parametrize("name", ["..", "../x", "a/b", ".hidden", "A", "", "a b", "x" * 65, "-a", "a\n"])
def test_a_teachers_name_is_safe_as_a_folder(config_path: Path, name: str) -> None:
    """A name that leads out of the store, or that two file systems see differently."""
    with pytest.raises(ConfigError, match=r"teachers\.pool\.1\.name"):
        load_config(config_path, [f"teachers.pool.1.name={name!r}".replace("'", '"')])


@pytest.mark.parametrize("name", ["resnet", "resnet_50.v2-a", "0", "x" * 64])
def test_ordinary_names_are_taken(config_path: Path, name: str) -> None:
    """A pattern that refuses what users call their networks."""
    config = load_config(config_path, [f'teachers.pool.1.name="{name}"'])
    assert config.teachers.pool[1].name == name


def test_two_teachers_of_one_name_are_refused(config_path: Path) -> None:
    """Two teachers in one folder of the store, of which the second never trains."""
    with pytest.raises(ConfigError) as caught:
        load_config(config_path, ["teachers.pool.1.name=first"])
    assert "two teachers of the pool are named 'first'" in str(caught.value)
    assert "--set teachers.pool.1.name=first" in str(caught.value)


def test_an_empty_pool_is_refused(config_path: Path) -> None:
    """A run without any teacher fails only when the first batch looks for its primary."""
    with pytest.raises(ConfigError, match=r"teachers\.pool"):
        load_config(config_path, ["teachers.pool=[]"])


@pytest.mark.parametrize("arch", ["resnet18", "hub:resnet18", "timm:", "timm:a/b", "timm:x:y", " timm:a"])
def test_an_architecture_names_its_library(config_path: Path, arch: str) -> None:
    """An architecture that no library builds, found out only on an actor."""
    with pytest.raises(ConfigError, match=r"teachers\.pool\.0\.arch"):
        load_config(config_path, [f'teachers.pool.0.arch="{arch}"'])


def test_kwargs_keep_their_types(config_path: Path) -> None:
    """Arguments that arrive as another type: 8 as 8.0, true as 1, or a list as a tuple."""
    text = "{i: 8, f: 8.0, b: true, s: '8', l: [2, 2], n: null}"
    kwargs = load_config(config_path, [f"teachers.pool.0.kwargs={text}"]).teachers.pool[0].kwargs
    expected = {"i": 8, "f": 8.0, "b": True, "s": "8", "l": [2, 2], "n": None}
    assert kwargs == expected
    assert {k: type(v) for k, v in kwargs.items()} == {k: type(v) for k, v in expected.items()}


def test_kwargs_of_another_shape_are_refused_by_name(config_path: Path) -> None:
    """A nested mapping that no constructor takes, reported without the name of the argument."""
    with pytest.raises(ConfigError, match=r"teachers\.pool\.0\.kwargs\.deep = \{'x': 1\}"):
        load_config(config_path, ["teachers.pool.0.kwargs.deep={x: 1}"])


@pytest.mark.parametrize("name", ["int", "a[0]"])
def test_kwargs_named_like_a_type_are_named_in_the_complaint(config_path: Path, name: str) -> None:
    """The key is taken for pydantic's mark of a union's member and left out of the message."""
    with pytest.raises(ConfigError) as caught:
        load_config(config_path, [f"teachers.pool.0.kwargs={{{name!r}: {{}}}}"])
    assert f"teachers.pool.0.kwargs.{name} = " in str(caught.value)


@pytest.mark.parametrize(
    "override",
    ["batch_size=1", "epochs=0", "learning_rate=0", "learning_rate=.inf", "shift=-1", "weight_decay=-1"],
)
def test_squeeze_settings_have_bounds(config_path: Path, override: str) -> None:
    """A batch of one image, which BatchNorm cannot normalise, or a training of no steps."""
    with pytest.raises(ConfigError, match=rf"teachers\.squeeze\.{override.partition('=')[0]}"):
        load_config(config_path, [f"teachers.squeeze.{override}"])
