"""Teachers with weights: what is loaded is what the file holds, ready for the store."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from prism_ray.config import NetworkConfig, TeacherConfig
from prism_ray.errors import ConfigError
from prism_ray.teachers.build import build_network
from prism_ray.teachers.pretrained import load_pretrained
from prism_ray.teachers.teacher import Preprocessing

KEY = "teachers.pool.0"
HALF = (0.5, 0.5, 0.5)


def trained(arch: str, num_classes: int, **values: Any) -> nn.Module:
    """Return a network whose statistics are not those of a fresh one."""
    torch.manual_seed(7)
    network = build_network(NetworkConfig(arch=arch, **values), num_classes, "key").train()
    with torch.no_grad():
        network(torch.rand(4, 3, 64, 64))
    return network.eval()


def load(arch: str, path: Path, num_classes: int = 10, **values: Any) -> Any:
    config = TeacherConfig.model_validate({"name": "x", "arch": f"{arch}@{path}", **values})
    return load_pretrained(config, num_classes, 32, KEY)


@pytest.mark.parametrize(
    "arch", ["timm:test_resnet", "torchvision:shufflenet_v2_x0_5", "torchvision:googlenet"]
)
def test_a_files_network_answers_as_before(arch: str, tmp_path: Path) -> None:
    """Would catch tensors in wrong places, statistics left out, or a network in training mode."""
    network = trained(arch, 13)
    path = tmp_path / "x.pth"
    torch.save({"model": {f"module.{name}": value for name, value in network.state_dict().items()}}, path)
    random_before = torch.get_rng_state()
    loaded = load(arch, path, class_indices=[12, *range(9)])
    assert torch.equal(torch.get_rng_state(), random_before)
    assert loaded.num_outputs == 13
    assert loaded.config == NetworkConfig(arch=arch)
    assert loaded.file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not loaded.network.training
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded.network(x), network(x))


def test_names_of_another_library_are_matched_by_position(tmp_path: Path) -> None:
    """Would catch weights of PyPI packages, whose names are their own, being of no use."""
    network = trained("timm:test_resnet", 10)
    state = {f"_other.{number}": value for number, value in enumerate(network.state_dict().values())}
    state = {name: value for name, value in state.items() if value.dim()}
    path = tmp_path / "x.pth"
    torch.save(state, path)
    with pytest.raises(ConfigError, match="weights_by: position would take them"):
        load("timm:test_resnet", path)
    loaded = load("timm:test_resnet", path, weights_by="position")
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded.network(x), network(x))


def test_the_input_is_the_librarys_unless_the_config_says_otherwise(tmp_path: Path) -> None:
    """Would catch a network fed with another mean, spread or size than it was trained on."""
    path = tmp_path / "x.pth"
    torch.save(trained("timm:test_resnet", 10).state_dict(), path)
    assert load("timm:test_resnet", path).preprocessing == Preprocessing(HALF, HALF, 32)
    assert load("timm:test_resnet", path, input_size="own").preprocessing.size == 160
    own = load("timm:test_resnet", path, mean=[0.1, 0.2, 0.3], input_size=48).preprocessing
    assert own == Preprocessing((0.1, 0.2, 0.3), HALF, 48)


def test_the_stem_of_a_loaded_network_can_be_changed(tmp_path: Path) -> None:
    """Would catch `stem: small` being ignored for networks with weights."""
    path = tmp_path / "x.pth"
    network = trained("timm:resnet18", 10, stem="small", kwargs={"block_args": None})
    torch.save(network.state_dict(), path)
    loaded = load("timm:resnet18", path, stem="small")
    assert loaded.config.stem == "small"
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded.network(x), network(x))


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    """Would catch a teacher of NaN, found out hours later in recover."""
    state = trained("timm:test_resnet", 10).state_dict()
    next(iter(state.values()))[0] = float("inf")
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(ConfigError, match="not finite"):
        load("timm:test_resnet", tmp_path / "x.pth")


def test_other_classes_than_the_datas_need_indices(tmp_path: Path) -> None:
    """Would catch the first ten of a thousand outputs being taken for the data's classes."""
    path = tmp_path / "x.pth"
    torch.save(trained("timm:test_resnet", 13).state_dict(), path)
    with pytest.raises(ConfigError, match=r"distinguishes 13 classes, .* has 10; set .*class_indices"):
        load("timm:test_resnet", path)


def test_torchvisions_inception_keeps_its_own_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Would catch weights that expect their input shifted by the network being stored without that shift."""
    from torchvision.models import GoogLeNet_Weights, googlenet

    torch.manual_seed(0)
    usual = googlenet(transform_input=True, aux_logits=True, init_weights=False)
    path = tmp_path / "checkpoints" / GoogLeNet_Weights.DEFAULT.url.rpartition("/")[2]
    path.parent.mkdir()
    torch.save(usual.state_dict(), path)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    config = TeacherConfig(
        name="x", arch="torchvision:googlenet@DEFAULT", class_indices=(3, 5), input_size="own"
    )
    loaded = load_pretrained(config, 2, 32, KEY)
    assert loaded.config.kwargs["transform_input"] is True
    assert loaded.preprocessing.size == 224
    assert loaded.file is None
    rebuilt = build_network(loaded.config, 1000, "key")
    rebuilt.load_state_dict(loaded.network.state_dict())
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(rebuilt.eval()(x), usual.eval()(x))
