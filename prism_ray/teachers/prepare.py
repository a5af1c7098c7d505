"""The preparation of a member of the pool for the store: its weights as bytes, and its card."""

import hashlib
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from prism_ray.config import SqueezeConfig, TeacherConfig
from prism_ray.data import RealImages, Split
from prism_ray.sealed import Checkpoints
from prism_ray.seeds import derive_seed
from prism_ray.teachers.answers import Indices, check_answers, sample_images
from prism_ray.teachers.batchnorm import find_batchnorm
from prism_ray.teachers.build import build_network, count_parameters, input_size
from prism_ray.teachers.cards import SQUEEZED, TeacherCard, encode_weights
from prism_ray.teachers.class_order import check_names, check_names_of_file
from prism_ray.teachers.library import network_of
from prism_ray.teachers.precision import prepared
from prism_ray.teachers.pretrained import PretrainedNetwork, load_pretrained
from prism_ray.teachers.squeeze import measure_preprocessing, train
from prism_ray.teachers.teacher import Preprocessing, channels_last
from prism_ray.teachers.training import classify, measure_accuracy

_REPORTED = ("test_accuracy", "validation_accuracy", "num_parameters", "num_bn_layers")


@dataclass(frozen=True)
class PreparedTeacher:
    """The weights and the card of a teacher, to be stored."""

    weights: bytes  # safetensors
    card: TeacherCard
    note: str = ""  # for the log

    @property
    def stats(self) -> dict[str, Any]:
        """Figures for reports."""
        source = self.card.source
        arch = self.card.network["arch"] if source == SQUEEZED else source
        note = {"note": self.note} if self.note else {}
        return {"arch": arch} | {name: getattr(self.card, name) for name in _REPORTED} | note


def prepare_teacher(
    config: TeacherConfig,
    squeeze: SqueezeConfig,
    data: RealImages,
    image_size: int,
    seed: int,
    device: torch.device,
    checkpoints: Checkpoints | None = None,
    check_accuracy: bool = True,
) -> PreparedTeacher:
    """Squeeze a teacher, or load it if it has weights, and test it on the real test and validation images.

    The caller has seeded torch's global generator for the initial weights of a squeezed teacher. Raises
    ConfigError if weights cannot be loaded or do not fit, or if `check_accuracy` is set and they are of other
    classes or of another order of the classes; EngineError if the loss is not finite.
    """
    key = f"teacher {config.name}"
    num_classes = len(data.class_names)
    data.check_test_images()
    losses: tuple[float, ...] = ()
    indices, note = config.class_indices, ""
    picked = None if indices is None else torch.tensor(indices, device=device)
    if config.weights is None:
        size = input_size(config, image_size, key)
        mean, std = config.mean, config.std
        if mean is None or std is None:
            measured = measure_preprocessing(data, size)
            mean, std = mean or measured.mean, std or measured.std
        bare = network_of(config)
        network = build_network(bare, num_classes, key)
        made = PretrainedNetwork(network, bare, num_classes, Preprocessing(mean, std, size), None)
        order = derive_seed(seed, "order")
        with prepared([], squeeze.precision):
            losses = train(network, data, made.preprocessing, squeeze, order, device, checkpoints)
    else:
        if check_accuracy:  # before a download
            check_names(config, data.class_names, key)
        made = load_pretrained(config, num_classes, image_size, key)
        if check_accuracy and made.file is not None:
            check_names_of_file(config, made.file.class_names, made.num_outputs, data.class_names, key)
        network = channels_last(made.network.to(device))
        sample = sample_images(data)
        labels = data.labels["train"][sample]
        answer = partial(classify, network, data, made.preprocessing, device, "train", sample)
        answers = answer(picked).cpu().numpy()
        if check_accuracy:
            check_answers(config, labels, answers, data.class_names, lambda: answer().cpu().numpy(), key)
        note = _note(made, labels, answers, len(data.class_names))
    accuracies: dict[Split, float] = {
        split: measure_accuracy(network, data, made.preprocessing, device, split, picked)
        for split, labels in data.labels.items()
        if split != "train" and len(labels) > 0
    }
    weights = encode_weights(network, made.preprocessing)
    card = TeacherCard(
        name=config.name,
        network=made.config.model_dump(mode="json"),
        num_classes=made.num_outputs,
        preprocessing=made.preprocessing,
        num_parameters=count_parameters(network),
        num_bn_layers=len(find_batchnorm(network)),
        test_accuracy=accuracies.get("test"),
        validation_accuracy=accuracies.get("validation"),
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        class_indices=indices,
        source=SQUEEZED if config.weights is None else config.arch,
        source_sha256=made.file.sha256 if made.file else None,
        source_network=(made.file.network or None) if made.file else None,
        train_losses=losses,
    )
    return PreparedTeacher(weights, card, note)


def _note(made: PretrainedNetwork, labels: Indices, answers: Indices, num_classes: int) -> str:
    """Return what a reader of the log should know about weights that were loaded."""
    right = (labels == answers).mean()
    note = f"{right:.1%} of {len(labels):,} training images are right, by chance {1 / num_classes:.1%}"
    if made.file is not None and made.file.network:
        others = ", ".join(map(repr, made.file.other_networks))
        also = f" (it has {others} too; #<key> after the path chooses)" if others else ""
        note = f"takes {made.file.network!r} of the file{also}; {note}"
    return note
