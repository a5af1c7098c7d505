"""Teachers as files: weights as safetensors, and a card (JSON) that says all that is needed to use them."""

import json
from dataclasses import asdict, dataclass
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from prism_ray.config import NetworkConfig
from prism_ray.errors import ConfigError, StoreError
from prism_ray.store import Commit, StoreFiles, read_part
from prism_ray.teachers.build import build_network
from prism_ray.teachers.teacher import Preprocessing, Teacher, freeze


@dataclass(frozen=True)
class TeacherCard:
    """teacher.json."""

    name: str
    network: dict[str, Any]  # NetworkConfig as plain data
    num_classes: int
    preprocessing: Preprocessing
    num_parameters: int
    num_bn_layers: int
    test_accuracy: float  # share in [0, 1] on the real test images, after the last epoch
    weights_sha256: str

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "TeacherCard":
        values = json.loads(data)
        shape = values.pop("preprocessing")
        preprocessing = Preprocessing(tuple(shape["mean"]), tuple(shape["std"]), shape["size"])
        return cls(preprocessing=preprocessing, **values)


def encode_weights(network: nn.Module) -> bytes:
    """Return a network's state as safetensors."""
    state = {name: value.contiguous().cpu() for name, value in network.state_dict().items()}
    return safetensors.torch.save(state)


def load_teacher(files: StoreFiles, commit: Commit, device: torch.device) -> Teacher:
    """Load the teacher that a squeeze unit committed; draws nothing from torch's global generator.

    Raises StoreError if a file is damaged or does not fit its architecture.
    """
    weights_part, card_part = commit.files
    try:
        card = TeacherCard.from_json(read_part(files, card_part))
        network_config = NetworkConfig.model_validate(card.network)
        with torch.random.fork_rng(devices=[]):  # its first weights are overwritten at once
            network = build_network(network_config, card.num_classes, f"teacher {card.name}")
        network.load_state_dict(safetensors.torch.load(read_part(files, weights_part)))
    except (StoreError, ConfigError, SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{files.location}: teacher {commit.unit} cannot be loaded: {error}; delete "
            f"commits/{commit.unit}.json, and it is squeezed again"
        ) from error
    return Teacher(card.name, freeze(network, device), card.preprocessing)
