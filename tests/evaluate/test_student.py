"""Post-evaluation: a student trained on stored images and soft labels, whatever the batch size."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from prism_ray.config import DataConfig, EvaluateConfig, RelabelConfig
from prism_ray.data import RealImages, open_data
from prism_ray.errors import EngineError, StoreError
from prism_ray.evaluate.student import StudentResult, train_student
from prism_ray.plan import Slot
from prism_ray.relabel.views import draw_views
from prism_ray.store.images import StoredImages
from prism_ray.store.labels import EpochLabels
from prism_ray.teachers.squeeze import measure_preprocessing

CPU = torch.device("cpu")
SIZE = 32

ReadEpoch = Callable[[int], EpochLabels]


@pytest.fixture(scope="module")
def digits() -> RealImages:
    return open_data(DataConfig(source="digits", image_size=SIZE))


@pytest.fixture(scope="module")
def stored(digits: RealImages) -> StoredImages:
    """The first five real training images of each digit."""
    slots = tuple(Slot(label, ipc_index) for ipc_index in range(5) for label in range(10))
    places = [digits.train_indices(slot.label)[slot.ipc_index] for slot in slots]
    return StoredImages(slots, digits.read("train", np.array(places)))


def perfect_labels(stored: StoredImages) -> ReadEpoch:
    """Labels of an ensemble that is always right: 3 for an image's share of each class, else -1."""
    config = RelabelConfig(flip=False, crop_scale=(0.7, 1.0))

    @cache
    def read_epoch(epoch: int) -> EpochLabels:
        views = draw_views(stored.slots, epoch, 0, config, SIZE)
        share = (views.box_height * views.box_width / SIZE**2)[:, None]
        one_hot = np.eye(10)
        logits = 4 * ((1 - share) * one_hot[views.label] + share * one_hot[views.partner_label]) - 1
        return EpochLabels(epoch, views, logits.astype(np.float16))

    return read_epoch


def train(
    digits: RealImages,
    stored: StoredImages,
    read_epoch: ReadEpoch | None = None,
    num_epochs: int = 2,
    seed: int = 0,
    order_seed: int = 0,
    **values: Any,
) -> StudentResult:
    student = {"arch": "timm:test_resnet", "stem": "small"}
    config = EvaluateConfig.model_validate({"student": student, **values})
    torch.manual_seed(seed)
    return train_student(
        stored,
        read_epoch or perfect_labels(stored),
        num_epochs,
        config,
        digits,
        measure_preprocessing(digits, SIZE),
        order_seed,
        CPU,
    )


def test_a_student_learns_from_soft_labels(digits: RealImages, stored: StoredImages) -> None:
    """Would catch labels paired with other images, views or partners: the student would learn nothing."""
    result = train(digits, stored, num_epochs=30, batch_size=10, learning_rate=0.01)
    assert result.test_accuracy > 0.7
    assert result.train_loss < 1.0


@pytest.mark.parametrize("batch_size", [3, 7, 50, 1000])
def test_any_batch_size_works(digits: RealImages, stored: StoredImages, batch_size: int) -> None:
    """Would catch label files tied to a batch size, a dropped last batch, or one that is too small."""
    result = train(digits, stored, num_epochs=1, batch_size=batch_size)
    assert 0.0 <= result.test_accuracy <= 1.0
    assert np.isfinite(result.train_loss)


def test_smallest_batch_size_works_on_the_smallest_maps(digits: RealImages, stored: StoredImages) -> None:
    """Would catch BatchNorm that cannot train on one image of 1x1, at a batch size that the config allows."""
    smallest = EvaluateConfig.model_json_schema()["properties"]["batch_size"]["minimum"]
    few = StoredImages(stored.slots[:5], stored.images[:5])
    student = {"arch": "timm:test_resnet", "stem": "imagenet"}  # its last maps are 1x1 at 32 pixels
    result = train(digits, few, num_epochs=1, batch_size=smallest, student=student)
    assert np.isfinite(result.train_loss)


def test_loss_is_the_mean_of_the_epoch(digits: RealImages, stored: StoredImages) -> None:
    """Would catch a loss of the last batch alone being reported, or a sum that grows with the batches."""
    whole, halves = (
        train(digits, stored, num_epochs=1, batch_size=size, learning_rate=1e-12) for size in (50, 25)
    )
    # The student does not move, so that the two differ by BatchNorm's batch statistics alone.
    assert halves.train_loss == pytest.approx(whole.train_loss, rel=0.2)


def test_same_seed_same_student(digits: RealImages, stored: StoredImages) -> None:
    """Would catch first weights or an order of images that are not seeded, or are always the same."""
    first = train(digits, stored, batch_size=20)
    np.random.seed(5)
    assert train(digits, stored, batch_size=20) == first
    assert train(digits, stored, batch_size=20, seed=1) != first
    assert train(digits, stored, batch_size=20, order_seed=1) != first


def test_order_of_the_stored_images_does_not_matter(digits: RealImages, stored: StoredImages) -> None:
    """Would catch images paired with labels by position."""
    labels = perfect_labels(stored)
    first = train(digits, stored, labels, batch_size=20)
    order = np.random.default_rng(0).permutation(len(stored.slots))
    shuffled = StoredImages(tuple(stored.slots[place] for place in order), stored.images[order])
    assert train(digits, shuffled, labels, batch_size=20) == first


def test_every_epoch_is_read_once_and_in_order(digits: RealImages, stored: StoredImages) -> None:
    """Would catch epochs that are skipped, read again, or all read into memory beforehand."""
    labels, read = perfect_labels(stored), []

    def read_epoch(epoch: int) -> EpochLabels:
        read.append(epoch)
        return labels(epoch)

    train(digits, stored, read_epoch, num_epochs=3)
    assert read == [0, 1, 2]


def test_labels_of_unknown_images_are_an_error(digits: RealImages, stored: StoredImages) -> None:
    """Would catch a student trained on the labels of another image set."""
    labels = perfect_labels(stored)
    others = StoredImages((*stored.slots[:-1], Slot(9, 7)), stored.images)
    with pytest.raises(StoreError, match=r"\(9, 4\)"):
        train(digits, others, labels)


@pytest.mark.parametrize("num_images", [40, 49])
def test_another_number_of_labels_is_an_error(
    digits: RealImages, stored: StoredImages, num_images: int
) -> None:
    """Would catch a student trained on a part of the images, because a part of the labels is missing."""
    labels = perfect_labels(stored)
    fewer = StoredImages(stored.slots[:num_images], stored.images[:num_images])
    with pytest.raises(StoreError):
        train(digits, fewer, labels)
    with pytest.raises(StoreError):
        train(digits, stored, perfect_labels(fewer))


def test_non_finite_loss_is_an_error(digits: RealImages, stored: StoredImages) -> None:
    """Would catch the chance accuracy of a student of NaN being reported as a result."""
    good = perfect_labels(stored)

    def read_epoch(epoch: int) -> EpochLabels:
        return replace(good(epoch), logits=np.full((len(stored.slots), 10), np.inf, np.float16))

    with pytest.raises(EngineError, match=r"evaluate\.learning_rate \(now 0\.001\)"):
        train(digits, stored, read_epoch)
