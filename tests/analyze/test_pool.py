"""The figures of the teacher pool, against networks whose figures are known."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from prism_ray.analyze.pool import (
    LiveStorages,
    count_flops,
    measure_pool,
    measure_step_bytes,
    time_step,
)
from prism_ray.analyze.pool_table import PoolFigures, print_pool
from prism_ray.config import Config, SqueezeConfig, load_config
from prism_ray.data import open_data
from prism_ray.store import Commit, StoreFiles, write_commit, write_part
from prism_ray.teachers.build import build_network
from prism_ray.teachers.prepare import prepare_teacher
from prism_ray.teachers.teacher import freeze

CPU = torch.device("cpu")
POOL = "teachers.pool=[{name: resnet, arch: timm:test_resnet}, {name: byobnet, arch: timm:test_byobnet}]"


@pytest.fixture
def config(digits_config: Path, tmp_path: Path) -> Config:
    return load_config(digits_config, [POOL], str(tmp_path / "run"))


def test_live_storages_are_added_up() -> None:
    """Would catch freed tensors that still count, views that count twice, or weights that count at all."""
    weight = torch.ones(1000)
    with LiveStorages() as live:
        one = weight + 1  # 4000 bytes
        assert live.live_bytes == 4000
        two = one.view(10, 100)[2:]
        assert live.live_bytes == 4000
        same = weight[:500]
        assert live.live_bytes == 4000
        three = two * 2  # 3200
        assert live.live_bytes == 7200
        del one, two
        assert live.live_bytes == 3200
        three.add_(1)
        assert live.live_bytes == 3200
        del three, same
        assert live.live_bytes == 0
    assert live.peak_bytes == 7200


def test_tensors_that_only_the_graph_holds_count() -> None:
    """Would catch activations, which are nearly all of a step's memory, being lost when Python lets go."""
    pixels = torch.ones(1000, requires_grad=True)
    with LiveStorages() as live:
        value = pixels
        for _ in range(10):
            value = value.exp()  # keeps its result for the way back
        assert live.live_bytes == 40_000
        loss = value.sum()
        del value
        assert live.live_bytes == 40_004
        torch.autograd.grad(loss, pixels)
        del loss
        assert live.live_bytes == 0


def test_a_deeper_network_takes_what_its_layers_keep() -> None:
    """Would catch a peak that is that of the forward pass without a graph, or of one image."""

    class Exponentials(nn.Module):
        def __init__(self, depth: int) -> None:
            super().__init__()
            self.depth = depth
            self.head = nn.Linear(3 * 8 * 8, 2)

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(self.depth):
                x = (-x).exp()
            return self.head(x.flatten(1))

    images = torch.rand(4, 3, 8, 8)
    shallow, deep = (measure_step_bytes(freeze(Exponentials(depth), CPU), images) for depth in (10, 30))
    assert deep - shallow == 20 * images.nbytes


def test_flops_are_those_of_the_layers() -> None:
    """Would catch multiply-adds counted once, or a batch for an image."""
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 16, 5))
    assert count_flops(network, torch.rand(1, 3, 4, 4)) == 2 * (16 * 8 * 27 + 8 * 16 * 5)


