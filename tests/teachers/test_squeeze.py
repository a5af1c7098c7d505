"""Training teachers, and measuring the real images' mean and spread.

Run as a module this file prints the SHA-256 of the weights that `squeeze` trains, for another process.
"""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from prism_ray.config import DataConfig, NetworkConfig, SqueezeConfig
from prism_ray.data import RealImages, open_data
from prism_ray.data.base import ArrayImages
from prism_ray.errors import EngineError
from prism_ray.teachers import squeeze as squeeze_module
from prism_ray.teachers.build import build_network
from prism_ray.teachers.cards import encode_weights
from prism_ray.teachers.squeeze import augment, measure_preprocessing, one_cycle, train
from prism_ray.teachers.training import measure_accuracy
from tests.kept import Kept

CPU = torch.device("cpu")
RESNET = NetworkConfig(arch="timm:test_resnet")
ONE_EPOCH = SqueezeConfig(epochs=1, flip=False)


def squeeze(data: RealImages, config: SqueezeConfig, seed: int) -> nn.Module:
    """Train a small network from its first weights on."""
    torch.manual_seed(seed)
    network = build_network(RESNET, len(data.class_names), "key")
    train(network, data, measure_preprocessing(data, 32), config, seed, CPU)
    return network


def digest(network: nn.Module) -> str:
    return hashlib.sha256(encode_weights(network)).hexdigest()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_tiny_network_learns_digits(digits: RealImages, precision: str) -> None:
    """Would catch training that does not train: labels out of step with images, a dead schedule."""
    config = SqueezeConfig.model_validate({"epochs": 2, "flip": False, "precision": precision})
    network = squeeze(digits, config, seed=0)
    assert measure_accuracy(network, digits, measure_preprocessing(digits, 32), CPU) > 0.9
    assert all(weight.dtype == torch.float32 for weight in network.parameters())
    exact = squeeze(digits, config.model_copy(update={"precision": "fp32"}), seed=0)
    assert (digest(network) == digest(exact)) == (precision == "fp32")


def test_same_seed_same_bytes_in_every_process(digits: RealImages) -> None:
    """Would catch teachers that depend on the process: hash order, shared generators, work done before."""
    here = digest(squeeze(digits, ONE_EPOCH, seed=3))
    torch.rand(10)
    assert digest(squeeze(digits, ONE_EPOCH, seed=3)) == here
    assert digest(squeeze(digits, ONE_EPOCH, seed=4)) != here
    command = [sys.executable, "-m", "tests.teachers.test_squeeze", "3"]
    root = Path(__file__).parents[2]
    there = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=root)
    assert there.returncode == 0, there.stderr
    assert there.stdout.strip() == here


def test_order_depends_on_the_seed_given(digits: RealImages) -> None:
    """Would catch an order of images that is the same for all teachers, or drawn from a global generator."""
    weights: list[str] = []
    for order_seed in (1, 1, 2):
        torch.manual_seed(0)
        network = build_network(RESNET, 10, "key")
        torch.manual_seed(len(weights))
        np.random.seed(len(weights))
        train(network, digits, measure_preprocessing(digits, 32), ONE_EPOCH, order_seed, CPU)
        weights.append(digest(network))
    assert weights[0] == weights[1] != weights[2]


def test_non_finite_loss_is_an_error(digits: RealImages) -> None:
    """Would catch a teacher of NaN weights being committed, to fail hours later in recover."""
    torch.manual_seed(0)
    network = build_network(RESNET, 10, "key")
    with torch.no_grad():
        next(network.parameters()).fill_(float("nan"))
    with pytest.raises(EngineError, match=r"teachers\.squeeze\.learning_rate"):
        train(network, digits, measure_preprocessing(digits, 32), ONE_EPOCH, 0, CPU)


def test_preprocessing_is_numpys_of_grey_images(digits: RealImages) -> None:
    """Would catch statistics of the test images, of a part of the images, or of the wrong scale."""
    images = digits.read("train", np.arange(len(digits.labels["train"])))
    measured = measure_preprocessing(digits, 32)
    assert measured.size == 32
    assert measured.mean == pytest.approx([(images / 255).mean()] * 3, abs=1e-12)
    assert measured.std == pytest.approx([(images / 255).std()] * 3, abs=1e-12)


