"""The measurement: units of a small run are done by the real work functions, and their steps are timed."""

import gc
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pkgutil import resolve_name
from statistics import median
from typing import Any

import numpy as np
import torch

from prism_ray.calibrate import figures
from prism_ray.calibrate.figures import Group
from prism_ray.calibrate.small import IMAGES, Batch, SmallRun
from prism_ray.config import RecoverConfig, TeacherConfig
from prism_ray.config.resolve import FULL_DATA
from prism_ray.data import RealImages
from prism_ray.device import peak_bytes, reset_peak
from prism_ray.relabel.ensemble import epochs_together
from prism_ray.run import Run
from prism_ray.seeds import derive_seed
from prism_ray.stages import Unit, find_stage, stage_of
from prism_ray.stages.collect import collection, collections
from prism_ray.stages.evaluate import EvaluateUnit
from prism_ray.stages.measure import MeasureUnit
from prism_ray.stages.recover import RecoverUnit
from prism_ray.stages.recover import batch as planned_batch
from prism_ray.stages.relabel import STAGE as RELABEL
from prism_ray.stages.squeeze import SqueezeUnit, card_part, weights_part
from prism_ray.store import Commit, StoreFiles, layout, write_commit
from prism_ray.teachers.batchnorm import find_batchnorm
from prism_ray.teachers.build import build_network, count_parameters
from prism_ray.teachers.cards import TeacherCard, encode_weights
from prism_ray.teachers.library import network_of
from prism_ray.teachers.teacher import Preprocessing
from prism_ray.teachers.training import measure_accuracy
from prism_ray.work.checkpoints import Control
from prism_ray.work.context import Finish, WorkContext

_RECOVER_S = 15.0  # to spend on the iterations of an image set
_MOST_REPEATS, _LEAST_REPEATS = 12, 2  # iterations of a draw
_NUM_READ = 64  # real images


@dataclass
class _Watch(Control):
    """Takes down when each step of a unit ended."""

    clock: Callable[[], float] = time.perf_counter
    device: torch.device = field(default_factory=partial(torch.device, "cpu"))
    times: list[float] = field(default_factory=list)

    def report(self, num_done: int, total: int, values: Callable[[], Any] = dict) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.times.append(self.clock())

    @property
    def steps(self) -> list[float]:
        """Seconds of each step from the second on."""
        return [after - before for before, after in zip(self.times, self.times[1:], strict=False)]


@dataclass(frozen=True)
class _Timed:
    """A unit that was done."""

    watch: _Watch
    seconds: float  # all
    tail: float  # after its last step


