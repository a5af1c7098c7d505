"""What the libraries say of weights, and how they are had: from a cache, or not at all without a network."""

import time
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
import torchvision

from prism_ray.config import TeacherConfig
from prism_ray.errors import ConfigError
from prism_ray.teachers.library import IMAGENET_MEAN, IMAGENET_STD, describe, load_library_weights

KEY = "teachers.pool.2"
HALF = (0.5, 0.5, 0.5)


def teacher(arch: str, **values: object) -> TeacherConfig:
    return TeacherConfig.model_validate({"name": "x", "arch": arch, **values})


@pytest.mark.parametrize(
    ("arch", "num_classes", "mean", "std", "size"),
    [
        ("torchvision:resnet18@IMAGENET1K_V1", 1000, IMAGENET_MEAN, IMAGENET_STD, 224),
        ("torchvision:inception_v3@DEFAULT", 1000, IMAGENET_MEAN, IMAGENET_STD, 299),
        ("torchvision:efficientnet_v2_s@DEFAULT", 1000, IMAGENET_MEAN, IMAGENET_STD, 384),
        ("timm:resnet18@pretrained", 1000, IMAGENET_MEAN, IMAGENET_STD, 224),
        ("timm:tf_efficientnet_lite0@pretrained", 1000, HALF, HALF, 224),
        ("timm:tf_efficientnetv2_s@in21k", 21843, HALF, HALF, 300),
        ("timm:tf_efficientnet_lite0@x.pth", 1000, HALF, HALF, 224),  # a file: as the architecture's own
        ("torchvision:resnet18@x.pth", 1000, IMAGENET_MEAN, IMAGENET_STD, 224),
        ("timm:test_resnet", 1000, HALF, HALF, 160),
    ],
)
def test_facts_are_the_librarys(
    arch: str, num_classes: int, mean: tuple[float, ...], std: tuple[float, ...], size: int
) -> None:
    """Would catch every network being fed ImageNet's mean, or the size of another set of weights."""
    facts = describe(teacher(arch), KEY)
    assert (facts.num_classes, facts.mean, facts.std, facts.size) == (num_classes, mean, std, size)


@pytest.mark.parametrize(
    ("arch", "word"),
    [
        ("timm:resnet18@a1_in1", "did you mean 'a1_in1k'"),
        ("torchvision:resnet18@IMAGENET1K_V2", "did you mean 'IMAGENET1K_V1'"),
        ("timm:resnet81@pretrained", "did you mean timm:resnet18"),
        ("timm:densenet264d@pretrained", "it has none for this architecture"),
    ],
)
def test_unknown_weights_suggest_known_ones(arch: str, word: str) -> None:
    """Would catch a mistyped tag that is found out by a failed download, or taken for the default."""
    with pytest.raises(ConfigError) as caught:
        describe(teacher(arch), KEY)
    assert f"{KEY}.arch = {arch!r}" in str(caught.value)
    assert word in str(caught.value)


@pytest.fixture
def _without_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No cache, and no way out: a proxy at a port where nobody listens."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)  # its retries take a minute
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))


@pytest.mark.usefixtures("_without_network")
@pytest.mark.parametrize("arch", ["timm:test_resnet@pretrained", "torchvision:mobilenet_v2@DEFAULT"])
def test_a_failed_download_says_what_to_do(arch: str) -> None:
    """Would catch a traceback of a library for want of a network, or a teacher of first weights instead."""
    started = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        load_library_weights(teacher(arch), KEY)
    assert time.monotonic() - started < 30
    message = str(caught.value)
    assert f"{KEY}.arch = {arch!r}" in message
    assert "could not be downloaded" in message
    assert f"{arch.partition('@')[0]}@<path>" in message


def cached(arch: str, folder: Path) -> dict[str, torch.Tensor]:
    """Put weights of torchvision where an earlier download would have put them."""
    torch.manual_seed(0)
    member = torchvision.models.get_model_weights(arch).DEFAULT
    kwargs = {"init_weights": False} if arch == "googlenet" else {}
    state = torchvision.models.get_model(arch, **kwargs).state_dict()
    path = folder / "checkpoints" / member.url.rpartition("/")[2]
    path.parent.mkdir()
    torch.save(state, path)
    return dict(state)


@pytest.mark.usefixtures("_without_network")
@pytest.mark.parametrize("arch", ["mobilenet_v3_small", "googlenet"])
def test_torchvisions_weights_are_loaded(arch: str, tmp_path: Path) -> None:
    """Would catch weights that are named and then not loaded, or auxiliary heads among them."""
    state = cached(arch, tmp_path)
    loaded = load_library_weights(teacher(f"torchvision:{arch}@DEFAULT"), KEY)
    assert loaded.keys() == {name for name in state if not name.startswith("aux")}
    assert all(torch.equal(loaded[name], state[name]) for name in loaded)


@pytest.mark.usefixtures("_without_network")
def test_timms_weights_are_loaded(tmp_path: Path) -> None:
    """Would catch another tag's weights, or arguments that do not reach the network."""
    import timm

    torch.manual_seed(0)
    network = timm.create_model("test_resnet")
    folder = tmp_path / "models--timm--test_resnet.r160_in1k"
    (folder / "snapshots" / "0").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0")
    torch.save(network.state_dict(), folder / "snapshots" / "0" / "pytorch_model.bin")
    loaded = load_library_weights(teacher("timm:test_resnet@r160_in1k"), KEY)
    assert all(torch.equal(loaded[name], value) for name, value in network.state_dict().items())


@pytest.mark.usefixtures("_without_network")
def test_the_socket_limit_is_put_back() -> None:
    """Would catch a process whose other connections, Ray's among them, now end after half a minute."""
    import socket

    with pytest.raises(ConfigError):
        load_library_weights(teacher("torchvision:mobilenet_v2@DEFAULT"), KEY)
    assert socket.getdefaulttimeout() is None