def test_preprocessing_is_numpys_of_colour_images(colour_images: RealImages) -> None:
    """Would catch one mean for all channels, or channels in another order."""
    images = colour_images.read("train", np.arange(len(colour_images.labels["train"]))) / 255
    measured = measure_preprocessing(colour_images, 16)
    assert measured.mean == pytest.approx(images.mean(axis=(0, 2, 3)), abs=1e-12)
    assert measured.std == pytest.approx(images.std(axis=(0, 2, 3)), abs=1e-12)


def test_smallest_batch_size_trains() -> None:
    """Would catch a batch of one image, on which BatchNorm fails, at a batch size that the config allows."""
    rng = np.random.default_rng(0)
    labels = np.arange(5, dtype=np.int64) % 3  # five images do not go into pairs
    images = rng.integers(0, 256, (5, 16, 16), dtype=np.uint8)
    data = ArrayImages("few", ("a", "b", "c"), {"train": images}, {"train": labels}, 16)
    smallest = SqueezeConfig.model_json_schema()["properties"]["batch_size"]["minimum"]
    torch.manual_seed(0)
    network = build_network(RESNET, 3, "key")
    config = SqueezeConfig(epochs=1, batch_size=smallest)
    train(network, data, measure_preprocessing(data, 16), config, 0, CPU)


THREE_EPOCHS = SqueezeConfig(epochs=3, batch_size=128, shift=1)
WITH_DROPOUT = NetworkConfig(arch="timm:test_efficientnet", kwargs={"drop_rate": 0.3, "drop_path_rate": 0.2})


@pytest.fixture
def few_digits() -> RealImages:
    """500 digits, 16 x 16."""
    digits = open_data(DataConfig(source="digits", image_size=16))
    images = digits.read("train", np.arange(500))[:, 0]
    return ArrayImages(
        "few", digits.class_names, {"train": images}, {"train": digits.labels["train"][:500]}, 16
    )


def squeeze_few(data: RealImages, checkpoints: Kept, seed: int = 5) -> nn.Module:
    """Train a network with dropout and stochastic depth; torch's generator is elsewhere each time."""
    torch.manual_seed(0)
    network = build_network(WITH_DROPOUT, 10, "key")
    torch.rand(len(checkpoints.data or b"") % 7)
    losses = train(network, data, measure_preprocessing(data, 16), THREE_EPOCHS, seed, CPU, checkpoints)
    network.register_buffer("losses", torch.tensor(losses))  # part of what has to be the same
    return network


def test_a_resumed_squeeze_ends_in_the_same_bytes(few_digits: RealImages) -> None:
    """Would catch moments, the schedule's place, dropout's generator or the order of images being lost."""
    undisturbed = Kept()
    expected = digest(squeeze_few(few_digits, undisturbed))
    assert undisturbed.num_saved == 2
    for epochs in (1, 2):
        cut_off = Kept(interrupt_at=epochs)
        with pytest.raises(KeyboardInterrupt):
            squeeze_few(few_digits, cut_off)
        resumed = Kept(data=cut_off.data)
        assert digest(squeeze_few(few_digits, resumed)) == expected
        assert resumed.num_saved == 2 - epochs  # the epochs done were not done again


def test_a_squeeze_tells_its_loss_and_how_far_it_is(few_digits: RealImages) -> None:
    """Would catch a training of hours without a sign of life, or a loss that is not that of its epoch."""
    kept = Kept()
    network = squeeze_few(few_digits, kept)
    losses = network.get_buffer("losses").tolist()
    assert len(losses) == 3
    assert losses[-1] < losses[0]
    assert [report[:2] for report in kept.reports] == [(step + 1, 12) for step in range(12)]
    assert [report[2]["epoch"] for report in kept.reports] == [1] * 4 + [2] * 4 + [3] * 4
    last_epoch = [report[2]["loss"] for report in kept.reports[8:]]
    assert sum(last_epoch) / 4 == pytest.approx(losses[-1], abs=1e-4)


def test_a_useless_checkpoint_starts_anew(few_digits: RealImages) -> None:
    """Would catch a truncated file that ends the squeeze, or another training's state being gone on from."""
    whole = Kept(interrupt_at=1)
    with pytest.raises(KeyboardInterrupt):
        squeeze_few(few_digits, whole)
    assert whole.data is not None
    expected = digest(squeeze_few(few_digits, Kept()))
    flipped = bytearray(whole.data)
    flipped[-1000] ^= 1
    for data in (b"", b"x", whole.data[:-1], whole.data[:100], bytes(flipped)):
        again = Kept(data=data)
        assert digest(squeeze_few(few_digits, again)) == expected
        assert again.num_saved == 2
    other_seed = Kept(data=whole.data)
    squeeze_few(few_digits, other_seed, seed=6)
    assert other_seed.num_saved == 2
    other_identity = Kept(data=whole.data, identity="other settings")
    squeeze_few(few_digits, other_identity)
    assert other_identity.num_saved == 2


