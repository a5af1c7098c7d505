"""What is concluded from the answers of a teacher, and what is not."""

import numpy as np
import pytest

from prism_ray.data import RealImages
from prism_ray.data.base import ArrayImages
from prism_ray.teachers.answers import find_misfit, find_outputs, sample_images

NAMES = tuple(f"class {letter}" for letter in "abcdefghij")


def answers_of(
    accuracy: float, per_class: int, seed: int = 0, num_classes: int = 10
) -> tuple[np.ndarray, ...]:
    """Return labels, and answers of which a share is right and the others are anything."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(num_classes), per_class)
    others = rng.integers(0, num_classes, len(labels))
    return labels, np.where(rng.random(len(labels)) < accuracy, labels, others)


@pytest.mark.parametrize("accuracy", [0.1, 0.3, 0.9])
@pytest.mark.parametrize("per_class", [2, 5, 20, 100])
def test_a_weak_teacher_is_no_false_alarm(accuracy: float, per_class: int) -> None:
    """Would catch a run that ends because of a weak teacher, or of few images (true accuracies from 19 %)."""
    alarms = [find_misfit(*answers_of(accuracy, per_class, seed), NAMES)[0] for seed in range(40)]
    assert sum(map(bool, alarms)) <= 1


@pytest.mark.parametrize("per_class", [20, 100])
def test_answers_by_chance_are_told(per_class: int) -> None:
    """Would catch a table of students taught by noise, with exit code 0."""
    found = [find_misfit(*answers_of(0.0, per_class, seed), NAMES) for seed in range(40)]
    assert sum("its accuracy is that of chance" in problem for problem, _ in found) >= 36
    assert all(order is None for _, order in found)
    always_3 = np.full(10 * per_class, 3)
    problem, _ = find_misfit(answers_of(0.0, per_class)[0], always_3, NAMES)
    assert problem == (
        f"its accuracy is that of chance: 10.0% of {10 * per_class:,} training images are right, and 10.0% "
        "would be by chance"
    )


def test_another_order_is_found_and_told() -> None:
    """Would catch classes that a list has in another order, reported as a bad network or not at all."""
    order = np.asarray([1, 2, 0, 3, 4, 5, 6, 7, 9, 8])
    labels, answers = answers_of(0.9, 20)
    problem, found = find_misfit(labels, order[answers], NAMES)
    assert found == tuple(order)
    assert "its answers fit the classes in another order" in problem
    pairs = [
        "'class a' (class 0) as class 1",
        "'class b' (class 1) as class 2",
        "'class c' (class 2) as class 0",
    ]
    assert f"({', '.join(pairs)}, ...)" in problem


def test_an_order_that_explains_little_is_not_believed() -> None:
    """Would catch classes that a teacher confuses being taken for another order of the classes."""
    labels, answers = answers_of(0.9, 50)
    one_way = np.where(answers == 3, 5, answers)  # 3 is never answered
    assert find_misfit(labels, one_way, NAMES) == ("", None)
    rng = np.random.default_rng(0)
    swapped = np.where(np.isin(answers, (3, 5)) & (rng.random(len(answers)) < 0.55), 8 - answers, answers)
    assert find_misfit(labels, swapped, NAMES) == ("", None)


@pytest.mark.parametrize(("accuracy", "per_class"), [(0.95, 3), (0.95, 20), (0.3, 80)])
def test_known_orders_need_few_images(accuracy: float, per_class: int) -> None:
    """Would catch folders 0 to 11 in the order of text that a weak teacher, or a small sample, lets pass."""
    names = tuple(sorted(map(str, range(12))))
    labels, answers = answers_of(accuracy, per_class, num_classes=12)
    order = np.asarray(list(map(int, names)))
    problem, found = find_misfit(labels, order[answers], names)
    assert found == tuple(order)
    assert "the order of numbers" in problem
    assert "'10' (class 2) as class 10" in problem
    assert find_misfit(labels, answers, names) == ("", None)


def images_of(num_classes: int, per_class: int) -> RealImages:
    labels = np.tile(np.arange(num_classes), per_class)
    images = np.zeros((len(labels), 4, 4), np.uint8)
    names = tuple(f"{k:05d}" for k in range(num_classes))
    empty = np.empty(0, np.int64)
    return ArrayImages("x", names, {"train": images, "test": images[:0]}, {"train": labels, "test": empty}, 4)


@pytest.mark.parametrize(
    ("num_classes", "per_class", "expected"),
    [(2, 5, 10), (2, 900, 1024), (10, 300, 1020), (300, 9, 1200), (1500, 5, 4096)],
)
def test_the_sample_is_bounded_and_the_same_each_time(
    num_classes: int, per_class: int, expected: int
) -> None:
    """Would catch a pass over all of ImageNet, a class that is left out, or an alarm that comes and goes."""
    data = images_of(num_classes, per_class)
    sample = sample_images(data)
    assert len(sample) == len(set(sample)) == expected
    assert np.array_equal(sample, sample_images(data))
    labels = data.labels["train"][sample]
    assert np.array_equal(labels, np.sort(labels))
    assert len(set(labels)) == min(num_classes, 1024)


def test_wrong_class_indices_are_found_among_all_outputs() -> None:
    """Would catch the first ten of a thousand outputs in class_indices, which answer for other classes."""
    labels, answers = answers_of(0.9, 20)
    right = np.asarray([285, 665, 698, 872, 967, 22, 99, 243, 251, 305])
    problem, fitting = find_outputs(labels, right[answers], range(10))
    assert fitting == tuple(right)
    assert problem.startswith("its class_indices are those of other classes: with the right ones 8")
    assert find_outputs(labels, right[answers], right.tolist()) == ("", None)
    unknown = np.random.default_rng(0).integers(0, 1000, len(labels))
    assert find_outputs(labels, unknown, range(10)) == ("", None)
