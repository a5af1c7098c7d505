"""The seconds of a unit, from the figures of a calibration. Pure; no torch, no Ray."""

from collections.abc import Iterable, Mapping

import numpy as np

from prism_ray.calibrate import figures
from prism_ray.calibrate.small import iterations_by
from prism_ray.config import Config
from prism_ray.config.resolve import FULL_DATA
from prism_ray.data import DataFacts
from prism_ray.data.base import IN_MEMORY_BYTES
from prism_ray.plan import Plan
from prism_ray.stages import Unit
from prism_ray.stages.collect import CollectUnit
from prism_ray.stages.evaluate import EvaluateUnit
from prism_ray.stages.formation import ceil_div
from prism_ray.stages.measure import MeasureUnit
from prism_ray.stages.recover import RecoverUnit
from prism_ray.stages.relabel import RelabelUnit
from prism_ray.stages.squeeze import SqueezeUnit, checked_sample

Groups = Mapping[str, Mapping[str, float]]  # group -> step -> seconds


class Rates:
    """The seconds of units from those of their steps; None for a unit whose steps were not measured."""

    def __init__(self, plan: Plan, groups: Groups) -> None:
        self._plan, self._config, self._facts = plan, plan.config, plan.facts
        self._groups = groups
        self._fits: dict[str, IterationCost] = {}
        pixels = self._facts.channels * self._config.data.image_size**2
        self._num_train, self._num_tests = held_back(self._config, self._facts)
        self._is_kept = kept_bytes(self._config, self._facts) > 0
        is_folder = self._config.data.source == "image-folder"  # which keeps what it has decoded
        self._is_decoded_once = is_folder and self._is_kept
        self._are_tests_decoded_once = is_folder and self._num_tests * pixels <= IN_MEMORY_BYTES

    def seconds_to_load(self, teacher: str) -> float:
        """Return the seconds in which an actor loads a teacher; 0 if they are not known."""
        return self._groups.get(figures.squeeze_group(teacher), {}).get("load", 0.0)

    def seconds(self, unit: Unit) -> float | None:
        """Return the seconds of a unit whose teachers are loaded."""
        try:
            if isinstance(unit, SqueezeUnit):
                return self._squeeze(unit)
            if isinstance(unit, CollectUnit):
                rates = self._groups[figures.collect_group(unit.kind, unit.teacher)]
                return rates["image"] * self._num_collected(unit)
            if isinstance(unit, RecoverUnit):
                return self._recover(unit)
            if isinstance(unit, RelabelUnit):
                rates = self._groups[figures.RELABEL]
                return rates["rest"] + rates["view"] * num_views(self._plan, unit)
            if isinstance(unit, MeasureUnit):
                image = self._groups[figures.MEASURE]["image"]
                return image * self._plan.num_images(unit.image_set)
            if isinstance(unit, EvaluateUnit):
                return self._evaluate(unit)
        except KeyError:  # a group, or a step of it, that was not measured
            return None
        return None  # a stage of another package

    @property
    def _read(self) -> float:
        return self._groups[figures.DATA]["read_image"]

    def _squeeze(self, unit: SqueezeUnit) -> float:
        rates, teacher = self._groups[figures.squeeze_group(unit.teacher)], self._config.teacher(unit.teacher)
        test = self._test(rates["test_image"], self._num_tests, 1)
        if not self._are_tests_decoded_once:  # all are read before anything else
            test += self._facts.num_test_images * self._read
        if teacher.weights is not None:
            num_shown, quota = checked_sample(self._facts.num_classes)
            num_images = min(num_shown * quota, self._num_train)
            return rates["rest"] + num_images * (rates["test_image"] + self._read) + test
        squeeze = self._config.teachers.squeeze
        passes = 2 if self._is_kept else 1 + squeeze.epochs
        reading = (1 if self._is_decoded_once else passes) * self._num_train * self._read
        steps = squeeze.epochs * ceil_div(self._num_train, squeeze.batch_size)
        return rates["rest"] + reading + steps * rates["step"] + test

    def _test(self, test_image: float, num_images: int, num_tests: int) -> float:
        """Return the seconds to read real images and to test a network on them some times."""
        num_read = 1 if self._are_tests_decoded_once else num_tests
        return num_images * (num_tests * test_image + num_read * self._read)

    def _num_collected(self, unit: CollectUnit) -> int:
        collect, counts = self._config.collect, [self._facts.train_counts[label] for label in unit.classes]
        most = collect.rded_images_per_class if unit.kind == "rded" else collect.images_per_class
        return sum(min(count, most or count) for count in counts)

    def _recover(self, unit: RecoverUnit) -> float:
        rates = self._groups[figures.recover_group(unit.image_set)]
        if not unit.draws:
            return rates["rest"] * len(unit.slots)
        if unit.image_set not in self._fits:
            self._fits[unit.image_set] = IterationCost(rates)
        cost = self._fits[unit.image_set]
        counts = iterations_by(self._plan, unit)
        return rates["rest"] + sum(count * cost.of(n, draw) for (n, draw), count in counts.items())

    def _evaluate(self, unit: EvaluateUnit) -> float:
        rates = self._groups[figures.evaluate_group(unit.evaluation)]
        evaluation = self._config.evaluations[unit.evaluation]
        steps, num_epochs = student_steps(self._plan, unit)
        num_tests = ceil_div(num_epochs, evaluation.epochs_between_tests(num_epochs))
        tested = self._facts.num_test_images if evaluation.split == "test" else self._num_tests
        test = self._test(rates["test_image"], tested, num_tests)
        reading = 0.0
        if unit.image_set == FULL_DATA:
            reading = self._read * self._num_train * (1 if self._is_kept else num_epochs)
        return rates["rest"] + steps * rates["step"] + test + reading


