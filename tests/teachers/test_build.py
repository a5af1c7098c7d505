"""Networks by name, stems for small images, and the checks of a config's networks."""

import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from prism_ray.config import Config, NetworkConfig, parse_config
from prism_ray.config.networks import TeacherConfig
from prism_ray.errors import ConfigError
from prism_ray.teachers.build import build_network, check_networks, count_parameters, input_size

TEN, TWELVE = (tuple(map(str, range(count))) for count in (10, 12))  # names of classes


def save_weights(arch: str, num_classes: int, path: Path) -> str:
    """Save the first weights of a network; return the architecture with its file."""
    network = build_network(NetworkConfig(arch=arch), num_classes, "key")
    torch.save(network.state_dict(), path)
    return f"{arch}@{path}"


def make_config(
    teacher: dict[str, Any] | None = None,
    student: dict[str, Any] | None = None,
    image_size: int = 32,
    primary: str = "first",
) -> Config:
    """Return a whole config of good networks but for the ones given; `teacher` is number 1 of the pool."""
    good = {"arch": "timm:test_resnet"}
    values = {
        "store": "unused",
        "data": {"source": "digits", "image_size": image_size},
        "teachers": {"pool": [{"name": "first", **good}, {"name": "second", **(teacher or good)}]},
        "recover": {"ipc": 1, "primary": primary},
        "evaluate": {"student": student or good},
    }
    return parse_config(values, "the test")


def build(arch: str, **values: Any) -> nn.Module:
    return build_network(NetworkConfig.model_validate({"arch": arch, **values}), 7, "teachers.pool.1")


@pytest.mark.parametrize("arch", ["timm:resnet18", "torchvision:resnet18", "timm:test_efficientnet"])
def test_networks_of_both_libraries_give_logits(arch: str) -> None:
    """Would catch a network that keeps its 1000 classes, or its library's pretrained weights."""
    torch.manual_seed(0)
    network = build(arch).eval()
    with torch.no_grad():
        assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


def test_weights_are_drawn_from_torchs_generator() -> None:
    """Would catch first weights that do not depend on the seed, or on more than the seed."""
    torch.manual_seed(1)
    first = build("timm:test_resnet").state_dict()
    torch.manual_seed(1)
    again = build("timm:test_resnet").state_dict()
    other = build("timm:test_resnet").state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["conv1.0.weight"], other["conv1.0.weight"])


@pytest.mark.parametrize(
    ("arch", "near"),
    [("timm:resnet81", "timm:resnet18"), ("torchvision:mobilnet_v2", "torchvision:mobilenet_v2")],
)
def test_unknown_architecture_suggests_near_names(arch: str, near: str) -> None:
    """Would catch a bare traceback for a misspelt name, or a suggestion from the other library."""
    with pytest.raises(ConfigError) as caught:
        build(arch)
    message = str(caught.value)
    assert "teachers.pool.1.arch" in message
    assert arch in message
    assert near in message


def test_an_architecture_of_the_other_library_is_unknown() -> None:
    """Would catch the library in the name being ignored."""
    with pytest.raises(ConfigError, match="torchvision has no such model"):
        build("torchvision:test_resnet")


@pytest.mark.parametrize("arch", ["timm:test_resnet", "timm:test_efficientnet", "torchvision:mobilenet_v2"])
@pytest.mark.parametrize("kwargs", [{"widht": 2}, {"num_classes": 3}])
def test_wrong_arguments_name_the_key(arch: str, kwargs: dict[str, int]) -> None:
    """Would catch misspelt arguments that are swallowed, or that end in a traceback without the key."""
    with pytest.raises(ConfigError) as caught:
        build(arch, kwargs=kwargs)
    message = str(caught.value)
    assert "teachers.pool.1" in message
    assert arch in message
    assert next(iter(kwargs)) in message


def test_arguments_reach_the_network() -> None:
    """Would catch kwargs that are read and then forgotten."""
    slim = build("torchvision:mobilenet_v2", kwargs={"width_mult": 0.25})
    assert count_parameters(slim) < count_parameters(build("torchvision:mobilenet_v2")) / 4


