"""The record of a calibration: what steps of each stage took on a machine. No torch.

Figures belong to groups, such as one teacher's training or one image set. A group keeps a hash of the
settings that its cost depends on, so that a figure is never used for other networks, batches or sizes.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from pydantic import ConfigDict

from prism_ray.config import Config, RecoverConfig
from prism_ray.data import DataFacts
from prism_ray.machine import Machine
from prism_ray.stages import Basis
from prism_ray.stages.collect import CollectKind, collections_of
from prism_ray.stages.evaluate import asks_teachers
from prism_ray.store.records import FINITE, FORMAT, Count

_NOT_OF_COST = {  # settings of an image set that change no step, or only the number of steps
    *("iterations", "iterations_step", "iterations_cycle", "learning_rate", "betas", "bn_weight"),
    *("replicate", "ipc", "selection", "crop_scale", "jitter", "primary", "images_per_batch"),
}


@dataclass(frozen=True)
class Group:
    """What was measured of steps that depend on the same settings."""

    settings: str  # SHA-256 of them
    seconds: dict[str, float]  # name of a step -> seconds
    peak_bytes: Count = 0  # of the process, or of the GPU; 0: not measured


@dataclass(frozen=True)
class Calibration:
    """The contents of calibration.json."""

    __pydantic_config__: ClassVar[ConfigDict] = FINITE

    machine: Machine
    versions: dict[str, str]  # of Python and packages
    num_threads: Count  # of the process
    num_processes: Count  # that did the same side by side
    made_at: str  # UTC, ISO 8601
    took_seconds: float  # the calibration itself
    start_seconds: float  # to start the process and load its packages
    groups: dict[str, Group]
    format: int = FORMAT

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode()


def squeeze_group(teacher: str) -> str:
    return f"squeeze/{teacher}"


def collect_group(kind: CollectKind, teacher: str) -> str:
    return f"collect/{kind}/{teacher}"


def recover_group(image_set: str) -> str:
    return f"recover/{image_set}"


def evaluate_group(evaluation: str) -> str:
    return f"evaluate/{evaluation}"


DATA, RELABEL, MEASURE = "data", "relabel", "measure"


def settings_of_groups(config: Config, facts: DataFacts) -> dict[str, str]:
    """Return the hash of the settings of each group of a run, which its figures depend on."""
    data = {
        "source": config.data.source,
        "image_size": config.data.image_size,
        "channels": facts.channels,
        "num_classes": facts.num_classes,
    }

    def networks(names: Any) -> list[Any]:
        teachers = [config.teacher(name) for name in names]
        return [(t.without_weights().model_dump(mode="json"), t.input_size) for t in teachers]

    found: dict[str, Mapping[str, Any]] = {DATA: {}}
    for teacher in config.teachers.pool:
        own: dict[str, Any] = {"network": networks([teacher.name])}
        if teacher.weights is None:
            own |= config.teachers.squeeze.model_dump(mode="json", include={"batch_size", "precision"})
        found[squeeze_group(teacher.name)] = own
    for name, image_set in config.image_sets.items():
        for kind, scorer in collections_of(config, image_set):
            settings = config.collect.model_dump(
                mode="json", exclude={"classes_per_unit", "images_per_class"}
            )
            found[collect_group(kind, scorer)] = {"network": networks([scorer]), "collect": settings}
        settings = image_set.model_dump(mode="json", exclude=_NOT_OF_COST)
        used: list[str] = []
        if isinstance(image_set, RecoverConfig):
            used = list(dict.fromkeys((image_set.primary, *config.candidates(image_set))))
            settings["logits"] = image_set.selection.logits
            settings["batch"] = _largest_batch(config, facts, name)
        found[recover_group(name)] = {"networks": networks(used), "recover": settings}
    relabel = config.relabel
    of_views = {"rand_augment", "patch_shuffle", "teacher_batch_norm", "teacher_batch_size", "ensemble"}
    of_labels = {"mode", "encoding", "view_parameters", "precision"}
    views = relabel.model_dump(mode="json", include={*of_views, *of_labels})
    views["mixup"] = relabel.mixup_alpha > 0.0
    found[RELABEL] = {"networks": networks(config.label_teachers), "relabel": views}
    judges = dict.fromkeys((config.feature_teacher, *config.analyze.verifiers))
    found[MEASURE] = {"networks": networks(judges)}
    for key, evaluation in config.evaluations.items():
        include = {"student", "batch_size", "labels", "loss", "augment", "train_on", "precision"}
        values = evaluation.model_dump(mode="json", include=include)
        values["average"] = evaluation.ema_decay > 0.0
        labellers = networks(config.label_teachers) if asks_teachers(config, evaluation) else []
        found[evaluate_group(key)] = {"evaluation": values, "views": views, "labellers": labellers}
    return {name: _hash({"data": data, **settings}) for name, settings in found.items()}


def _largest_batch(config: Config, facts: DataFacts, image_set: str) -> int:
    formation = Basis(config, facts).formation(image_set)
    return max(formation.size(number) for number in {0, formation.num_batches - 1})


def _hash(settings: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
