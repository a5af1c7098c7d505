"""Training teachers, and measuring the real images' mean and spread.

Run as a script this file prints the SHA-256 of the weights that `squeeze` trains, for another process.
"""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from prism_ray.config import DataConfig, NetworkConfig, SqueezeConfig
from prism_ray.data import RealImages, open_data
from prism_ray.data.base import ArrayImages
from prism_ray.errors import EngineError
from prism_ray.teachers.build import build_network
from prism_ray.teachers.files import encode_weights
from prism_ray.teachers.squeeze import measure_preprocessing, train
from prism_ray.teachers.training import measure_accuracy

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


def test_a_tiny_network_learns_digits(digits: RealImages) -> None:
    """Would catch training that does not train: labels out of step with images, a dead schedule."""
    network = squeeze(digits, SqueezeConfig(epochs=2, flip=False), seed=0)
    assert measure_accuracy(network, digits, measure_preprocessing(digits, 32), CPU) > 0.9


def test_same_seed_same_bytes_in_every_process(digits: RealImages) -> None:
    """Would catch teachers that depend on the process: hash order, shared generators, work done before."""
    here = digest(squeeze(digits, ONE_EPOCH, seed=3))
    torch.rand(10)
    assert digest(squeeze(digits, ONE_EPOCH, seed=3)) == here
    assert digest(squeeze(digits, ONE_EPOCH, seed=4)) != here
    command = [sys.executable, __file__, "3"]
    there = subprocess.run(command, capture_output=True, text=True, timeout=120)
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


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(digest(squeeze(open_data(DataConfig(source="digits", image_size=32)), ONE_EPOCH, int(sys.argv[1]))))
