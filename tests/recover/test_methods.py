"""Each method's preset, run by the engine, against a plain calculation of the whole optimisation."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from prism_ray.config import RecoverConfig
from prism_ray.recover.augment import Augmentation
from prism_ray.recover.engine import optimise
from prism_ray.recover.objective import Objective
from prism_ray.recover.setting import RecoverSetting
from prism_ray.recover.space import ReferenceSpace
from prism_ray.teachers.layers import TeacherReference
from prism_ray.teachers.teacher import Teacher
from tests.recover.method_runs import (
    CPU,
    POOL,
    PRIORS,
    SeeAugmentation,
    batches_of,
    check_gradient_by_finite_differences,
    compare,
    configure,
    given,
    make_references,
    plain_pool,
    run_engine,
)
from tests.recover.plain_methods import (
    SIZE,
    PlainAverage,
    PlainDensification,
    PlainMethod,
    alike,
    by_prior,
    only,
)


@pytest.fixture
def teachers(
    float64: None,
    striding: Callable[[], Teacher],
    depthwise: Callable[[int], Teacher],
    efficient: Callable[[], Teacher],
) -> dict[str, Teacher]:
    """Three kinds of networks, each with a preprocessing and a resolution of its own: 12, 10 and 28."""
    return {"striding": striding(), "depthwise": depthwise(10), "efficient": efficient()}


@pytest.mark.parametrize("channels", [1, 3])
def test_prism(channels: int, teachers: dict[str, Teacher], see_augmentation: SeeAugmentation) -> None:
    """Would catch logits from another than the primary, a sum over S and no mean, or another r_bn or lr."""
    config = configure("prism", ipc=12, iterations=6, iterations_step=0)
    units = {len(unit.teachers): unit for unit in batches_of(config)}
    assert set(units) == {1, 2, 3}
    for count in (2, 3):
        run = run_engine(config, units[count], teachers, see_augmentation, channels=channels)
        assert run.draws == [units[count].teachers] * 6
        assert "striding" in units[count].teachers
        method = PlainMethod(plain_pool(teachers), alike, only("striding"), bn_weight=0.01)
        expected = compare(run, method, learning_rate=0.05)
        if channels == 3:
            check_gradient_by_finite_differences(run, expected)


def test_sre2l(teachers: dict[str, Teacher], see_augmentation: SeeAugmentation) -> None:
    """Would catch other teachers that are drawn, or noise that is clipped before the first step."""
    config = configure("sre2l", ipc=2, iterations=6)
    unit = next(batches_of(config))
    run = run_engine(config, unit, teachers, see_augmentation)
    assert run.draws == [("striding",)] * 6
    assert torch.equal(run.path[0], run.start)
    assert float(run.start.abs().max()) > 3.0
    method = PlainMethod(plain_pool(teachers), only("striding"), only("striding"), bn_weight=0.01)
    expected = compare(run, method, learning_rate=0.25)
    check_gradient_by_finite_differences(run, expected)


def test_cv_dd(teachers: dict[str, Teacher], see_augmentation: SeeAugmentation) -> None:
    """Would catch votes that weigh one of CE and statistics only, fractions taken for percent, or a
    primary that is always in."""
    config = configure("cv-dd", ipc=12, iterations=5)
    units = list(batches_of(config))
    pairs = {unit.teachers: unit for unit in units}
    assert all(len(pair) == 2 for pair in pairs)
    assert any("striding" not in pair for pair in pairs)
    method = PlainMethod(plain_pool(teachers), by_prior(PRIORS), by_prior(PRIORS), bn_weight=0.01)
    assert method.votes(("striding", "depthwise"))["striding"] == pytest.approx(0.586, abs=5e-4)  # published
    chosen = [pair for pair in pairs if "striding" not in pair][:1] + [
        pair for pair in pairs if "striding" in pair
    ][:1]
    for pair in chosen:
        run = run_engine(config, pairs[pair], teachers, see_augmentation)
        assert run.draws == [pair] * 5
        expected = compare(run, method, learning_rate=0.25)
        check_gradient_by_finite_differences(run, expected)


def test_g_vbsm(teachers: dict[str, Teacher], see_augmentation: SeeAugmentation) -> None:
    """Would catch an average that moves when another teacher is on turn, starts at 0, or scales the gradient
    by 0.6; patches pooled one by one; a BN layer that takes the first layer's weight; densification lost."""
    references = make_references(teachers)
    config = configure("g-vbsm", ipc=4, images_per_batch=8, iterations=7)
    unit = next(batches_of(config))
    assert [slot.label for slot in unit.slots] == [0, 0, 0, 0, 1, 1, 1, 1]
    run = run_engine(
        config,
        unit,
        teachers,
        see_augmentation,
        # of what was collected, the classes' statistics must not matter
        {name: TeacherReference(given(whole), {0: {}}) for name, (whole, _) in references.items()},
    )
    assert run.draws == [(POOL[i % 3],) for i in range(7)]
    method = PlainMethod(
        plain_pool(teachers),
        alike,
        alike,
        bn_weight=0.01,
        with_convolutions=True,
        average=PlainAverage(0.4),
        references={name: whole for name, (whole, _) in references.items()},
        densification=PlainDensification(),
    )
    expected = compare(run, method, learning_rate=0.1)
    # far from 0 at both ends, which is where the gradient is looked at
    assert min(expected.losses[0]["densification"], expected.losses[-1]["densification"]) > 1e-3
    check_gradient_by_finite_differences(run, expected)


