"""Post-evaluation: a student trained on stored images and soft labels, whatever the batch size."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

import prism_ray.evaluate.student
from prism_ray.config import DataConfig, EvaluateConfig, NetworkConfig, RelabelConfig
from prism_ray.data import RealImages, open_data
from prism_ray.data.base import ArrayImages
from prism_ray.errors import EngineError, StoreError
from prism_ray.evaluate.student import StudentResult, train_student
from prism_ray.evaluate.testing import StudentTest
from prism_ray.parts.images import StoredImages
from prism_ray.parts.labels import EpochLabels
from prism_ray.parts.views import Views, draw_views
from prism_ray.relabel.augment import ShownImages
from prism_ray.stages.formation import Slot
from prism_ray.teachers.build import build_network
from prism_ray.teachers.squeeze import measure_preprocessing
from tests.kept import Kept

CPU = torch.device("cpu")
SIZE = 32
TINY_VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "drop_rate": 0.1}

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


def perfect_labels(stored: StoredImages, **values: Any) -> ReadEpoch:
    """Labels of an ensemble that is always right: 3 for an image's share of each class, else -1."""
    config = RelabelConfig(flip=False, crop_scale=(0.7, 1.0), **values)

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
    data: RealImages | None = None,
    checkpoints: Kept | None = None,
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
        data or digits,
        measure_preprocessing(digits, SIZE),
        order_seed,
        CPU,
        checkpoints,
    )


def test_a_student_learns_from_soft_labels(digits: RealImages, stored: StoredImages) -> None:
    """Would catch labels paired with other images, views or partners: the student would learn nothing."""
    result = train(digits, stored, num_epochs=30, batch_size=10, learning_rate=0.01)
    assert result.accuracy > 0.7
    assert result.train_loss < 1.0


def test_a_student_in_bfloat16_learns_as_well(digits: RealImages, stored: StoredImages) -> None:
    """Catches a precision that changes nothing, weights in bfloat16, and bytes that do not repeat."""
    values: dict[str, Any] = {"num_epochs": 30, "batch_size": 10, "learning_rate": 0.01}
    exact = train(digits, stored, **values)
    rounded = train(digits, stored, precision="bf16", **values)
    assert rounded != exact
    assert rounded == train(digits, stored, precision="bf16", **values)
    assert rounded.train_loss == pytest.approx(exact.train_loss, rel=0.3)
    assert rounded.accuracy > exact.accuracy - 0.1


@pytest.mark.parametrize("batch_size", [3, 7, 50, 1000])
def test_any_batch_size_works(digits: RealImages, stored: StoredImages, batch_size: int) -> None:
    """Would catch label files tied to a batch size, a dropped last batch, or one that is too small."""
    result = train(digits, stored, num_epochs=1, batch_size=batch_size)
    assert 0.0 <= result.accuracy <= 1.0
    assert np.isfinite(result.train_loss)


def test_a_batch_larger_than_the_set_is_the_set(digits: RealImages, stored: StoredImages) -> None:
    """Would catch images that come twice in a batch to fill it, or a batch that is not trained on."""
    assert train(digits, stored, batch_size=1024) == train(digits, stored, batch_size=50)


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


def test_order_of_the_views_does_not_matter(digits: RealImages, stored: StoredImages) -> None:
    """Would catch students of two sets that see the slots in another order, because groups differ."""
    labels = perfect_labels(stored)
    order = np.random.default_rng(1).permutation(len(stored.slots))

    def moved(epoch: int) -> EpochLabels:
        views = {name: column[order] for name, column in vars(labels(epoch).views).items()}
        return EpochLabels(epoch, Views(**views), labels(epoch).logits[order])

    assert train(digits, stored, moved, batch_size=20) == train(digits, stored, labels, batch_size=20)


def test_the_student_sees_augmented_images(digits: RealImages, stored: StoredImages) -> None:
    """Would catch a student shown plain images under labels of augmented ones."""
    labels = perfect_labels(stored, rand_augment=True)
    views = labels(0).views
    augmented = StoredImages(stored.slots, ShownImages(stored, CPU).of_epoch(views).numpy())
    plain = replace(labels(0), views=replace(views, augment_seed=np.zeros(50, np.int64)))
    result = train(digits, stored, labels, num_epochs=1, batch_size=20)
    assert result == train(digits, augmented, lambda _: plain, num_epochs=1, batch_size=20)
    assert result != train(digits, stored, lambda _: plain, num_epochs=1, batch_size=20)