def test_a_step_leaves_no_trace() -> None:
    """Would catch hooks that stay, running statistics that move, or gradients of weights."""
    network = freeze(build_network_of("timm:test_resnet"), CPU)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images = torch.rand(2, 3, 32, 32)
    assert time_step(network, images, 1) > 0
    assert measure_step_bytes(network, images) > images.nbytes
    assert not images.requires_grad
    assert not any(module._forward_pre_hooks for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def build_network_of(arch: str) -> nn.Module:
    from prism_ray.config import NetworkConfig

    return build_network(NetworkConfig(arch=arch), 10, "key")


def test_figures_of_a_pool_without_a_store(config: Config) -> None:
    """Would catch a command that needs a squeeze first, or that moves the seeds of what follows."""
    random_before = torch.get_rng_state()
    figures = measure_pool(config, 10, None, CPU, batch_size=2, num_repeats=1)
    assert torch.equal(torch.get_rng_state(), random_before)
    assert [network.name for network in figures.networks] == ["resnet", "byobnet"]
    for network in figures.networks:
        assert network.size == 32
        assert min(network.num_parameters, network.num_bn_layers, network.flops, network.step_bytes) > 0
        assert network.step_seconds > 0
        assert network.test_accuracy is None
        assert network.weights_sha256 is None


def store_teacher(config: Config, name: str) -> str:
    """Squeeze a teacher for a moment and commit it as a worker does; return its weights' hash."""
    data = open_data(config.data)
    prepared = prepare_teacher(
        config.teacher(name), SqueezeConfig(epochs=1, batch_size=512), data, 32, 0, CPU
    )
    files = StoreFiles(config.store)
    weights = write_part(files, lambda attempt: f"teachers/{name}/w-{attempt}", prepared.weights)
    card = write_part(files, lambda attempt: f"teachers/{name}/t-{attempt}", prepared.card.to_json())
    write_commit(files, Commit(f"squeeze/{name}", "", (weights, card), prepared.stats, 0.0, "", ""))
    return weights.sha256


def test_accuracy_and_weights_come_from_the_store(config: Config) -> None:
    """Would catch a stored teacher's accuracy shown for another network of the same name."""
    digest = store_teacher(config, "resnet")
    files = StoreFiles(config.store)
    figures = measure_pool(config, 10, files, CPU, batch_size=2, num_repeats=1)
    resnet, byobnet = figures.networks
    assert resnet.weights_sha256 == digest
    assert resnet.test_accuracy is not None
    assert byobnet.weights_sha256 is None
    other = config.teacher("byobnet").model_copy(update={"name": "resnet"})
    pool = config.teachers.model_copy(update={"pool": (other,)})
    changed = config.model_copy(update={"teachers": pool})
    (renamed,) = measure_pool(changed, 10, files, CPU, batch_size=2, num_repeats=1).networks
    assert renamed.weights_sha256 is None
    assert renamed.test_accuracy is None


def test_networks_with_weights_are_measured_without_a_download(digits_config: Path) -> None:
    """Would catch a look at the pool that fetches gigabytes, or measures a network of too few outputs."""
    entry = "{name: resnet, arch: 'timm:test_resnet@pretrained', input_size: own, class_indices: [1, 2]}"
    config = load_config(digits_config, [f"teachers.pool=[{entry}]"])
    (network,) = measure_pool(config, 2, None, CPU, batch_size=1, num_repeats=1).networks
    assert network.size == 160
    own = load_config(digits_config, ["teachers.pool=[{name: resnet, arch: timm:test_resnet}]"])
    (small,) = measure_pool(own, 2, None, CPU, batch_size=1, num_repeats=1).networks
    assert network.num_parameters - small.num_parameters == 998 * 97  # 96 features and a bias per output


def test_the_table_and_the_json_say_the_same(config: Config) -> None:
    """Would catch a column in another unit than its title, or JSON that a script cannot read."""
    figures = measure_pool(config, 10, None, CPU, batch_size=2, num_repeats=1)
    first = replace(
        figures.networks[0],
        num_parameters=12_345,
        flops=6_700_000,
        step_seconds=0.00123,
        step_bytes=3 * 2**20,
        test_accuracy=0.9123,
        weights_sha256="ab" * 32,
    )
    figures = PoolFigures("cpu", 2, 1, (first, figures.networks[1]))
    text = io.StringIO()
    print_pool(figures, Console(file=text, width=160))
    row = next(line for line in text.getvalue().splitlines() if line.startswith("resnet"))
    for word in ("12,345", "6.7", "1.23", " 3 ", "91.23 %", "abababababab"):
        assert word in row
    other = next(line for line in text.getvalue().splitlines() if line.startswith("byobnet"))
    assert other.rstrip().endswith("-")
    values = json.loads(json.dumps(figures.to_json()))
    assert values["networks"][0]["step_bytes"] == 3 * 2**20
    assert values["batch_size"] == 2