def last_moment(held: dict[str, torch.Tensor]) -> torch.Tensor:
    return held[sorted(name for name in held if name.endswith("exp_avg"))[-1]]


@pytest.mark.parametrize(
    "forge",
    [
        lambda held: held["network.conv_stem.weight"].fill_(float("nan")),
        lambda held: held.update({"network.conv_stem.weight": torch.zeros(1)}),
        lambda held: held.pop("network.conv_stem.weight"),
        lambda held: held.pop("network.bn1.running_mean"),
        lambda held: last_moment(held).fill_(float("inf")),
        lambda held: held["num_epochs"].fill_(3),
        lambda held: held["num_epochs"].fill_(-1),
        lambda held: held.pop("num_epochs"),
    ],
)
def test_a_forged_checkpoint_starts_anew(
    few_digits: RealImages,
    forge: Callable[[dict[str, torch.Tensor]], object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Catches weights of NaN gone on from, a teacher that was not trained to its end, and a KeyError."""
    monkeypatch.setattr(
        "prism_ray.sealed._digest", lambda tensors, identity: torch.zeros(32, dtype=torch.uint8)
    )
    cut_off = Kept(interrupt_at=1)
    with pytest.raises(KeyboardInterrupt):
        squeeze_few(few_digits, cut_off)
    assert cut_off.data is not None
    held = safetensors.torch.load(cut_off.data)
    forge(held)
    again = Kept(data=safetensors.torch.save(held))
    squeeze_few(few_digits, again)
    assert again.num_saved == 2


def test_images_that_do_not_fit_in_memory_give_the_same_bytes(
    few_digits: RealImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch large sets being augmented or ordered in another way than small ones."""
    expected = digest(squeeze_few(few_digits, Kept()))
    monkeypatch.setattr(squeeze_module, "IN_MEMORY_BYTES", 1000)
    assert digest(squeeze_few(few_digits, Kept())) == expected


@pytest.mark.parametrize("num_steps", [1, 2, 3, 4, 10, 57])
def test_one_cycle_is_torchs(num_steps: int) -> None:
    """Would catch a learning rate that never warms up, or that depends on the steps before."""
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], lr=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=num_steps)
    for step in range(num_steps):
        factor, beta = one_cycle(step, num_steps)
        assert 0.1 * factor == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        assert beta == pytest.approx(optimizer.param_groups[0]["betas"][0], rel=1e-9)
        optimizer.step()
        if step + 1 < num_steps:
            schedule.step()


def test_each_image_is_moved_on_its_own() -> None:
    """Would catch rows taken for columns, a border of zeros, or a neighbour's move."""
    images = torch.arange(2 * 3 * 4 * 5, dtype=torch.uint8).reshape(2, 3, 4, 5)
    moves = torch.tensor([[0, 0, 0], [1, -2, 0], [0, 0, 1], [-1, 1, 1]])
    indices = torch.tensor([1, 0, 1, 0])
    moved = augment(images, indices, moves)
    assert moved.dtype == torch.uint8
    for place, (index, (down, right, mirror)) in enumerate(zip(indices, moves.tolist(), strict=True)):
        padded = np.pad(images[index].numpy(), ((0, 0), (2, 2), (2, 2)), mode="edge")
        expected = padded[:, 2 - down : 6 - down, 2 - right : 7 - right]
        if mirror:
            expected = expected[:, :, ::-1]
        assert np.array_equal(moved[place].numpy(), expected)


def test_moves_are_drawn_per_image() -> None:
    """Would catch one move for a whole batch, moves of one side only, or a mirror that was turned off."""
    rng = np.random.default_rng(0)
    order, moves = squeeze_module._draw_epoch(rng, 3000, SqueezeConfig(shift=2), CPU)
    assert sorted(order.tolist()) == list(range(3000))
    assert {tuple(move) for move in moves.tolist()} == {
        (down, right, mirror) for down in range(-2, 3) for right in range(-2, 3) for mirror in (0, 1)
    }
    _, still = squeeze_module._draw_epoch(rng, 100, SqueezeConfig(shift=0, flip=False), CPU)
    assert not still.any()


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(digest(squeeze(open_data(DataConfig(source="digits", image_size=32)), ONE_EPOCH, int(sys.argv[1]))))