def test_parameters_are_counted() -> None:
    """Would catch buffers (running statistics) in the number of parameters."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Linear(4, 2))
    assert count_parameters(network) == 3 * 4 * 9 + 2 * 4 + 4 * 2 + 2


STEMS = {  # architecture: its stem's convolution, its stem's max-pooling
    "timm:resnet18": ("conv1", "maxpool"),
    "torchvision:resnet18": ("conv1", "maxpool"),
    "torchvision:densenet121": ("features.conv0", "features.pool0"),
    "torchvision:shufflenet_v2_x0_5": ("conv1.0", "maxpool"),
    "torchvision:mobilenet_v2": ("features.0.0", None),
    "timm:resnet18d": ("conv1.0", "maxpool"),  # three convolutions in its stem
    "torchvision:vgg11_bn": ("features.0", None),  # its poolings belong to stages, not to a stem
}


@pytest.mark.parametrize("arch", STEMS)
def test_small_stem_changes_the_stem_alone(arch: str) -> None:
    """Would catch a stem that still shrinks small images, and poolings of later stages being taken out."""
    with torch.device("meta"):
        usual, small = build(arch), build(arch, stem="small")
    convolution, pooling = STEMS[arch]
    assert small.get_submodule(convolution).stride == (1, 1)
    if pooling is not None:
        assert isinstance(usual.get_submodule(pooling), nn.MaxPool2d)
        assert isinstance(small.get_submodule(pooling), nn.Identity)
    changed = [
        name
        for (name, before), (other_name, after) in zip(
            usual.named_modules(), small.named_modules(), strict=True
        )
        if name != other_name or before.extra_repr() != after.extra_repr() or type(before) is not type(after)
    ]
    strided = usual.get_submodule(convolution).stride != (1, 1)
    assert changed == [name for name in ((convolution if strided else None), pooling) if name]
    assert usual.state_dict().keys() == small.state_dict().keys()


def test_small_stem_keeps_small_images_large() -> None:
    """Would catch a small stem without effect: 32 pixels must reach the last stage as 4, not as 1."""
    with torch.device("meta"):
        images = torch.empty(1, 3, 32, 32)
        for stem, side in (("imagenet", 1), ("small", 4)):
            network = build("timm:resnet18", stem=stem).eval()
            features = network.get_submodule("layer4")
            shapes: list[torch.Size] = []
            features.register_forward_hook(lambda _, __, output, shapes=shapes: shapes.append(output.shape))
            network(images)
            assert shapes == [(1, 512, side, side)]


def test_stem_of_a_network_without_convolution_is_refused() -> None:
    """Would catch `stem: small` being ignored where it means nothing."""
    from prism_ray.teachers.build import _shrink_stem

    with pytest.raises(ConfigError, match=r"evaluate\.student\.stem"):
        _shrink_stem(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)), "evaluate.student")


def test_good_networks_pass() -> None:
    """Would catch a check that refuses what works: each family of the digits job."""
    teacher = {
        "arch": "timm:densenet121",
        "stem": "small",
        "kwargs": {"growth_rate": 8, "block_config": [2, 2, 2, 2]},
    }
    check_networks(make_config(teacher=teacher, student={"arch": "torchvision:vgg11_bn"}), TEN)


@pytest.mark.parametrize(
    "network",
    [
        {"arch": "timm:convnext_atto"},
        {"arch": "timm:vit_tiny_patch16_224", "kwargs": {"img_size": 32, "patch_size": 8}},
    ],
)
def test_networks_without_batchnorm_are_students_only(network: dict[str, Any]) -> None:
    """Would catch a BN teacher without BatchNorm, which counts in 1/|S| and adds nothing."""
    with pytest.raises(ConfigError) as caught:
        check_networks(make_config(teacher=network), TEN)
    assert "teachers.pool.1.arch" in str(caught.value)
    assert "BatchNorm" in str(caught.value)
    check_networks(make_config(student=network), TEN)


@pytest.mark.parametrize(
    ("arch", "size"),
    [("timm:vit_tiny_patch16_224", 32), ("torchvision:vgg11_bn", 16), ("torchvision:alexnet", 32)],
)
def test_impossible_image_sizes_are_refused(arch: str, size: int) -> None:
    """Would catch a student that is first tried, and fails, after hours of recover."""
    with pytest.raises(ConfigError) as caught:
        check_networks(make_config(student={"arch": arch}, image_size=size), TEN)
    message = str(caught.value)
    assert "evaluate.student.arch" in message
    assert f"{size} x {size}" in message
    assert "data.image_size" in message


@pytest.mark.parametrize(
    "network",
    [
        {"arch": "timm:test_resnet", "kwargs": {"features_only": True}},
        {"arch": "torchvision:lraspp_mobilenet_v3_large", "kwargs": {"weights_backbone": None}},
    ],
)
def test_networks_that_do_not_classify_are_refused(network: dict[str, Any]) -> None:
    """Would catch a traceback about lists or dicts for networks of the libraries that give no logits."""
    with pytest.raises(ConfigError, match=r"evaluate\.student"):
        check_networks(make_config(student=network), TEN)


@pytest.mark.parametrize("arch", ["torchvision:googlenet", "torchvision:inception_v3"])
def test_auxiliary_heads_are_left_out(arch: str) -> None:
    """Would catch these families being refused, or heads whose BatchNorm no image reaches."""
    config = make_config(teacher={"arch": arch}, student={"arch": arch}, image_size=96)
    check_networks(config, TEN)
    with torch.device("meta"):
        names = [name for name, _ in build(arch).named_modules()]
    assert not any(name.startswith(("aux", "Aux")) for name in names)


def test_auxiliary_heads_that_are_asked_for_are_refused() -> None:
    """Would catch a squeeze that fails on a tuple of logits."""
    googlenet = {"arch": "torchvision:googlenet", "kwargs": {"aux_logits": True}}
    with pytest.raises(ConfigError, match=r"evaluate\.student.*aux_logits"):
        check_networks(make_config(student=googlenet), TEN)


def test_networks_that_look_at_values_while_they_are_built_pass() -> None:
    """Would catch a good network refused because its constructor reads numbers from tensors (RegNet)."""
    check_networks(make_config(teacher={"arch": "torchvision:regnet_y_400mf"}), TEN)


def test_check_takes_no_memory_and_no_random_number() -> None:
    """Would catch a check that allocates a large network, or that shifts the seeds of what follows."""
    large = {"arch": "timm:vit_giant_patch14_224", "kwargs": {"img_size": 28}}  # 4 GB of weights
    random_before = torch.get_rng_state()
    peak_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    check_networks(make_config(student=large, image_size=28), TEN)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_before < 1_000_000  # kB
    assert torch.equal(random_before, torch.get_rng_state())


def test_students_are_tried_at_the_size_that_the_primary_sees() -> None:
    """Would catch a student refused for the store's 16 pixels though it trains on the primary's 64."""
    teacher = {"arch": "timm:test_resnet", "input_size": 64}
    student = {"arch": "torchvision:vgg11_bn"}
    check_networks(make_config(teacher, student, image_size=16, primary="second"), TEN)


def test_a_file_of_weights_may_be_gone_once_the_store_has_the_teacher(tmp_path: Path) -> None:
    """Would catch a run that cannot go on because the download folder was cleaned."""
    arch = save_weights("timm:test_resnet", 10, tmp_path / "x.pth")
    config = make_config(teacher={"arch": arch})
    (tmp_path / "x.pth").unlink()
    with pytest.raises(ConfigError, match=r"x\.pth"):
        check_networks(config, TEN)
    check_networks(config, TEN, in_store={config.teachers.pool[1].name})


def test_good_weights_pass(tmp_path: Path) -> None:
    """Would catch weights of more classes than the data has being refused, or their file not being found."""
    arch = save_weights("timm:test_resnet", 12, tmp_path / "x.pth")
    check_networks(make_config(teacher={"arch": arch}), TWELVE)
    check_networks(make_config(teacher={"arch": arch, "class_indices": list(range(10))}), TEN)
    own = {"arch": arch, "class_indices": list(range(10)), "input_size": "own"}
    check_networks(make_config(teacher=own), TEN)


def test_weights_of_a_library_are_checked_without_a_download() -> None:
    """Would catch a check that downloads gigabytes on every actor, or that lets other classes pass."""
    indices = list(range(10))
    for arch in ("torchvision:mobilenet_v2@DEFAULT", "timm:resnet18@a1_in1k", "timm:resnet18@pretrained"):
        check_networks(make_config(teacher={"arch": arch, "class_indices": indices}), TEN)
        with pytest.raises(ConfigError, match=r"teachers\.pool\.1\.class_indices"):
            check_networks(make_config(teacher={"arch": arch}), TEN)


@pytest.mark.parametrize(
    ("indices", "word"), [(None, "12 classes"), (list(range(9)), "9 numbers"), ([*range(9), 12], "output 12")]
)
def test_unclear_classes_are_refused(tmp_path: Path, indices: list[int] | None, word: str) -> None:
    """Would catch labels that silently mean another class to one teacher than to the others."""
    arch = save_weights("timm:test_resnet", 12, tmp_path / "x.pth")
    with pytest.raises(ConfigError) as caught:
        check_networks(make_config(teacher={"arch": arch, "class_indices": indices}), TEN)
    assert "teachers.pool.1" in str(caught.value)
    assert "class_indices" in str(caught.value)
    assert word in str(caught.value)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    """Would catch a file of another architecture, found out only when the actors load it."""
    path = tmp_path / "x.pth"
    save_weights("timm:test_byobnet", 10, path)
    with pytest.raises(ConfigError, match=r"teachers\.pool\.1\.arch.*do not fit test_resnet"):
        check_networks(make_config(teacher={"arch": f"timm:test_resnet@{path}"}), TEN)


def test_a_teacher_is_tried_at_its_own_size(tmp_path: Path) -> None:
    """Would catch a network that cannot take its own input size, blamed on data.image_size."""
    teacher = {"arch": "torchvision:vgg11_bn", "input_size": 16}
    with pytest.raises(ConfigError, match=r"16 x 16 \(teachers\.pool\.1\.input_size\)"):
        check_networks(make_config(teacher=teacher), TEN)
    check_networks(make_config(teacher={**teacher, "input_size": 48}, image_size=16), TEN)
    arch = save_weights("timm:test_resnet", 10, tmp_path / "x.pth")
    assert input_size(TeacherConfig(name="x", arch=arch, input_size="own"), 32, "key") == 160


def test_heads_of_training_do_not_matter_to_a_network_with_weights(tmp_path: Path) -> None:
    """Would catch networks that answer with a tuple in training alone being refused, though none trains."""
    arch = save_weights("torchvision:googlenet", 10, tmp_path / "x.pth")
    network = build_network(
        NetworkConfig(arch="torchvision:googlenet", kwargs={"aux_logits": True}), 10, "key"
    )
    torch.save(network.state_dict(), tmp_path / "x.pth")
    check_networks(make_config(teacher={"arch": arch}, image_size=64), TEN)


@pytest.mark.parametrize(
    "names",
    [
        {"class_to_idx": {str(name): index for index, name in enumerate(reversed(range(10)))}},
        {"idx_to_class": {index: str(name) for index, name in enumerate(reversed(range(10)))}},
        {"classes": [str(name) for name in reversed(range(10))]},
    ],
)
def test_names_of_the_classes_in_a_file_are_compared(tmp_path: Path, names: dict[str, Any]) -> None:
    """Would catch a file that says which output is which class, and a run that takes another one for it."""
    arch = save_weights("timm:test_resnet", 10, tmp_path / "x.pth")
    torch.save({"model": torch.load(tmp_path / "x.pth", weights_only=True), **names}, tmp_path / "x.pth")
    message = r"class '0' is output 9 by its name, and 0 would be used .*class_indices to \[9, 8, 7, 6"
    with pytest.raises(ConfigError, match=message):
        check_networks(make_config(teacher={"arch": arch}), TEN)
    check_networks(make_config(teacher={"arch": arch, "class_indices": list(reversed(range(10)))}), TEN)
    check_networks(make_config(teacher={"arch": arch}), [f"other {name}" for name in TEN])
