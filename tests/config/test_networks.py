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
    assert "two teachers of the pool have the name 'first'" in str(caught.value)
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


@pytest.mark.parametrize(
    ("arch", "weights", "path"),
    [
        ("timm:resnet18", None, None),
        ("timm:resnet18@pretrained", "pretrained", None),
        ("timm:resnet18@a1_in1k", "a1_in1k", None),
        ("torchvision:resnet18@IMAGENET1K_V1", "IMAGENET1K_V1", None),
        ("timm:resnet18@weights/r18", "weights/r18", "weights/r18"),
        ("timm:resnet18@r18.pth", "r18.pth", "r18.pth"),
        ("timm:resnet18@r18.pth#model_ema", "r18.pth#model_ema", "r18.pth#model_ema"),
        ("timm:resnet18@last.ckpt", "last.ckpt", "last.ckpt"),
        ("timm:resnet18@model_best.pth.tar#state_dict", *["model_best.pth.tar#state_dict"] * 2),
        ("torchvision:resnet18@/a b/r@18.safetensors", "/a b/r@18.safetensors", "/a b/r@18.safetensors"),
        ("timm:resnet18@s3://bucket/r18.bin", "s3://bucket/r18.bin", "s3://bucket/r18.bin"),
    ],
)
def test_weights_stand_after_the_architecture(
    config_path: Path, arch: str, weights: str | None, path: str | None
) -> None:
    """A tag taken for a path, a path taken for a tag, or either for a part of the architecture."""
    teacher = load_config(config_path, [f'teachers.pool.1.arch="{arch}"']).teachers.pool[1]
    assert (teacher.weights, teacher.weights_path) == (weights, path)
    assert (teacher.library, teacher.architecture) == (arch.partition(":")[0], "resnet18")
    bare = teacher.without_weights()
    assert bare.arch == arch.partition("@")[0]
    assert bare.kwargs == teacher.kwargs == {"growth_rate": 8}
    if path is not None:
        moved = teacher.with_weights_path("/else/where.pth")
        assert moved.weights_path == "/else/where.pth"
        assert moved.without_weights() == bare


def test_a_student_takes_no_weights(config_path: Path) -> None:
    """A student that is trained already, so that the result says nothing of the distilled images."""
    with pytest.raises(ConfigError) as caught:
        load_config(config_path, ['evaluate.student.arch="timm:resnet18@pretrained"'])
    message = str(caught.value)
    assert "evaluate.student.arch" in message
    assert "'timm:resnet18@pretrained'" in message
    assert "write 'timm:resnet18'" in message


def test_an_at_without_weights_is_refused(config_path: Path) -> None:
    """A variable that was empty, and a teacher that is squeezed though weights were meant."""
    with pytest.raises(ConfigError, match=r"teachers\.pool\.0\.arch.*no weights after the @"):
        load_config(config_path, ['teachers.pool.0.arch="timm:resnet18@"'])


@pytest.mark.parametrize(
    ("entry", "word"),
    [
        ("arch: 'timm:resnet18', weights_by: position", "weights_by"),
        ("arch: 'timm:resnet18@pretrained', weights_by: position", "weights_by"),
        ("arch: 'timm:resnet18', class_indices: [1, 2]", "trained on the data's own classes"),
        ("arch: 'timm:resnet18@x.pth', class_indices: [3, 1, 3]", "output 3 twice"),
        ("arch: 'timm:resnet18@x.pth', class_indices: [-1]", "class_indices"),
        ("arch: 'timm:resnet18', mean: [1, 2]", "mean"),
        ("arch: 'timm:resnet18', std: [0, 1, 1]", "std"),
        ("arch: 'timm:resnet18', input_size: 0", "input_size"),
        ("arch: 'timm:resnet18', input_size: huge", "input_size"),
    ],
)
def test_what_makes_no_sense_is_refused(config_path: Path, entry: str, word: str) -> None:
    """A setting that is read and then ignored."""
    with pytest.raises(ConfigError) as caught:
        load_config(config_path, [f"teachers.pool.0={{name: first, {entry}}}"])
    assert "teachers.pool.0" in str(caught.value)
    assert word in str(caught.value)


def test_settings_of_the_input_are_read(config_path: Path) -> None:
    """A mean that arrives as a list, or a size as text."""
    entry = "{name: first, arch: 'timm:a@b.pth', mean: [0.5, 0.5, 0], std: [1, 2, 3], input_size: own}"
    teacher = load_config(config_path, [f"teachers.pool.0={entry}"]).teachers.pool[0]
    assert (teacher.mean, teacher.std, teacher.input_size) == ((0.5, 0.5, 0.0), (1.0, 2.0, 3.0), "own")
    sized = load_config(config_path, ["teachers.pool.0.input_size=160"]).teachers.pool[0]
    assert (sized.input_size, sized.mean, sized.class_indices) == (160, None, None)
