"""The teacher ensemble and the soft labels of a group."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from prism_ray.config import RelabelConfig
from prism_ray.errors import EngineError
from prism_ray.plan import RelabelUnit, Slot
from prism_ray.relabel.ensemble import label_group, norm_balanced_mean
from prism_ray.relabel.views import render, to_device
from prism_ray.store.images import StoredImages
from prism_ray.store.labels import EpochLabels
from prism_ray.teachers.teacher import Teacher

CPU = torch.device("cpu")
CONFIG = RelabelConfig()
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


def label(unit: RelabelUnit, stored: StoredImages, teachers: list[Teacher]) -> list[EpochLabels]:
    return list(label_group(unit, CONFIG, stored, teachers, CPU))


def test_labels_are_the_ensembles_logits_of_the_views(stored: StoredImages, ensemble: list[Teacher]) -> None:
    """Would catch labels of other views than those stored, or of unprepared pixels."""
    epochs = label(UNIT, stored, ensemble)
    assert [labels.epoch for labels in epochs] == list(range(6))
    for labels in epochs:
        assert labels.logits.dtype == np.float16
        assert labels.logits.shape == (40, 10)
        tensors = to_device(labels.views, stored.slots, CPU)
        pixels = render(torch.from_numpy(stored.images), tensors, torch.arange(40))
        with torch.no_grad():
            logits = [teacher.network(teacher.preprocessing.apply(pixels)) for teacher in ensemble]
        expected = norm_balanced_mean(logits).numpy()
        np.testing.assert_allclose(labels.logits, expected, rtol=2e-3, atol=1e-3)


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
