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
from prism_ray.teachers.weights import METADATA

SQUEEZED = "squeezed"


@dataclass(frozen=True)
class TeacherCard:
    """teacher.json."""

    name: str
    network: dict[str, Any]  # NetworkConfig as plain data, without the place its weights came from
    num_classes: int  # that the network tells apart: its outputs
    preprocessing: Preprocessing
    num_parameters: int
    num_bn_layers: int
    test_accuracy: float | None  # share in [0, 1] on the real test images; None if there are none
    weights_sha256: str  # of the file in the store
    validation_accuracy: float | None = None  # as test_accuracy, on the images kept back for validation
    class_indices: tuple[int, ...] | None = None  # output for each class of the data; None: the same
    source: str = SQUEEZED  # or where the weights came from, as the config names it
    source_sha256: str | None = None  # of the file the weights came from, if it was one

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "TeacherCard":
        values = json.loads(data)
        shape = values.pop("preprocessing")
        preprocessing = Preprocessing(tuple(shape["mean"]), tuple(shape["std"]), shape["size"])
        indices = values.pop("class_indices", None)
        return cls(
            preprocessing=preprocessing,
            class_indices=None if indices is None else tuple(indices),
            **values,
        )


def encode_weights(network: nn.Module, preprocessing: Preprocessing | None = None) -> bytes:
    """Return a network's state as safetensors, with the mean and std of its input for whoever takes the file
    into another run (`read_weights`).
    """
    state = {name: value.contiguous().cpu() for name, value in network.state_dict().items()}
    if preprocessing is None:
        return safetensors.torch.save(state)
    figures = {"mean": preprocessing.mean, "std": preprocessing.std}
    # One key, because safetensors writes several in any order.
    return safetensors.torch.save(state, {METADATA: json.dumps(figures)})


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
        indices = None
        if card.class_indices is not None:
            if max(card.class_indices) >= card.num_classes:
                raise ValueError(f"class_indices beyond the network's {card.num_classes} outputs")
            indices = torch.tensor(card.class_indices, device=device)
    except torch.OutOfMemoryError:  # no fault of the file's, but a RuntimeError
        raise
    except (StoreError, ConfigError, SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{files.location}: teacher {commit.unit} cannot be loaded: {error}; delete "
            f"commits/{commit.unit}.json, and it is squeezed again"
        ) from error
    return Teacher(card.name, freeze(network, device), card.preprocessing, indices)


def read_card(files: StoreFiles, commit: Commit) -> TeacherCard:
    """Return the card of the teacher that a squeeze unit committed; raises StoreError if it is damaged."""
    try:
        return TeacherCard.from_json(read_part(files, commit.files[1]))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise StoreError(
            f"{files.location}: the card of teacher {commit.unit} is damaged: {error}"
        ) from error
