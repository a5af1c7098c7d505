"""A worker does units of a run, one after another, on one device, and commits them. It knows nothing of Ray.

It holds what units share: the real images and a cache of teachers. An actor of the cluster is a worker
in a process of its own; a test or a benchmark can use one directly.
"""

import json
import socket
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import torch

from prism_ray.data import FolderIndex, RealImages, open_data
from prism_ray.errors import StoreError
from prism_ray.evaluate.student import train_student
from prism_ray.plan import EvaluateUnit, RecoverUnit, RelabelUnit, SqueezeUnit, Unit
from prism_ray.recover.engine import recover_batch, select_random_real
from prism_ray.relabel.ensemble import label_group
from prism_ray.seeds import derive_seed
from prism_ray.store import Commit, PartFile, Run, StoreFiles, layout, read_commit, write_commit, write_part
from prism_ray.store.images import encode_images, read_images
from prism_ray.store.labels import LabelReader, encode_labels
from prism_ray.teachers.batchnorm import find_batchnorm
from prism_ray.teachers.build import build_network, count_parameters
from prism_ray.teachers.files import TeacherCard, encode_weights, load_teacher
from prism_ray.teachers.squeeze import measure_preprocessing, train
from prism_ray.teachers.teacher import Teacher
from prism_ray.teachers.training import measure_accuracy


@dataclass(frozen=True)
class _Work:
    """What a unit made: its files, and figures for reports."""

    files: tuple[PartFile, ...]
    stats: dict[str, Any]


class Worker:
    """Does units of one run."""

    def __init__(self, run: Run, files: StoreFiles, device: torch.device) -> None:
        self._run = run
        self._config = run.config
        self._files = files
        self._device = device
        self._teachers: dict[str, Teacher] = {}

    def do(self, unit: Unit) -> Commit:
        """Do a unit and commit it; return its commit, or the one that another attempt made first.

        Raises StoreError if a run with other settings was first, and the errors of the rooms.
        """
        started = time.monotonic()
        torch.manual_seed(unit.seed)  # first weights, dropout; all else draws from generators of its own
        if isinstance(unit, SqueezeUnit):
            work = self._squeeze(unit)
        elif isinstance(unit, RecoverUnit):
            work = self._recover(unit)
        elif isinstance(unit, RelabelUnit):
            work = self._relabel(unit)
        else:
            work = self._evaluate(unit)
        commit = Commit(
            unit=unit.id,
            fingerprint=self._run.fingerprint,
            files=work.files,
            stats=work.stats,
            seconds=round(time.monotonic() - started, 3),
            host=socket.gethostname(),
            finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        if write_commit(self._files, commit):
            return commit
        first = read_commit(self._files, unit.id)
        if first.fingerprint != commit.fingerprint:
            raise StoreError(
                f"{self._files.location}: {unit.id} was committed by a run with other settings meanwhile; "
                "end one of the two runs, and give it another --store"
            )
        return first

    @cached_property
    def _data(self) -> RealImages:
        index = None
        if self._config.data.source == "image-folder":
            index = FolderIndex.from_parquet(self._files.read(layout.DATA_INDEX))
        return open_data(self._config.data, index)

    def _teacher(self, name: str) -> Teacher:
        if name not in self._teachers:
            commit = read_commit(self._files, f"squeeze/{name}")
            self._teachers[name] = load_teacher(self._files, commit, self._device)
        return self._teachers[name]

    def _squeeze(self, unit: SqueezeUnit) -> _Work:
        config = self._config.teacher(unit.teacher)
        num_classes = len(self._data.class_names)
        network = build_network(config, num_classes, f"teacher {unit.teacher}")
        preprocessing = measure_preprocessing(self._data, self._config.data.image_size)
        self._data.check_test_images()
        squeeze = self._config.teachers.squeeze
        order_seed = derive_seed(unit.seed, "order")
        train(network, self._data, preprocessing, squeeze, order_seed, self._device)
        accuracy = measure_accuracy(network, self._data, preprocessing, self._device)
        weights = write_part(
            self._files, lambda attempt: layout.weights(unit.teacher, attempt), encode_weights(network)
        )
        card = TeacherCard(
            name=unit.teacher,
            network=config.model_dump(mode="json", exclude={"name"}),
            num_classes=num_classes,
            preprocessing=preprocessing,
            num_parameters=count_parameters(network),
            num_bn_layers=len(find_batchnorm(network)),
            test_accuracy=accuracy,
            weights_sha256=weights.sha256,
        )
        card_part = write_part(
            self._files, lambda attempt: layout.teacher_card(unit.teacher, attempt), card.to_json()
        )
        stats = {
            "arch": config.arch,
            "test_accuracy": accuracy,
            "num_parameters": card.num_parameters,
            "num_bn_layers": card.num_bn_layers,
        }
        return _Work((weights, card_part), stats)

    def _recover(self, unit: RecoverUnit) -> _Work:
        class_names = self._data.class_names
        if not unit.bn_teachers:
            images = select_random_real(unit, self._data, self._config.seed)
            data = encode_images(unit, images, class_names)
            stats: dict[str, Any] = {}
        else:
            batch = recover_batch(
                unit,
                self._config.recover,
                self._data,
                self._config.data.image_size,
                {name: self._teacher(name) for name in unit.bn_teachers},
                self._device,
            )
            data = encode_images(unit, batch.images, class_names, batch.last.ce, batch.last.bn)
            stats = {
                "bn_teachers": unit.bn_teachers,
                "num_iterations": unit.num_iterations,
                "first": asdict(batch.first),
                "last": asdict(batch.last),
            }
        part = write_part(
            self._files, lambda attempt: layout.image_part(unit, attempt), data, len(unit.slots)
        )
        return _Work((part,), stats)

    def _relabel(self, unit: RelabelUnit) -> _Work:
        stored = read_images(self._files, [read_commit(self._files, name) for name in unit.batch_ids])
        teachers = [self._teacher(name) for name in self._config.label_teachers]
        epochs = list(label_group(unit, self._config.relabel, stored, teachers, self._device))
        num_rows = len(stored.slots) * unit.num_epochs
        part = write_part(
            self._files,
            lambda attempt: layout.label_part(unit, attempt),
            encode_labels(epochs),
            num_rows,
        )
        return _Work((part,), {"first_epoch": unit.first_epoch, "num_epochs": unit.num_epochs})

    def _evaluate(self, unit: EvaluateUnit) -> _Work:
        plan = self._run.plan
        batches = [read_commit(self._files, batch.id) for batch in plan.recover_units(unit.image_set)]
        labels = [read_commit(self._files, group.id) for group in plan.relabel_units(unit.image_set)]
        stored = read_images(self._files, batches)
        if len(stored.slots) != plan.num_images:
            raise StoreError(
                f"{self._files.location}: image set {unit.image_set} has {len(stored.slots)} images "
                f"instead of {plan.num_images}; run `prism-ray verify`"
            )
        result = train_student(
            stored,
            LabelReader(self._files, labels).epoch,
            self._config.relabel.epochs,
            self._config.evaluate,
            self._data,
            self._teacher(self._config.recover.primary).preprocessing,
            derive_seed(unit.seed, "order"),
            self._device,
        )
        card = {"unit": unit.id, "seed": unit.seed, **asdict(result)}
        text = json.dumps(card, indent=1).encode()
        part = write_part(self._files, lambda attempt: layout.student_card(unit, attempt), text)
        return _Work((part,), asdict(result))