def test_edc(teachers: dict[str, Teacher], see_augmentation: SeeAugmentation) -> None:
    """Would catch a mixture of the targets instead of the gaps, classes that do not weigh by their images,
    category-aware convolutions alone, or the statistics of other classes."""
    references = make_references(teachers)
    config = configure("edc", ipc=4, images_per_batch=6, iterations=7)
    unit = list(batches_of(config))[1]
    assert [slot.label for slot in unit.slots] == [1, 1, 2, 2, 2, 2]
    given_references = {
        name: TeacherReference(given(whole), {label: given(one) for label, one in classes.items()})
        for name, (whole, classes) in references.items()
    }
    run = run_engine(config, unit, teachers, see_augmentation, given_references)
    assert run.draws == [(POOL[i % 3],) for i in range(7)]
    method = PlainMethod(
        plain_pool(teachers),
        alike,
        alike,
        bn_weight=0.1,
        with_convolutions=True,
        average=PlainAverage(0.8),
        references={name: whole for name, (whole, _) in references.items()},
        class_references={name: classes for name, (_, classes) in references.items()},
    )
    expected = compare(run, method, learning_rate=0.05)
    check_gradient_by_finite_differences(run, expected)
    for top, left, height, width, *_ in run.augmentations:
        assert (height + 0.5) * (width + 0.5) >= 0.5 * SIZE**2
        assert top + height <= SIZE
        assert left + width <= SIZE


@pytest.mark.parametrize("ipc", [1, 4])
def test_lpld(ipc: int, teachers: dict[str, Teacher], see_augmentation: SeeAugmentation) -> None:
    """Would catch images of other classes in a batch, running statistics or those of other classes that are
    matched, another r_bn or lr than SRe2L's, and a batch of one image that has no statistics."""
    references = make_references(teachers)
    config = configure("lpld", ipc=ipc, iterations=6)
    units = list(batches_of(config))
    assert len(units) == 5
    unit = units[1]
    labels = {slot.label for slot in unit.slots}
    assert (len(labels), len(unit.slots)) == (1, ipc)
    classes = {
        name: {label: one for label, one in of.items() if label in labels}
        for name, (_, of) in references.items()
    }
    run = run_engine(
        config,
        unit,
        teachers,
        see_augmentation,
        {
            name: TeacherReference({}, {label: given(one) for label, one in of.items()})
            for name, of in classes.items()
        },
    )
    assert run.draws == [("striding",)] * 6
    assert float(run.start.abs().max()) > 3.0  # noise that is not clipped before the first step
    method = PlainMethod(
        plain_pool(teachers),
        only("striding"),
        only("striding"),
        bn_weight=0.01,
        class_references=classes,
        class_share=1.0,
    )
    expected = compare(run, method, learning_rate=0.25)
    if ipc > 1:
        check_gradient_by_finite_differences(run, expected)