class IterationCost:
    """The seconds of an iteration of recover with any draw and any number of images.

    A draw that was measured has its own figure. For others, a sum over their teachers is fitted to those
    that were measured: s(S) = a + sum over m in S of c_m, with least squares and no negative c_m.
    """

    def __init__(self, rates: Mapping[str, float]) -> None:
        """Raise KeyError if no iteration was measured."""
        measured: dict[tuple[int, tuple[str, ...]], float] = {}
        for name, seconds in rates.items():
            size, _, draw = name.partition(" ")
            if size.isdigit() and draw:
                measured[int(size), tuple(sorted(draw.split("+")))] = seconds
        if not measured:
            raise KeyError("iterations")
        self._most = max(size for size, _ in measured)
        self._known = {draw: seconds for (size, draw), seconds in measured.items() if size == self._most}
        self._share = 0.0  # of an iteration that does not depend on the number of images
        for (num_images, names), seconds in measured.items():
            if num_images < self._most and names in self._known:
                ratio, part = seconds / self._known[names], num_images / self._most
                self._share = min(1.0, max(0.0, (ratio - part) / (1.0 - part)))
        self._base, self._costs = _fit(self._known)

    def of(self, num_images: int, draw: Iterable[str]) -> float:
        """Return the seconds of an iteration."""
        names = tuple(sorted(draw))
        whole = self._known.get(names)
        if whole is None:
            average = sum(self._costs.values()) / max(1, len(self._costs))
            whole = self._base + sum(self._costs.get(name, average) for name in names)
        return whole * (self._share + (1.0 - self._share) * num_images / self._most)


def _fit(known: Mapping[tuple[str, ...], float]) -> tuple[float, dict[str, float]]:
    """Return the base and the cost of each teacher; see IterationCost."""
    from scipy.optimize import nnls  # late: only a run with many draws needs it

    names = sorted({name for draw in known for name in draw})
    rows = np.array([[1.0, *(float(name in draw) for name in names)] for draw in known])
    found, _ = nnls(rows, np.array(list(known.values())))
    return float(found[0]), dict(zip(names, found[1:].tolist(), strict=True))


def work_of(plan: Plan, unit: Unit) -> float:
    """Return about how much work a unit is, in passes of an image through a network: for comparisons of
    units of one kind, when nothing is measured.
    """
    if isinstance(unit, RecoverUnit) and unit.draws:
        counts = iterations_by(plan, unit)
        return float(sum(count * n * (1 + len(draw)) for (n, draw), count in counts.items()))
    if isinstance(unit, RecoverUnit):
        return float(len(unit.slots))
    if isinstance(unit, RelabelUnit):
        return float(num_views(plan, unit))
    if isinstance(unit, MeasureUnit):
        return float(plan.num_images(unit.image_set))
    if isinstance(unit, EvaluateUnit):
        return float(student_steps(plan, unit)[0])
    if isinstance(unit, CollectUnit):
        return float(sum(plan.facts.train_counts[label] for label in unit.classes))
    return 1.0


def num_views(plan: Plan, unit: RelabelUnit) -> int:
    """Return the number of views that a unit labels."""
    formation = plan.formation(unit.image_set)
    return unit.num_epochs * sum(map(formation.size, formation.group(unit.group)))


def student_steps(plan: Plan, unit: EvaluateUnit) -> tuple[int, int]:
    """Return the number of training steps of a student, and of its epochs."""
    config = plan.config
    evaluation, num_epochs = config.evaluations[unit.evaluation], config.relabel.epochs
    if unit.image_set == FULL_DATA:
        num_images = held_back(config, plan.facts)[0]
        num_epochs = evaluation.full_data_epochs or num_epochs
    else:
        num_images = plan.num_images(unit.image_set)
    return num_epochs * ceil_div(num_images, evaluation.batch_size), num_epochs


def held_back(config: Config, facts: DataFacts) -> tuple[int, int]:
    """Return the number of training images, and of the images that teachers are tested on."""
    num_train = sum(facts.train_counts)
    fraction = config.data.validation_fraction
    num_validation = round(num_train * fraction / (1.0 - fraction))
    return num_train, facts.num_test_images + num_validation


def kept_bytes(config: Config, facts: DataFacts) -> int:
    """Return the bytes of the training images that a process keeps in memory; 0 if they are too many."""
    num_bytes = sum(facts.train_counts) * facts.channels * config.data.image_size**2
    return num_bytes if num_bytes <= IN_MEMORY_BYTES else 0


def kin_of(unit: Unit) -> str:
    """Return the kind of a unit: those of a kind take as long for the same work, in any image set."""
    stage, _, rest = unit.id.partition("/")
    if stage in ("relabel", "measure"):
        return stage
    if isinstance(unit, EvaluateUnit):
        return f"{stage}/{unit.evaluation}"
    first, slash, _ = rest.rpartition("/")
    return f"{stage}/{first}" if slash else f"{stage}/{rest}"
