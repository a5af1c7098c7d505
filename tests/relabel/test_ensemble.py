"""The teacher ensemble and the soft labels of a group."""

import math
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import BatchNormAct2d, FrozenBatchNormAct2d
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from prism_ray.config import RelabelConfig
from prism_ray.errors import EngineError
from prism_ray.parts.images import StoredImages
from prism_ray.parts.labels import EpochLabels
from prism_ray.relabel.augment import ShownImages
from prism_ray.relabel.ensemble import (
    GroupLabeller,
    batch_statistics,
    combine,
    majority_mean,
    norm_balanced_mean,
    weighted_mean,
)
from prism_ray.relabel.views import render, to_device
from prism_ray.stages.formation import Slot
from prism_ray.stages.relabel import RelabelUnit
from prism_ray.teachers.folded import folded
from prism_ray.teachers.teacher import Teacher, teacher_logits

CPU = torch.device("cpu")
UNIT = RelabelUnit("distilled", 0, ("recover/distilled/i00000-c00000",), 0, 6, 77)


def random_logits(num_teachers: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(9, 4, generator=generator) * 3.0**number for number in range(num_teachers)]


def test_mean_is_the_plain_formula() -> None:
    """Would catch norms taken per image or per class, or another common norm than the teachers' mean."""
    logits = random_logits(3)
    norms = [float((z**2).sum()) ** 0.5 for z in logits]
    target = sum(norms) / 3
    expected = sum(z * (target / norm) for z, norm in zip(logits, norms, strict=True)) / 3
    torch.testing.assert_close(norm_balanced_mean(logits), expected)


def test_equal_norms_leave_the_plain_mean() -> None:
    """Would catch a scaling that changes logits which need none."""
    a, b, _ = (z / z.norm() * 5.0 for z in random_logits(3))
    torch.testing.assert_close(norm_balanced_mean([a, b]), (a + b) / 2)
    torch.testing.assert_close(norm_balanced_mean([a]), a)


@settings(deadline=None, max_examples=40)
@given(scale=st.floats(0.01, 100.0), which=st.integers(0, 2), seed=st.integers(0, 1000))
def test_a_louder_teacher_has_no_larger_share(scale: float, which: int, seed: int) -> None:
    """Would catch the teacher with the largest logits deciding alone: the direction must not change."""
    logits = random_logits(3, seed)
    louder = [z * scale if number == which else z for number, z in enumerate(logits)]
    before, after = norm_balanced_mean(logits), norm_balanced_mean(louder)
    torch.testing.assert_close(after / after.norm(), before / before.norm(), rtol=0, atol=1e-5)


def test_order_of_the_teachers_does_not_matter() -> None:
    """Would catch a first teacher that is treated apart."""
    logits = random_logits(3)
    torch.testing.assert_close(norm_balanced_mean(logits), norm_balanced_mean(logits[::-1]))