@pytest.mark.parametrize(
    "values",
    [{"loss": "kl", "temperature": 1.0, "ce_weight": 0.0}, {"labels": "hard"}, {"ema_decay": 0.8}],
    ids=str,
)
def test_every_kind_of_training_learns(
    digits: RealImages, stored: StoredImages, values: dict[str, Any]
) -> None:
    """Would catch a loss whose gradient leads nowhere, or an average that stays at the first weights."""
    result = train(digits, stored, num_epochs=15, batch_size=10, learning_rate=0.01, **values)
    assert result.accuracy > 0.4  # chance: 0.1


def test_hard_labels_use_no_soft_ones(digits: RealImages, stored: StoredImages) -> None:
    """Would catch a control that is helped, or spoilt, by what the teachers said."""
    good = perfect_labels(stored)
    nothing = np.full((50, 10), np.nan, np.float16)
    result = train(digits, stored, lambda epoch: replace(good(epoch), logits=nothing), labels="hard")
    assert result == train(digits, stored, good, labels="hard")


def test_hard_labels_follow_the_box(digits: RealImages, stored: StoredImages) -> None:
    """Would catch the image's own class where the box covers it, or shares of another size of image."""
    labels = perfect_labels(stored)(0)

    def loss_with_box(side: int) -> float:
        start, length = np.zeros(50, np.int64), np.full(50, side)
        views = replace(labels.views, box_top=start, box_left=start, box_height=length, box_width=length)
        boxed = replace(labels, views=views)
        result = train(
            digits, stored, lambda _: boxed, num_epochs=1, labels="hard", batch_size=50, learning_rate=1e-12
        )
        return result.train_loss

    # Under boxes that cover everything a student sees the partners alone: the same images, reordered.
    assert loss_with_box(SIZE) == pytest.approx(loss_with_box(0), rel=1e-4)
    assert loss_with_box(SIZE // 2) != pytest.approx(loss_with_box(0), rel=1e-4)


def test_the_average_of_every_step_is_tested(
    digits: RealImages, stored: StoredImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch an average per epoch, one that starts elsewhere, or the last weights being tested."""
    tested: list[dict[str, torch.Tensor]] = []

    def take(student: torch.nn.Module, *_: object) -> StudentTest:
        tested.append({name: value.clone() for name, value in student.state_dict().items()})
        return StudentTest(0.5, 0.5, ())

    monkeypatch.setattr(prism_ray.evaluate.student, "take_test", take)
    torch.manual_seed(0)
    config = NetworkConfig(arch="timm:test_resnet", stem="small")
    first = build_network(config, 10, "student")
    steps: list[list[torch.Tensor]] = [[weight.detach().double() for weight in first.parameters()]]

    def record(optimizer: torch.optim.Optimizer, *_: object) -> None:
        steps.append([])
        for group in optimizer.param_groups:
            steps[-1] += [weight.detach().double() for weight in group["params"]]

    handle = register_optimizer_step_post_hook(record)
    try:
        for decay in (0.0, 0.8):
            train(digits, stored, num_epochs=2, batch_size=20, ema_decay=decay, test_every=2)
    finally:
        handle.remove()
    last, averaged = tested
    names = [name for name, _ in first.named_parameters()]
    dims = [weight.dim() for weight in first.parameters()]
    grouped = [n for n, d in zip(names, dims, strict=True) if d >= 2]  # as the optimiser has them
    grouped += [n for n, d in zip(names, dims, strict=True) if d < 2]
    assert len(steps) == 1 + 2 * 6
    expected = dict(zip(names, steps[0], strict=True))
    for weights in steps[7:]:
        for name, weight in zip(grouped, weights, strict=True):
            expected[name] = 0.8 * expected[name] + 0.2 * weight
    for name, value in averaged.items():
        if name in expected:
            torch.testing.assert_close(value.double(), expected[name], rtol=0, atol=1e-5)
        else:  # the last step's buffers
            assert torch.equal(value, last[name]), name
    assert any(not torch.allclose(averaged[name], last[name], atol=1e-3) for name in names)


def test_the_split_asked_for_is_tested(digits: RealImages, stored: StoredImages) -> None:
    """Would catch settings that were chosen on the test images, by way of a validation that reads them."""
    assert isinstance(digits, ArrayImages)
    pixels, labels = digits.read("test", np.arange(40))[:, 0], digits.labels["test"][:40]
    other = ArrayImages(
        "digits",
        digits.class_names,
        {"test": pixels[:1], "validation": pixels},
        {"test": np.full(1, 7), "validation": labels},
        SIZE,
    )
    validated = train(digits, stored, data=other, num_epochs=1, split="validation")
    assert validated.split == "validation"
    assert validated.accuracy > 0.0  # by chance, if by nothing else
    tested = train(digits, stored, data=other, num_epochs=1, split="test")
    assert tested.split == "test"
    assert [label for label, share in enumerate(tested.class_accuracies) if share is not None] == [7]
    assert None not in validated.class_accuracies


def test_every_epoch_is_read_once_and_in_order(digits: RealImages, stored: StoredImages) -> None:
    """Would catch epochs that are skipped, read again, or all read into memory beforehand."""
    labels, read = perfect_labels(stored), []

    def read_epoch(epoch: int) -> EpochLabels:
        read.append(epoch)
        return labels(epoch)

    train(digits, stored, read_epoch, num_epochs=3)
    assert read == [0, 1, 2]


@pytest.mark.parametrize(
    "values",
    [
        {"batch_size": 20},
        {"ema_decay": 0.9, "test_every": 1},
        {"student": {"arch": "timm:vit_tiny_patch16_224", "kwargs": TINY_VIT}, "batch_size": 20},
    ],
    ids=["plain", "average", "transformer with dropout"],
)
@pytest.mark.parametrize("interrupt_at", [1, 3])
def test_a_student_that_is_cut_off_becomes_the_same(
    digits: RealImages, stored: StoredImages, values: dict[str, Any], interrupt_at: int
) -> None:
    """Catches work lost, dropout or an order that goes on elsewhere, and averages that begin anew."""
    whole = train(digits, stored, num_epochs=5, **values)
    kept = Kept(interrupt_at)
    with pytest.raises(KeyboardInterrupt):
        train(digits, stored, num_epochs=5, checkpoints=kept, **values)
    read: list[int] = []
    labels = perfect_labels(stored)

    def read_epoch(epoch: int) -> EpochLabels:
        read.append(epoch)
        return labels(epoch)

    resumed = train(digits, stored, read_epoch, num_epochs=5, checkpoints=Kept(data=kept.data), **values)
    assert read == list(range(interrupt_at, 5))
    assert resumed == whole


def test_the_checkpoint_of_another_student_is_passed_over(digits: RealImages, stored: StoredImages) -> None:
    """Catches a student that goes on from the weights of another learning rate."""
    kept = Kept()
    train(digits, stored, num_epochs=3, checkpoints=kept)
    values = {"learning_rate": 0.005}
    whole = train(digits, stored, num_epochs=3, **values)
    assert train(digits, stored, num_epochs=3, checkpoints=Kept(data=kept.data), **values) == whole


def test_the_curve_ends_with_the_headline(digits: RealImages, stored: StoredImages) -> None:
    """Catches the best test sold as the last, a curve without its end, and tests that change a student."""
    often = train(digits, stored, num_epochs=7, test_every=1)
    seldom = train(digits, stored, num_epochs=7, test_every=3)
    assert [point.num_epochs for point in often.curve] == list(range(1, 8))
    assert [point.num_epochs for point in seldom.curve] == [3, 6, 7]
    assert [point.num_epochs for point in train(digits, stored, num_epochs=7).curve] == [2, 4, 6, 7]
    assert set(seldom.curve) < set(often.curve)
    assert often.curve[-1].accuracy == often.accuracy == seldom.accuracy
    assert often.curve[-1].train_loss == often.train_loss
    assert often.best_accuracy == max(point.accuracy for point in often.curve)
    assert often.curve[often.best_num_epochs - 1].accuracy == often.best_accuracy


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