class Rig:
    """Measures the groups of a small run on one device, in a temporary store."""

    def __init__(
        self, small: SmallRun, run: Run, full_data: RealImages, files: StoreFiles, device: torch.device
    ) -> None:
        """`run` is that of the small config; `full_data` are all real images."""
        self._small, self._files, self._device = small, files, device
        self._clock = clock_of(device)
        self._full_data = full_data
        self._context = WorkContext(run, files, device)
        self._context.data = small.data
        self._run = run
        self._read_image = 0.0
        self.groups: dict[str, tuple[dict[str, float], int]] = {}  # name -> seconds, peak bytes

    def measure(self, trained: frozenset[str], say: Callable[[str], None]) -> None:
        """Measure all groups; of the teachers, only those `trained` in squeeze are trained here too."""
        config = self._run.config
        say("real images")
        self._read_image = self._measure_reading()
        self.groups[figures.DATA] = {"read_image": self._read_image}, 0
        for teacher in config.teachers.pool:
            say(f"squeeze {teacher.name}")
            self._teacher(teacher, is_trained=teacher.name in trained)
        for kind, name in collections(self._run.plan):
            say(f"collect {kind} {name}")
            units = list(collection(self._run.plan, kind, name))
            with self._group(figures.collect_group(kind, name)) as seconds:
                timed = [self._do(unit) for unit in units]
                num_images = len(self._small.data.labels["train"])
                seconds["image"] = sum(each.seconds for each in timed) / num_images
        for name, image_set in config.image_sets.items():
            if name != IMAGES:
                say(f"recover {name}")
                self._recover(name, is_optimised=isinstance(image_set, RecoverConfig))
        self._labels_and_students(say)

    @contextmanager
    def _group(self, name: str) -> Iterator[dict[str, float]]:
        """Yield the seconds of a group, to be filled; its peak memory is measured meanwhile."""
        seconds: dict[str, float] = {}
        gc.collect()
        reset_peak(self._device)
        yield seconds
        self.groups[name] = seconds, peak_bytes(self._device)

    def _do(self, unit: Unit) -> _Timed:
        """Do a unit as an actor does, and commit it."""
        watch = self._context.control = _Watch(clock=self._clock, device=self._device)
        torch.manual_seed(unit.seed)
        started = self._clock()
        finish: Finish = resolve_name(find_stage(stage_of(unit.id)).work)(self._context, unit)
        self._commit(unit.id, finish)
        ended = self._clock()
        last = watch.times[-1] if watch.times else started
        return _Timed(watch, ended - started, ended - last)

    def _commit(self, unit_id: str, finish: Finish) -> None:
        work = finish()
        fingerprint = self._run.fingerprint_of(unit_id)
        write_commit(self._files, Commit(unit_id, fingerprint, work.files, work.stats, 0.0, "", ""))

    def _measure_reading(self) -> float:
        """Return the seconds to read and decode a real image."""
        data = self._full_data
        indices = np.arange(min(_NUM_READ, len(data.labels["train"])))
        data.read("train", indices[:2])
        started = self._clock()
        data.read("train", indices)
        return (self._clock() - started) / len(indices)

    def _teacher(self, teacher: TeacherConfig, is_trained: bool) -> None:
        """Train a teacher for some steps, or store it with random weights; then load and test it."""
        config, data = self._run.config, self._small.data
        unit = SqueezeUnit(teacher.name, derive_seed(config.seed, "squeeze", teacher.name))
        with self._group(figures.squeeze_group(teacher.name)) as seconds:
            if is_trained:
                timed = self._do(unit)
                steps = timed.watch.steps
                seconds["step"] = _typical(steps)
                rest = timed.seconds - sum(steps) - seconds["step"]
            else:
                started = self._clock()
                self._commit(unit.id, self._random_teacher(teacher))
                rest = self._clock() - started
            started = self._clock()
            loaded = self._context.teacher(teacher.name)
            seconds["load"] = self._clock() - started
            started = self._clock()
            measure_accuracy(loaded.network, data, loaded.preprocessing, self._device)
            num_test = len(data.labels["test"])
            test = self._clock() - started
            seconds["test_image"] = max(0.0, test / num_test - self._read_image)
            if is_trained:  # two passes over the training images, three over the test images
                reading = 2 * len(data.labels["train"]) + num_test
                rest -= reading * self._read_image + test
            seconds["rest"] = max(0.0, rest)

    def _random_teacher(self, teacher: TeacherConfig) -> Finish:
        """Return the finish of a squeeze unit whose teacher has its initial weights."""
        num_classes, bare = len(self._small.data.class_names), network_of(teacher)
        network = build_network(bare, num_classes, f"teacher {teacher.name}")
        assert isinstance(teacher.input_size, int)
        preprocessing = Preprocessing((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), teacher.input_size)
        weights = encode_weights(network, preprocessing)
        card = TeacherCard(
            name=teacher.name,
            network=bare.model_dump(mode="json"),
            num_classes=num_classes,
            preprocessing=preprocessing,
            num_parameters=count_parameters(network),
            num_bn_layers=len(find_batchnorm(network)),
            test_accuracy=None,
            weights_sha256=hashlib.sha256(weights).hexdigest(),
        )
        parts = partial(weights_part, teacher.name), partial(card_part, teacher.name)
        stats = {"validation_accuracy": 0.5}
        return self._context.finish(stats, (parts[0], weights), (parts[1], card.to_json()))

    def _recover(self, name: str, is_optimised: bool) -> None:
        """Measure the iterations of each draw of an image set, with the largest and the smallest batch."""
        with self._group(figures.recover_group(name)) as seconds:
            if not is_optimised:
                unit = planned_batch(self._run.plan, name, 0)
                seconds["rest"] = self._do(unit).seconds / len(unit.slots)
                return
            batch = self._small.batches[name]
            num_images = len(batch.slots)
            started = self._clock()
            probe = self._do(self._batch(name, batch, batch.draws[:1], 2, num_images))
            one = max(1e-4, probe.watch.steps[-1])
            draws = batch.draws[: max(2, int(_RECOVER_S / one / _LEAST_REPEATS))]
            repeats = int(_RECOVER_S / one / len(draws))
            repeats = min(_MOST_REPEATS, max(_LEAST_REPEATS, repeats))
            timed = self._do(self._batch(name, batch, draws, repeats, num_images))
            times = [started, *timed.watch.times]
            for number, draw in enumerate(draws):
                last = (number + 1) * repeats
                first = max(1, last - repeats)  # the first iteration of all has no beginning
                seconds[step_name(num_images, draw)] = (times[last] - times[first]) / (last - first)
            whole = sum(timed.watch.steps) + seconds[step_name(num_images, draws[0])]
            seconds["rest"] = max(0.0, timed.seconds - whole)
            fewest = min(batch.sizes)
            if fewest < num_images:
                timed = self._do(self._batch(name, batch, draws[:1], repeats, fewest))
                seconds[step_name(fewest, draws[0])] = median(timed.watch.steps)

    def _batch(
        self, name: str, batch: Batch, draws: tuple[tuple[str, ...], ...], repeats: int, num_images: int
    ) -> RecoverUnit:
        """Return a batch that has each draw for some iterations, one after the other."""
        self._redraw_every(name, repeats)
        slots = batch.slots[:num_images]
        iterations = (repeats * len(draws),) * len(slots)
        key = f"{len(draws)}-{repeats}-{num_images}"
        return RecoverUnit(name, key, slots, iterations, draws, derive_seed(self._run.config.seed, name))

    def _redraw_every(self, name: str, repeats: int) -> None:
        """Set the iterations between two draws of an image set."""
        config = self._context.config
        image_set = config.image_sets[name]
        assert isinstance(image_set, RecoverConfig)
        selection = image_set.selection.model_copy(
            update={
                "redraw": repeats,
                "priors": {teacher.name: 50.0 for teacher in config.teachers.pool},
            }
        )
        sets = config.image_sets | {name: image_set.model_copy(update={"selection": selection})}
        self._context.config = config.model_copy(update={"image_sets": sets})

    def _labels_and_students(self, say: Callable[[str], None]) -> None:
        plan, config = self._run.plan, self._run.config
        self._do(planned_batch(plan, IMAGES, 0))
        num_images, num_epochs = plan.num_images(IMAGES), self._small.num_epochs
        for name in {*config.label_teachers, config.primary, config.feature_teacher}:
            self._context.teacher(name)
        if config.relabel.mode == "stored":
            say("relabel")
            with self._group(figures.RELABEL) as seconds:
                timed = [self._do(unit) for unit in RELABEL.units(plan) if unit.image_set == IMAGES]
                together = epochs_together(config.relabel, num_images)
                passes = [pass_ for each in timed for pass_ in _in_passes(each.watch.steps, together)]
                tail = sum(each.tail for each in timed)  # to encode and write
                seconds["view"] = (_typical(passes) + tail / num_epochs) / num_images
                whole = sum(each.seconds for each in timed)
                rest = whole - num_epochs * num_images * seconds["view"]
                seconds["rest"] = max(0.0, rest) / len(timed)
        say("measure")
        with self._group(figures.MEASURE) as seconds:
            self._do(MeasureUnit(IMAGES, 0))  # the first one warms up
            self._files.delete(layout.commit(f"measure/{IMAGES}"))
            seconds["image"] = self._do(MeasureUnit(IMAGES, 0)).seconds / num_images
        for key, evaluation in config.evaluations.items():
            say(f"evaluate {key}")
            is_full = evaluation.train_on == FULL_DATA
            unit = EvaluateUnit(FULL_DATA if is_full else IMAGES, key, 0, derive_seed(config.seed, key))
            count = len(self._small.data.labels["train"]) if is_full else num_images
            num_steps = -(-count // evaluation.batch_size)
            with self._group(figures.evaluate_group(key)) as seconds:
                student = self._do(unit)
                epoch = _typical(student.watch.steps)
                seconds["step"] = epoch / num_steps
                num_test = len(self._small.data.labels["test"])
                seconds["test_image"] = max(0.0, student.tail / num_test - self._read_image)
                seconds["rest"] = max(0.0, student.seconds - student.tail - num_epochs * epoch)

    def record(self, settings: dict[str, str]) -> dict[str, Group]:
        """Return the groups that were measured, with the hashes of their settings in the large run."""
        return {
            name: Group(settings[name], {key: float(f"{value:.4g}") for key, value in seconds.items()}, peak)
            for name, (seconds, peak) in self.groups.items()
            if name in settings
        }


def _in_passes(seconds: Sequence[float], together: int) -> list[float]:
    """Return the mean seconds of an epoch in each pass; its first epoch takes all of the time."""
    passes = (seconds[first : first + together] for first in range(0, len(seconds), together))
    return [sum(each) / len(each) for each in passes]


def step_name(num_images: int, draw: tuple[str, ...]) -> str:
    """Return the name of an iteration of some images with a draw of teachers."""
    return f"{num_images} {'+'.join(draw)}"


def _typical(values: list[float]) -> float:
    """Return the mean of the middle half: the first steps and rare pauses of the machine do not count."""
    ordered = sorted(values)
    cut = len(ordered) // 4
    kept = ordered[cut : len(ordered) - cut]
    return sum(kept) / len(kept)


def clock_of(device: torch.device) -> Callable[[], float]:
    """Return the clock of measurements.

    One thread on the CPU never waits in these steps, so its CPU time is what they take on an idle machine,
    whatever else this one does. On a GPU, or with several threads, only the time on the wall is known.
    """
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    return time.process_time if alone else time.perf_counter
