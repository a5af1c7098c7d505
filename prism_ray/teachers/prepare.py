"""From a member of the pool to a teacher ready for the store: its weights as bytes, and its card."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from prism_ray.config import NetworkConfig, SqueezeConfig, TeacherConfig
from prism_ray.data import RealImages, Split
from prism_ray.sealed import Checkpoints
from prism_ray.seeds import derive_seed
from prism_ray.teachers.batchnorm import find_batchnorm
from prism_ray.teachers.build import build_network, count_parameters, input_size, network_of
from prism_ray.teachers.cards import SQUEEZED, TeacherCard, encode_weights
from prism_ray.teachers.pretrained import load_pretrained
from prism_ray.teachers.squeeze import measure_preprocessing, train
from prism_ray.teachers.teacher import Preprocessing
from prism_ray.teachers.training import measure_accuracy


@dataclass(frozen=True)
class PreparedTeacher:
    """What is stored of a teacher."""

    weights: bytes  # safetensors
    card: TeacherCard

    @property
    def stats(self) -> dict[str, Any]:
        """Figures for reports."""
        source = self.card.source
        return {
            "arch": self.card.network["arch"] if source == SQUEEZED else source,
            "test_accuracy": self.card.test_accuracy,
            "validation_accuracy": self.card.validation_accuracy,
            "num_parameters": self.card.num_parameters,
            "num_bn_layers": self.card.num_bn_layers,
        }


def prepare_teacher(
    config: TeacherConfig,
    squeeze: SqueezeConfig,
    data: RealImages,
    image_size: int,
    seed: int,
    device: torch.device,
    checkpoints: Checkpoints | None = None,
) -> PreparedTeacher:
    """Squeeze a teacher, or load it if it has weights, and test it on the real test images, if there are any.

    The first weights of a squeezed one are drawn from torch's global generator, which the caller has
    seeded. Raises ConfigError if weights cannot be had or do not fit, EngineError if the loss is not finite.
    """
    key = f"teacher {config.name}"
    num_classes = len(data.class_names)
    has_test_images = len(data.labels["test"]) > 0
    if has_test_images:
        data.check_test_images()
    if config.weights is None:
        bare, num_outputs, source_sha256 = network_of(config), num_classes, None
        preprocessing = squeezed_preprocessing(config, data, image_size, key)
        network = build_network(bare, num_classes, key)
        order_seed = derive_seed(seed, "order")
        train(network, data, preprocessing, squeeze, order_seed, device, checkpoints)
    else:
        loaded = load_pretrained(config, num_classes, image_size, key)
        bare, num_outputs, source_sha256 = loaded.config, loaded.num_outputs, loaded.source_sha256
        network, preprocessing = loaded.network, loaded.preprocessing
        network.to(device).to(memory_format=torch.channels_last)
    indices = config.class_indices
    picked = None if indices is None else torch.tensor(indices, device=device)
    accuracies: dict[Split, float] = {
        split: measure_accuracy(network, data, preprocessing, device, split, picked)
        for split, labels in data.labels.items()
        if split != "train" and len(labels) > 0
    }
    weights = encode_weights(network, preprocessing)
    card = _make_card(config, bare, network, preprocessing, num_outputs, accuracies, weights, source_sha256)
    return PreparedTeacher(weights, card)


def squeezed_preprocessing(
    config: TeacherConfig, data: RealImages, image_size: int, key: str
) -> Preprocessing:
    """Return how a teacher that is squeezed here sees its input: the config's figures, else measured ones."""
    size = input_size(config, image_size, key)
    if config.mean is not None and config.std is not None:
        return Preprocessing(config.mean, config.std, size)
    measured = measure_preprocessing(data, size)
    return Preprocessing(config.mean or measured.mean, config.std or measured.std, size)


def _make_card(
    config: TeacherConfig,
    bare: NetworkConfig,
    network: nn.Module,
    preprocessing: Preprocessing,
    num_outputs: int,
    accuracies: Mapping[Split, float],
    weights: bytes,
    source_sha256: str | None,
) -> TeacherCard:
    return TeacherCard(
        name=config.name,
        network=bare.model_dump(mode="json"),
        num_classes=num_outputs,
        preprocessing=preprocessing,
        num_parameters=count_parameters(network),
        num_bn_layers=len(find_batchnorm(network)),
        test_accuracy=accuracies.get("test"),
        validation_accuracy=accuracies.get("validation"),
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        class_indices=config.class_indices,
        source=SQUEEZED if config.weights is None else config.arch,
        source_sha256=source_sha256,
    )
