"""Teachers as files: weights as safetensors, and a card (JSON) with all that is needed to use them."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import safetensors.torch
import torch
from pydantic import ConfigDict
from safetensors import SafetensorError
from torch import Tensor, nn

from prism_ray.config import NetworkConfig, TeacherConfig
from prism_ray.errors import ConfigError
from prism_ray.store import Commit, StoreFiles, read_part
from prism_ray.store.records import FINITE, FORMAT, MAX_RECORD_BYTES, Count, decode_record
from prism_ray.store.remedy import unfit
from prism_ray.teachers.build import build_network, build_without_memory
from prism_ray.teachers.library import network_of
from prism_ray.teachers.teacher import Preprocessing, Teacher, freeze
from prism_ray.teachers.weights import METADATA, shapes_of

SQUEEZED = "squeezed"
_UNUSABLE = (ConfigError, SafetensorError, RuntimeError, ValueError, LookupError, TypeError, ArithmeticError)


@dataclass(frozen=True)
class TeacherCard:
    """The contents of teacher.json."""

    __pydantic_config__: ClassVar[ConfigDict] = FINITE

    name: str
    network: dict[str, Any]  # NetworkConfig as plain data, without the source of its weights
    num_classes: Count  # of the network: its outputs
    preprocessing: Preprocessing
    num_parameters: int
    num_bn_layers: int
    test_accuracy: float | None  # share in [0, 1] of the real test images; None if there are none
    weights_sha256: str  # of the file in the store
    validation_accuracy: float | None = None  # the same for the validation images
    class_indices: tuple[Count, ...] | None = None  # output for each class of the data; None: the same
    source: str = SQUEEZED  # or `arch` of the config, which names the source of the weights
    source_sha256: str | None = None  # of the file that the weights came from, if there was one
    source_network: str | None = None  # key of the network in that file; None: the file is one network
    train_losses: tuple[float, ...] = ()  # mean of each epoch of squeeze; earlier versions kept none
    format: int = FORMAT

    def to_json(self) -> bytes:
        values = asdict(self)
        del values["format"]  # 1 where none stands
        if self.source_network is None:
            del values["source_network"]
        if not self.train_losses:
            del values["train_losses"]
        return json.dumps(values, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "TeacherCard":
        """Read what `to_json` returned; raises ValueError if `data` is anything else."""
        card = decode_record(cls, data, "the card of a teacher")
        figures = (*card.preprocessing.mean, *card.preprocessing.std)
        if not all(map(math.isfinite, figures)) or min(card.preprocessing.std) <= 0.0:
            raise ValueError(f"preprocessing: mean and std are {figures}")
        if card.class_indices is not None and max(card.class_indices, default=0) >= card.num_classes:
            raise ValueError(f"class_indices beyond the network's {card.num_classes} outputs")
        return card

    def check_against(self, config: TeacherConfig, image_size: int) -> None:
        """Raise ValueError if the network or its input size differ from those of a run's config."""
        if NetworkConfig.model_validate(self.network) != network_of(config):
            raise ValueError(f"network: it is not {config.arch} as the config has it")
        size = image_size if config.input_size == "run" else config.input_size
        if size not in ("own", self.preprocessing.size):
            raise ValueError(f"preprocessing.size = {self.preprocessing.size}: the config has another")


def encode_weights(network: nn.Module, preprocessing: Preprocessing | None = None) -> bytes:
    """Return a network's state as safetensors.

    The mean and std of its input are added to the metadata, for runs that use the file as weights.
    """
    state = {name: value.contiguous().cpu() for name, value in network.state_dict().items()}
    if preprocessing is None:
        return safetensors.torch.save(state)
    figures = {"mean": preprocessing.mean, "std": preprocessing.std}
    # One key, because safetensors writes several keys in any order.
    return safetensors.torch.save(state, {METADATA: json.dumps(figures)})


def load_teacher(files: StoreFiles, commit: Commit, device: torch.device) -> Teacher:
    """Load the teacher that a squeeze unit committed; draws nothing from torch's global generator.

    Raises StoreError if a file is damaged or does not fit its architecture.
    """
    card = read_card(files, commit)
    key = f"teacher {card.name}"
    data = read_part(files, commit.files[0])
    try:
        network_config = NetworkConfig.model_validate(card.network)
        weights = safetensors.torch.load(data)
        del data
        _check_shapes(weights, build_without_memory(network_config, card.num_classes, key))
        with torch.random.fork_rng(devices=[]):  # the initial weights are overwritten at once
            network = build_network(network_config, card.num_classes, key)
        network.load_state_dict(weights)
        indices = None if card.class_indices is None else torch.tensor(card.class_indices, device=device)
    except torch.OutOfMemoryError:  # a RuntimeError, but not a fault of the file
        raise
    except _UNUSABLE as error:
        raise unfit(files, commit.unit, error) from error
    return Teacher(card.name, freeze(network, device), card.preprocessing, indices)


def _check_shapes(weights: Mapping[str, Tensor], network: nn.Module) -> None:
    """Raise ValueError if weights do not fit a network, before memory is taken for it."""
    expected, found = shapes_of(network.state_dict()), shapes_of(weights)
    for name in sorted(expected.keys() | found.keys()):
        if found.get(name) != expected.get(name):
            raise ValueError(
                f"{name!r} has the shape {found.get(name)} in the file, and {expected.get(name)} in the "
                "network that its card names"
            )
    for name, value in weights.items():
        if not torch.isfinite(value).all():
            raise ValueError(f"{name!r} has values that are not finite")


def read_card(files: StoreFiles, commit: Commit) -> TeacherCard:
    """Return the card of the teacher that a squeeze unit committed; raises StoreError if it is damaged."""
    try:
        if len(commit.files) != 2:
            raise ValueError(f"its commit names {len(commit.files)} files, not weights and card")
        return TeacherCard.from_json(read_part(files, commit.files[1], MAX_RECORD_BYTES))
    except ValueError as error:
        raise unfit(files, commit.unit, f"its card is damaged: {error}") from error
