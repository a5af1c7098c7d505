"""The test of a teacher that comes with weights: do its answers fit the classes of the data?

A sample of the real training images is passed through it. Nothing is concluded from too few images: an
accuracy is near chance only if it is surely low, and an order of classes is found on one half of the images
and tested on the other.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.stats import binomtest

from prism_ray.config import TeacherConfig
from prism_ray.data import RealImages
from prism_ray.errors import ConfigError
from prism_ray.seeds import derive_seed
from prism_ray.stages.squeeze import checked_sample
from prism_ray.teachers.class_order import Order, known_orders, shown_indices, shown_pairs

_SURE = 0.99
_BY_CHANCE = 0.001  # largest probability that a better order is an accident
_GOOD = 0.5  # smallest accuracy of an order that was fitted
_USELESS = 0.1  # of the way from chance to 100 %: a teacher that is surely worse is not believed

Indices = npt.NDArray[np.int64]


def sample_images(data: RealImages) -> Indices:
    """Return the indices of the training images for the test, the same in every run on the same data."""
    num_classes = len(data.class_names)
    labels = range(num_classes)
    num_shown, quota = checked_sample(num_classes)
    if num_classes > num_shown:
        ranked = sorted(labels, key=lambda k: derive_seed("check-accuracy", data.class_names[k]))
        labels = sorted(ranked[:num_shown])  # type: ignore[assignment]
    picked = []
    for label in labels:
        rng = np.random.default_rng(derive_seed("check-accuracy", data.class_names[label]))
        picked.append(rng.permutation(data.train_indices(label))[:quota])
    return np.concatenate(picked)


def find_misfit(labels: Indices, answers: Indices, class_names: Sequence[str]) -> tuple[str, Order | None]:
    """Return what speaks against the `answers` (N,) to images of the classes `labels` (N,); "" if nothing.

    With it comes the order of the classes that fits the answers, if there is one. Images of a class stand
    together.
    """
    if len(labels) == 0:
        return "", None
    share = f"{_share(labels == answers)} of {len(labels):,} training images are right"
    name, order = _known_order(labels, answers, known_orders(class_names))
    if order is None:
        name, order = "another order", _fitted_order(labels, answers, len(class_names))
    if order is not None:
        pairs = shown_pairs(class_names, order)
        then = _share(np.asarray(order)[labels] == answers)
        return f"its answers fit the classes in {name}: {share}, and {then} in {name} ({pairs}, ...)", order
    chance = _chance(labels, answers, len(class_names))
    if _is_near_chance(labels == answers, chance):
        return f"its accuracy is that of chance: {share}, and {chance:.1%} would be by chance", None
    return "", None


def _share(right: npt.NDArray[np.bool_]) -> str:
    return f"{right.mean():.1%}"


def _chance(labels: Indices, answers: Indices, num_classes: int) -> float:
    """Return the accuracy of answers that do not depend on the image, but are given as often."""
    rows, columns = (np.bincount(values, minlength=num_classes) / len(labels) for values in (labels, answers))
    return float(rows @ columns)


def _is_near_chance(right: npt.NDArray[np.bool_], chance: float) -> bool:
    """Return whether an accuracy cannot be told from chance, although there are images enough for that."""
    test = binomtest(int(right.sum()), len(right), chance, alternative="greater")
    return bool(test.pvalue > 1 - _SURE and _ceiling(right) < chance + _USELESS * (1 - chance))


def _ceiling(right: npt.NDArray[np.bool_]) -> float:
    """Return the accuracy that the true one is surely below (Clopper and Pearson)."""
    test = binomtest(int(right.sum()), len(right), alternative="less")
    return float(test.proportion_ci(_SURE).high)


def _known_order(labels: Indices, answers: Indices, orders: Mapping[str, Order]) -> tuple[str, Order | None]:
    """Return the best of the known orders, if it explains the answers clearly better than the present one."""
    best: tuple[int, str, Order | None] = (0, "", None)
    for name, order in orders.items():
        ours, theirs = _right_if_moved(labels, answers, np.asarray(order))
        if theirs >= 2 * ours and _is_better(ours, theirs):
            best = max(best, (theirs - ours, name, order), key=lambda found: found[0])
    return best[1:]


def _fitted_order(labels: Indices, answers: Indices, num_classes: int) -> Order | None:
    """Return the order of classes that repairs the answers, None if no order does.

    It is fitted to every second image of a class. Only classes are moved whose answers are mostly one output,
    which is mostly the answer to them. The other images show whether the order is better.
    """
    half = np.arange(len(labels)) % 2 == 0
    present, rows = np.unique(labels, return_inverse=True)
    counts = np.zeros((len(present), num_classes), dtype=np.int64)  # of answers, by label
    np.add.at(counts, (rows[half], answers[half]), 1)
    columns = linear_sum_assignment(counts, maximize=True)[1]
    hits = counts[np.arange(len(present)), columns]
    is_clear = (2 * hits > counts.sum(axis=1)) & (2 * hits > counts.sum(axis=0)[columns])
    order = np.arange(num_classes)
    order[present[is_clear]] = columns[is_clear]
    ours, theirs = _right_if_moved(labels[~half], answers[~half], order)
    moved = (order != np.arange(num_classes))[labels[~half]]
    explains = theirs >= 4 * ours and 2 * theirs >= moved.sum() and _is_better(ours, theirs)
    then = (order[labels] == answers).mean()
    if not explains or then < _GOOD:
        return None
    order[present] = columns  # unclear classes get what is left: no output is used twice
    return tuple(int(index) for index in order)


def _right_if_moved(labels: Indices, answers: Indices, order: Indices) -> tuple[int, int]:
    """Return the right answers in the order of the data and in `order`, to the classes that differ."""
    moved = order[labels] != labels
    return int((answers == labels)[moved].sum()), int((answers == order[labels])[moved].sum())


def _is_better(ours: int, theirs: int) -> bool:
    """Return whether `theirs` right answers against `ours` are no accident (a sign test)."""
    if theirs <= ours:
        return False
    return bool(binomtest(theirs, ours + theirs, 0.5, alternative="greater").pvalue < _BY_CHANCE)


def find_outputs(labels: Indices, outputs: Indices, indices: Sequence[int]) -> tuple[str, Order | None]:
    """Return what speaks against `indices`, the outputs for the classes; "" if nothing.

    With it come the indices that fit. `outputs` (N,) are the largest of all outputs for the images of the
    classes `labels` (N,).
    """
    expected = np.asarray(indices)[labels]
    order = _fitted_order(expected, outputs, int(max(outputs.max(), *indices)) + 1)
    if order is None:
        return "", None
    fitting = tuple(order[index] for index in indices)
    then = _share(np.asarray(fitting)[labels] == outputs)
    return f"its class_indices are those of other classes: with the right ones {then} would be right", fitting


def check_answers(
    config: TeacherConfig,
    labels: Indices,
    answers: Indices,
    class_names: Sequence[str],
    all_outputs: Callable[[], Indices],
    key: str,
) -> None:
    """Raise ConfigError, with the remedy, if the `answers` (N,) do not fit the classes of the data.

    `all_outputs` returns the largest of all outputs (N,), for a teacher with `class_indices`.
    """
    problem, order = find_misfit(labels, answers, class_names)
    used = config.class_indices
    fitting = None if order is None else tuple(used[k] if used else k for k in order)
    if order is None and used is not None and (labels == answers).mean() < _GOOD:
        other, fitting = find_outputs(labels, all_outputs(), used)
        problem = other or problem
    if not problem:
        return
    remedy = (
        "the weights may be of other classes (set class_indices, or give the classes in their order with "
        "data.classes), or may need another mean, std or input_size"
    )
    if fitting is not None:
        remedy = f"set the teacher's class_indices to {shown_indices(fitting)}"
    if order is not None:
        remedy += ", or give the classes in the order of the weights with data.classes"
    raise ConfigError(
        f"{key}.arch = {config.arch!r}: {problem}; {remedy}; or set teachers.check_accuracy to false to use "
        "the teacher as it is"
    )