def test_prism_with_class_wise_batches(
    teachers: dict[str, Teacher], see_augmentation: SeeAugmentation
) -> None:
    """Would catch class statistics of the primary alone, or a formation that only one method takes: a
    comparison of batches that compares something else."""
    references = make_references(teachers)
    config = configure(
        "prism",
        ipc=4,
        formation="class-wise",
        statistics={"class_share": 1.0},
        selection={"slots": 2, "inclusion_probability": 1.0},
        iterations=5,
        iterations_step=0,
    )
    unit = next(unit for unit in batches_of(config) if unit.slots[0].label == 3)
    assert {slot.label for slot in unit.slots} == {3}
    assert set(unit.teachers) == set(POOL)
    classes = {name: {3: of[3]} for name, (_, of) in references.items()}
    run = run_engine(
        config,
        unit,
        teachers,
        see_augmentation,
        {name: TeacherReference({}, {3: given(of[3])}) for name, of in classes.items()},
    )
    method = PlainMethod(
        plain_pool(teachers),
        alike,
        only("striding"),
        bn_weight=0.01,
        class_references=classes,
        class_share=1.0,
    )
    check_gradient_by_finite_differences(run, compare(run, method, learning_rate=0.05))


@pytest.mark.parametrize(
    ("number", "iterations", "joins_at"),
    [
        # ipc 5: five sub-batches of one image, which join every 2 iterations
        (0, (12, 10, 8, 6, 4, 12, 10), (0, 2, 4, 6, 8, 0, 2)),
        (1, (8, 6, 4, 12, 10, 8, 6), (4, 6, 8, 0, 2, 4, 6)),  # a class that began in the batch before
    ],
)
def test_delt(
    number: int,
    iterations: tuple[int, ...],
    joins_at: tuple[int, ...],
    teachers: dict[str, Teacher],
    see_augmentation: SeeAugmentation,
) -> None:
    """Would catch images that join at the wrong time, leave, or move before they join; an optimiser, a cosine
    or a curriculum that starts anew at a join; statistics or labels of images that have not joined."""
    config = configure("delt", ipc=5, images_per_batch=7, iterations=12, iterations_step=2)
    unit = list(batches_of(config))[number]
    assert unit.iterations == iterations
    run = run_engine(config, unit, teachers, see_augmentation)
    assert run.draws == [("striding",)] * 12
    assert run.counts == [sum(at <= i for at in joins_at) for i in range(12)]
    method = PlainMethod(plain_pool(teachers), only("striding"), only("striding"), bn_weight=0.01)
    expected = compare(run, method, learning_rate=0.25, joins_at=joins_at)
    check_gradient_by_finite_differences(run, expected)
    for row, at in enumerate(joins_at):
        torch.testing.assert_close(expected.pixels[at][row], run.start[row], rtol=0, atol=1e-12)
        assert not torch.allclose(expected.pixels[at + 1][row], run.start[row], rtol=0, atol=1e-3)
    assert run.augmentations[0][:4] == (0, 0, SIZE, SIZE)  # crops of the whole image come first


def test_delt_moves_no_image_before_it_joins(
    teachers: dict[str, Teacher], see_augmentation: SeeAugmentation
) -> None:
    """Would catch an Adam that moves images without a gradient, or a clip that rounds them."""
    config = configure("delt", ipc=5, images_per_batch=5, iterations=12, iterations_step=2)
    unit = next(batches_of(config))
    recover = config.image_sets["distilled"]
    assert isinstance(recover, RecoverConfig)
    space = ReferenceSpace.of(teachers["striding"].preprocessing, 3, CPU)
    images = torch.randint(
        0, 256, (5, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    x = space.from_images(images)
    start = x.clone()
    setting = RecoverSetting(unit, recover, teachers, torch.zeros(5, dtype=torch.int64), space, SIZE, CPU)
    seen: list[Tensor] = []

    class Watching(Augmentation):
        def __call__(self, images: Tensor, iteration: int) -> Tensor:
            seen.append(x.detach().clone())
            return super().__call__(images, iteration)

    with Objective(setting) as objective:
        optimise(x, setting, objective, Watching(recover, 12, SIZE, 0, CPU))
    for place, iterations in enumerate(unit.iterations):
        joins_at = 12 - iterations
        for iteration, now in enumerate(seen):
            assert torch.equal(now[place], start[place]) == (iteration <= joins_at)