def test_the_mean_by_prior_accuracy_by_hand() -> None:
    """Would catch weights that are shares of the accuracies, or of another temperature than asked."""
    logits = random_logits(3)
    powers = [math.exp(prior / 5.0) for prior in (70.0, 75.0, 60.0)]
    expected = sum(z.double() * (power / sum(powers)) for z, power in zip(logits, powers, strict=True))
    found = weighted_mean([z.double() for z in logits], (70.0, 75.0, 60.0), 5.0)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_the_mean_of_the_majority_by_hand() -> None:
    """Would catch a minority that counts, and a tie that goes to the first class."""
    logits = [
        torch.tensor([[3.0, 0.0, 1.0], [2.0, 0.0, 0.0]], dtype=torch.float64),
        torch.tensor([[2.0, 1.0, 0.0], [0.0, 5.0, 0.0]], dtype=torch.float64),
        torch.tensor([[0.0, 9.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64),
    ]
    expected = torch.tensor([[2.5, 0.5, 0.5], [0.0, 5.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(majority_mean(logits), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("ensemble", ["mean", "norm-balanced", "prior", "majority"])
def test_teachers_that_agree_are_not_changed(ensemble: str) -> None:
    """Would catch an ensemble that scales what all teachers say; three equal teachers."""
    (logits,) = random_logits(1)
    config = RelabelConfig.model_validate({"ensemble": ensemble})
    found = combine([logits.double()] * 3, config, (50.0, 60.0, 70.0))
    torch.testing.assert_close(found, logits.double(), rtol=0, atol=1e-12)


def label(
    unit: RelabelUnit, stored: StoredImages, teachers: list[Teacher], **values: Any
) -> list[EpochLabels]:
    config = RelabelConfig.model_validate(values)
    labeller = GroupLabeller(unit.id, unit.seed, config, stored, teachers, CPU)
    return [labeller.epoch(unit.first_epoch + number) for number in range(unit.num_epochs)]


def views_as_seen(labels: EpochLabels, stored: StoredImages) -> Tensor:
    """The pixels of an epoch's views, at their places."""
    views = to_device(labels.views, stored.slots, CPU)
    return render(ShownImages(stored, CPU).of_epoch(labels.views), views, torch.arange(len(labels.views)))


def test_labels_are_the_ensembles_logits_of_the_views(stored: StoredImages, ensemble: list[Teacher]) -> None:
    """Would catch labels of other views than those stored, or of unprepared pixels."""
    epochs = label(UNIT, stored, ensemble)
    assert [labels.epoch for labels in epochs] == list(range(6))
    for labels in epochs:
        assert labels.logits.dtype == np.float16
        assert labels.logits.shape == (40, 10)
        pixels = views_as_seen(labels, stored)
        with torch.no_grad():
            logits = [teacher.network(teacher.preprocessing.apply(pixels)) for teacher in ensemble]
        expected = norm_balanced_mean(logits).numpy()
        np.testing.assert_allclose(labels.logits, expected, rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("teacher_batch_norm", ["running", "batch"])
def test_bfloat16_rounds_the_labels(
    stored: StoredImages, ensemble: list[Teacher], teacher_batch_norm: str
) -> None:
    """Catches a precision that changes nothing, logits that are combined in bfloat16, or changed teachers."""
    unit, values = replace(UNIT, num_epochs=1), {"teacher_batch_norm": teacher_batch_norm}
    (exact,) = label(unit, stored, ensemble, **values)
    (rounded,) = label(unit, stored, ensemble, precision="bf16", **values)
    difference = np.abs(rounded.logits.astype(np.float64) - exact.logits)
    scale = float(np.abs(exact.logits).max())
    assert 0.0 < difference.max() < 0.05 * scale
    assert len(np.unique(rounded.logits)) > 0.5 * len(np.unique(exact.logits))  # bfloat16 has few values
    (again,) = label(unit, stored, ensemble, **values)
    assert np.array_equal(again.logits, exact.logits)


@pytest.mark.parametrize("ensemble_of", ["mean", "norm-balanced", "majority"])
def test_epochs_of_a_small_group_share_passes(
    stored: StoredImages, ensemble: list[Teacher], ensemble_of: str
) -> None:
    """Catches a pass of each teacher for six views, labels of another epoch, and norms over several."""
    values = {"epochs": 13, "epochs_per_unit": 9, "ensemble": ensemble_of, "rand_augment": True}
    unit = replace(UNIT, num_epochs=13)
    with folded(ensemble):
        pass  # it has tried each network once
    calls: list[int] = []
    hook = ensemble[0].network.register_forward_hook(lambda _, given, __: calls.append(len(given[0])))
    together = label(unit, stored, ensemble, teacher_batch_size=170, **values)  # four epochs of 40 views
    hook.remove()
    assert calls == [160, 160, 40, 160]
    apart = label(unit, stored, ensemble, teacher_batch_size=40, **values)
    for labels, alone in zip(together, apart, strict=True):
        assert labels.epoch == alone.epoch
        assert vars(labels.views).keys() == vars(alone.views).keys()
        for name, column in vars(labels.views).items():
            assert np.array_equal(column, getattr(alone.views, name)), name
        np.testing.assert_allclose(labels.logits, alone.logits, rtol=2e-3, atol=2e-3)


def test_labels_do_not_depend_on_what_was_asked_before(stored: StoredImages, ensemble: list[Teacher]) -> None:
    """Catches labels for online students that differ from stored ones in their last bits."""
    config = RelabelConfig(epochs=13, epochs_per_unit=9, teacher_batch_size=170)
    in_order, other = (GroupLabeller("x", 77, config, stored, ensemble, CPU) for _ in range(2))
    found = [in_order.epoch(epoch) for epoch in range(13)]
    for epoch in (12, 3, 0, 8, 9, 5):
        assert np.array_equal(other.epoch(epoch).logits, found[epoch].logits)


def test_large_groups_are_balanced_as_a_whole(ensemble: list[Teacher]) -> None:
    """Would catch norms taken per batch of the teachers' forward pass, which is an accident of memory."""
    slots = tuple(Slot(number % 10, number // 10) for number in range(300))  # two batches
    rng = np.random.default_rng(0)
    pixels = (
        rng.integers(0, 256, (300, 3, 16, 16)) * np.linspace(0.0, 1.0, 300)[:, None, None, None]
    ).astype(np.uint8)
    stored = StoredImages(slots, pixels)
    (labels,) = label(replace(UNIT, num_epochs=1), stored, ensemble)
    whole = render(torch.from_numpy(pixels), to_device(labels.views, slots, CPU), torch.arange(300))
    with torch.no_grad():
        logits = [teacher.network(teacher.preprocessing.apply(whole)) for teacher in ensemble]
    expected = norm_balanced_mean(logits).numpy()
    np.testing.assert_allclose(labels.logits, expected, rtol=2e-3, atol=2e-3)


def test_a_range_of_epochs_is_a_part_of_the_whole(stored: StoredImages, ensemble: list[Teacher]) -> None:
    """Would catch labels that change with epochs_per_unit: the ranges must agree to the bit."""
    whole = label(UNIT, stored, ensemble)
    parts = label(replace(UNIT, first_epoch=2, num_epochs=3), stored, ensemble)
    assert [labels.epoch for labels in parts] == [2, 3, 4]
    for part, labels in zip(parts, whole[2:5], strict=True):
        assert part.logits.tobytes() == labels.logits.tobytes()
        assert all(
            np.array_equal(value, getattr(labels.views, name)) for name, value in vars(part.views).items()
        )


def test_epochs_and_groups_get_views_of_their_own(stored: StoredImages, ensemble: list[Teacher]) -> None:
    """Would catch one view per image, labelled again and again."""
    first, second = label(replace(UNIT, num_epochs=2), stored, ensemble)
    (other,) = label(replace(UNIT, num_epochs=1, seed=78), stored, ensemble)
    assert not np.array_equal(first.views.crop_top, second.views.crop_top)
    assert not np.array_equal(first.views.crop_top, other.views.crop_top)


@pytest.mark.parametrize("value", [float("nan"), 1e30, 0.0])
def test_logits_that_are_not_finite_are_an_error(
    value: float, stored: StoredImages, ensemble: list[Teacher]
) -> None:
    """Would catch NaN or infinite soft labels being stored: overflow of float16, or a dead teacher."""
    last = ensemble[1].network[-1]  # type: ignore[index]
    assert isinstance(last, nn.Linear)
    last.weight.fill_(value)
    last.bias.fill_(0.0)
    with pytest.raises(EngineError) as caught:
        label(UNIT, stored, ensemble)
    message = str(caught.value)
    assert UNIT.id in message
    assert "quiet, loud" in message


def test_the_plain_mean_is_of_the_logits_as_they_are(stored: StoredImages, ensemble: list[Teacher]) -> None:
    """Would catch `ensemble: mean` that balances all the same."""
    (labels,) = label(replace(UNIT, num_epochs=1), stored, ensemble, ensemble="mean")
    pixels = views_as_seen(labels, stored)
    with torch.no_grad():
        expected = sum(teacher_logits(teacher, pixels) for teacher in ensemble) / 2
    assert isinstance(expected, Tensor)
    np.testing.assert_allclose(labels.logits, expected.numpy(), rtol=2e-3, atol=1e-3)
    assert np.abs(labels.logits).max() > 5  # the loud teacher is not balanced away


def test_teachers_see_augmented_and_shuffled_images(stored: StoredImages, ensemble: list[Teacher]) -> None:
    """Would catch labels of the plain images beside views that say otherwise."""
    values = {"rand_augment": True, "patch_shuffle": True}
    changed = label(replace(UNIT, num_epochs=2), stored, ensemble, **values)
    for labels, plain in zip(changed, label(replace(UNIT, num_epochs=2), stored, ensemble), strict=True):
        with torch.no_grad():
            logits = [teacher_logits(teacher, views_as_seen(labels, stored)) for teacher in ensemble]
        expected = norm_balanced_mean(logits).numpy()
        np.testing.assert_allclose(labels.logits, expected, rtol=2e-3, atol=1e-3)
        assert not np.allclose(labels.logits, plain.logits, rtol=2e-3, atol=1e-3)


def test_other_batches_of_the_same_slots_get_the_same_labels(
    stored: StoredImages, ensemble: list[Teacher]
) -> None:
    """Would catch sets of the same slots that differ by their views, not only by their images."""
    order = sorted(range(40), key=lambda place: stored.slots[place])  # class after class
    joint = StoredImages(tuple(stored.slots[place] for place in order), stored.images[order])
    by_batch = {"teacher_batch_norm": "batch", "teacher_batch_size": 8, "rand_augment": True}
    for values in ({}, by_batch):
        pairs = zip(
            label(UNIT, stored, ensemble, **values), label(UNIT, joint, ensemble, **values), strict=True
        )
        for one, other in pairs:
            assert one.logits.tobytes() == other.logits.tobytes()
            assert np.array_equal(one.views.label, other.views.label)


# Batch statistics


def record_batches(teacher: Teacher) -> list[Tensor]:
    """Return a list that fills with the inputs of the teacher's network."""
    seen: list[Tensor] = []
    teacher.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    return seen


def places_of(batch: Tensor, teacher: Teacher, labels: EpochLabels, stored: StoredImages) -> list[int]:
    """Which views of an epoch make up a batch."""
    whole = teacher.preprocessing.apply(views_as_seen(labels, stored)).flatten(1)
    distance = (batch.flatten(1)[:, None] - whole[None]).norm(dim=2)
    assert (distance.min(dim=1).values < 1e-3).all()
    return distance.argmin(dim=1).tolist()


def test_batch_statistics_are_those_of_drawn_batches(stored: StoredImages, ensemble: list[Teacher]) -> None:
    """Would catch labels at others' places, batches of one class, or the same batches in each epoch."""
    teacher = ensemble[0]
    trained = deepcopy(teacher.network).train()
    seen = record_batches(teacher)
    values = {"teacher_batch_norm": "batch", "teacher_batch_size": 8}
    both = label(replace(UNIT, num_epochs=2), stored, [teacher], **values)
    assert [len(batch) for batch in seen] == [8] * 10
    formed = []
    for labels, batches in zip(both, (seen[:5], seen[5:]), strict=True):
        places = [places_of(batch, teacher, labels, stored) for batch in batches]
        assert sorted(place for batch in places for place in batch) == list(range(40))
        assert all(len({labels.views.label[place] for place in batch}) > 3 for batch in places)
        formed.append(places)
        for batch, members in zip(batches, places, strict=True):
            with torch.no_grad():
                expected = trained(batch).numpy()  # train() is right: it has BatchNorm and no dropout
            np.testing.assert_allclose(labels.logits[members], expected, rtol=2e-3, atol=1e-3)
    assert formed[0] != formed[1]


def test_a_batch_as_large_as_the_group_is_the_group(stored: StoredImages, ensemble: list[Teacher]) -> None:
    """Would catch statistics of another batch than asked for: here it is that of all views."""
    teacher = ensemble[0]
    values = {"teacher_batch_norm": "batch", "teacher_batch_size": 1000}
    (labels,) = label(replace(UNIT, num_epochs=1), stored, [teacher], **values)
    network = deepcopy(teacher.network).double()
    assert isinstance(network, nn.Sequential)
    first, norm, *rest = network
    assert isinstance(norm, nn.BatchNorm2d)
    with torch.no_grad():
        x = first(teacher.preprocessing.apply(views_as_seen(labels, stored)).double())
        mean, var = x.mean(dim=(0, 2, 3), keepdim=True), x.var(dim=(0, 2, 3), correction=0, keepdim=True)
        x = (x - mean) / (var + norm.eps).sqrt()
        for layer in rest:  # the fixture's scale is 1 and its shift 0
            x = layer(x)
    np.testing.assert_allclose(labels.logits, x.numpy(), rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(3), BatchNormAct2d(3), nn.BatchNorm2d(3, momentum=None)])
def test_batch_statistics_leave_no_trace(layer: nn.BatchNorm2d) -> None:
    """Would catch running statistics that drift, so that labels depend on what was labelled before."""
    with torch.no_grad():
        layer.running_mean.fill_(3.0)  # type: ignore[union-attr]
    network = nn.Sequential(layer).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    x = torch.randn(8, 3, 5, 5)
    outside = network(x)
    with batch_statistics([network, network]):  # the same network twice, as two teachers may share one
        inside = network(x)
        assert not network.training
    torch.testing.assert_close(inside.detach(), deepcopy(network).train()(x).detach())
    assert not torch.allclose(inside, outside)
    assert torch.equal(network(x), outside)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert (layer.training, layer.track_running_stats) == (False, True)


def test_batch_statistics_end_with_an_error() -> None:
    """Would catch a teacher that stays in batch mode for the next unit of the worker."""
    layer = nn.BatchNorm2d(3).eval()
    with pytest.raises(ZeroDivisionError), batch_statistics([layer]):
        raise ZeroDivisionError
    assert (layer.training, layer.track_running_stats) == (False, True)


def test_dropout_stays_off() -> None:
    """Would catch train() on the whole network: labels of a network of which half is missing."""
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(36, 5)).eval()
    dropping = nn.Sequential(*plain[:3], nn.Dropout(0.5), plain[3]).eval()
    x = torch.randn(6, 3, 5, 5)
    with batch_statistics([plain, dropping]):
        assert torch.equal(plain(x), dropping(x))


@pytest.mark.parametrize("frozen", [FrozenBatchNorm2d(3), FrozenBatchNormAct2d(3)])
def test_frozen_layers_keep_their_statistics(frozen: nn.Module) -> None:
    """Would catch a layer without a training mode that fails, or is changed, in batch mode."""
    network = nn.Sequential(frozen).eval()
    x = torch.randn(6, 3, 5, 5) + 2.0
    outside = network(x)
    with batch_statistics([network]):
        assert torch.equal(network(x), outside)


def test_a_group_of_one_image_has_no_batch_statistics(stored: StoredImages, ensemble: list[Teacher]) -> None:
    """Would catch labels that are the same for any image, because each was normalised by itself."""
    single = StoredImages(stored.slots[:1], stored.images[:1])
    with pytest.raises(EngineError, match=r"relabel\.images_per_group"):
        label(UNIT, single, ensemble, teacher_batch_norm="batch")
    assert len(label(UNIT, single, ensemble)) == 6


@pytest.mark.parametrize("batch_size", [3, 7, 1000])
def test_the_batch_size_bounds_what_teachers_see_at_once(
    batch_size: int, stored: StoredImages, ensemble: list[Teacher]
) -> None:
    """Would catch a setting that is ignored, or one that changes labels under running statistics."""
    unit = replace(UNIT, num_epochs=1)
    (expected,) = label(unit, stored, ensemble)
    seen = record_batches(ensemble[0])
    (labels,) = label(unit, stored, ensemble, teacher_batch_size=batch_size)
    assert max(map(len, seen)) <= batch_size
    assert min(map(len, seen)) >= min(batch_size - 1, 40)
    np.testing.assert_allclose(labels.logits, expected.logits, rtol=2e-3, atol=1e-3)
