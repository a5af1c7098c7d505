"""The verdict on a run: what its image sets gained over random real images, how sure that is, what to try.

Students of two image sets are compared in pairs, because they share seeds, views and label teachers. So are
runs. The intervals are Student's t for a confidence of 95 %. They do not cover the choice of the test images,
which all students share. Within one run they do not cover the choice of the real images either.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

from prism_ray.analyze.compare import comparable_results
from prism_ray.analyze.fair import control_of, fair_figures
from prism_ray.analyze.intervals import interval
from prism_ray.analyze.results import (
    ResultRow,
    Results,
    TeacherFigures,
    read_other_results,
    read_results,
    read_teachers,
    to_plain,
)
from prism_ray.config import AnyImageSet, Config, RecoverConfig
from prism_ray.config.controls import find_control
from prism_ray.config.resolve import CONTROL, STUDENT
from prism_ray.run import Run, RunProgress
from prism_ray.store import StoreFiles

_MAX_NAMED = 3  # image sets with a sentence of their own; of more, the best and the worst are named
_LEVEL = 0.01  # a difference up to one point that is not sure either way is called level
_NEAR_CHANCE = 0.1  # share of the way from chance to 100 %
_NEAR_TEACHERS = 0.02

Level = Literal["above", "level", "BELOW"]


@dataclass(frozen=True)
class Observed:
    """The figures of one run that a verdict needs."""

    results: Results
    teachers: tuple[TeacherFigures, ...]


def observe(files: StoreFiles, run: Run, progress: RunProgress) -> Observed:
    """Read the figures of a run; raises StoreError if a commit does not have the figures of its unit."""
    present = read_results(files, run, progress)
    others = read_other_results(files, run, progress, present)
    return Observed(comparable_results(run, present, others), read_teachers(files, run, progress))


@dataclass(frozen=True)
class Gain:
    """An image set minus its control under one evaluation; shares in [0, 1]."""

    image_set: str  # name of the image set
    control: str  # name of the random real images
    evaluation: str  # name of the evaluation
    labels: str  # soft, hard
    split: str  # real images that students were tested on: test, validation
    mean: float  # accuracy of the image set
    control_mean: float  # accuracy of the control
    gain: float  # mean of the differences, pair by pair
    interval: tuple[float, float] | None  # for a confidence of 95 %; None for a single pair
    num_pairs: int  # differences that the mean is of
    pairs_of: Literal["students", "runs"]  # a pair has one of each: image set, control

    JSON_PROPERTIES: ClassVar = ("is_sure", "level")

    @property
    def is_sure(self) -> bool:
        """Whether the interval does not contain 0."""
        return self.interval is not None and (self.interval[0] > 0.0 or self.interval[1] < 0.0)

    @property
    def level(self) -> Level:
        """Where the image set stands to its control."""
        if not self.is_sure and abs(self.gain) <= _LEVEL:
            return "level"
        return "above" if self.gain > 0.0 else "BELOW"


@dataclass(frozen=True)
class Verdict:
    """The sentences, and the figures in them."""

    text: str  # for people
    gains: tuple[Gain, ...] = ()  # of the first evaluation that has a control, the best first
    hard_label_gains: tuple[Gain, ...] = ()  # of the same image sets under hard labels, where there are some
    chance: float | None = None  # accuracy of guessing
    full_data: float | None = None  # accuracy of the student on all real images with hard labels
    teachers: dict[str, float] = field(default_factory=dict)  # label teacher -> accuracy on these images

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `--json`."""
        gains, hard = ([to_plain(gain) for gain in each] for each in (self.gains, self.hard_label_gains))
        return asdict(self) | {"gains": gains, "hard_label_gains": hard}


def judge(run: Run, runs: Sequence[Observed]) -> Verdict:
    """Return the verdict on one run, or on several runs of its config that differ in their seed."""
    image_sets = {name: its_run.config.image_sets[name] for name, its_run in run.image_sets.items()}
    evaluation, pairs = _compared_sets(run.config, image_sets, runs)
    if not pairs:
        return Verdict(f"none, because {_why_not_compared(image_sets)}")
    missing = _missing(run.config, evaluation, runs)
    if missing is not None:
        return Verdict(f"none yet, because {missing}.")
    gains = sorted(
        (
            _gain(name, control, evaluation, runs, run.facts.num_test_images)
            for name, control in pairs.items()
        ),
        key=lambda gain: -gain.gain,
    )
    hard_gains = _hard_label_gains(run, gains, runs)
    fair = fair_figures(run, [each.results for each in runs])
    full_data = next((e.full_data for e in fair.evaluations if e.evaluation == evaluation), None)
    reach = None if full_data is None else full_data.mean
    chance = 1.0 / run.facts.num_classes
    teachers = _teacher_accuracies(run.config, gains[0].split, runs)
    sentences = [
        _gains_text(gains),
        _hard_labels_text(gains, hard_gains),
        _scale_text(chance, reach, teachers),
        _advice(run.config, image_sets, gains, chance, teachers),
        _surer_text(gains),
    ]
    text = " ".join(filter(None, sentences))
    return Verdict(text, tuple(gains), tuple(hard_gains), chance, reach, teachers)


def _compared_sets(
    config: Config, image_sets: Mapping[str, AnyImageSet], runs: Sequence[Observed]
) -> tuple[str, dict[str, str]]:
    """Return the first evaluation with a control, and the control of each of its other image sets.

    What only earlier configs name is compared too.
    """
    keys = [{(row.image_set, row.evaluation) for row in run.results.rows} for run in runs]
    found = sorted(set.intersection(*keys))
    for evaluation in dict.fromkeys([*config.evaluations, *(evaluation for _, evaluation in found)]):
        names = list(config.sets_of(evaluation)) if evaluation in config.evaluations else []
        names += [name for name, key in found if key == evaluation and name not in names]
        pairs = {name: control for name in names if (control := control_of(image_sets, name, names))}
        if pairs:
            return evaluation, pairs
    return "", {}


def _why_not_compared(image_sets: Mapping[str, AnyImageSet]) -> str:
    controls = [name for name, each in image_sets.items() if each.method == CONTROL]
    if not controls:
        return (
            "the run has no random real images to compare with. Name the image sets in `image_sets`, and "
            f"`{CONTROL}: {{method: {CONTROL}}}` among them; finished work is kept."
        )
    if len(controls) == len(image_sets):
        return "the run has only random real images, and nothing to compare with them."
    ipcs = {name: each.ipc for name, each in image_sets.items()}
    if not {ipcs[name] for name in controls} & {ipc for name, ipc in ipcs.items() if name not in controls}:
        counts = ", ".join(f"{name} {ipc}" for name, ipc in ipcs.items())
        return f"the control has another number of images per class than the other image sets ({counts})."
    return f"no evaluation tests {controls[0]} beside another image set; see evaluations.<name>.image_sets."


def _missing(config: Config, evaluation: str, runs: Sequence[Observed]) -> str | None:
    """Return which students of the present config are not trained yet, None if all are."""
    if evaluation not in config.evaluations:
        return None
    wanted, lacking = config.evaluations[evaluation].num_students, {}
    for name in config.sets_of(evaluation):
        done = min(_num_students(run, name, evaluation) for run in runs)
        if done < wanted:
            lacking[name] = done
    if not lacking:
        return None
    named = ", ".join(f"{name} has {done} of {wanted}" for name, done in list(lacking.items())[:_MAX_NAMED])
    more = f", and {len(lacking) - _MAX_NAMED} more image sets" if len(lacking) > _MAX_NAMED else ""
    return f"students are not trained ({named}{more})"


def _num_students(run: Observed, name: str, evaluation: str) -> int:
    keys = {(row.image_set, row.evaluation): len(row.accuracies) for row in run.results.rows}
    return keys.get((name, evaluation), 0)


def _gain(name: str, control: str, evaluation: str, runs: Sequence[Observed], num_test_images: int) -> Gain:
    step = 0.0
    rows, controls = ([_row(run, each, evaluation) for run in runs] for each in (name, control))
    if len(runs) == 1:
        both = zip(rows[0].accuracies, controls[0].accuracies, strict=False)  # one may have had more students
        ours, theirs = zip(*both, strict=True)
        if rows[0].split == "test" and num_test_images:
            step = 1.0 / num_test_images
    else:
        ours, theirs = (tuple(row.mean for row in each) for each in (rows, controls))
    differences = [one - other for one, other in zip(ours, theirs, strict=True)]
    return Gain(
        image_set=name,
        control=control,
        evaluation=evaluation,
        labels=rows[0].labels,
        split=rows[0].split,
        mean=statistics.fmean(ours),
        control_mean=statistics.fmean(theirs),
        gain=statistics.fmean(differences),
        interval=interval(differences, step),
        num_pairs=len(differences),
        pairs_of="students" if len(runs) == 1 else "runs",
    )


def _row(run: Observed, name: str, evaluation: str) -> ResultRow:
    return next(row for row in run.results.rows if (row.image_set, row.evaluation) == (name, evaluation))


def _teacher_accuracies(config: Config, split: str, runs: Sequence[Observed]) -> dict[str, float]:
    """Return the mean accuracies, over the runs, of the teachers that label; without unknown ones."""
    accuracies = {}
    for name in config.label_teachers:
        of_teacher = [each for run in runs for each in run.teachers if each.name == name]
        known = [
            accuracy
            for each in of_teacher
            if (accuracy := each.test_accuracy if split == "test" else each.validation_accuracy) is not None
        ]
        if known:
            accuracies[name] = statistics.fmean(known)
    return accuracies


def _gains_text(gains: Sequence[Gain]) -> str:
    first = gains[0]
    labels = "labels" if first.labels == "soft" else f"{first.labels} labels"
    control = f"random real images under the same {labels}"
    if first.evaluation != STUDENT:
        control += f" (evaluation {first.evaluation})"
    named, lead = gains, ""
    if len(gains) > _MAX_NAMED:
        named = (gains[0], gains[-1])
        lead = (
            f"Of {len(gains)} image sets, {_count(gains, 'above')} surely above, {_count(gains, 'BELOW')} "
            "surely below; the best and the worst: "
        )
    clauses = [_clause(gain, control if index == 0 else "them") for index, gain in enumerate(named)]
    text = lead + "; ".join(clauses)
    if first.split != "test":
        text += f". These are {first.split} images, on which settings may be chosen; the test images decide"
    return text + "."


def _hard_label_gains(run: Run, gains: Sequence[Gain], runs: Sequence[Observed]) -> list[Gain]:
    """Return the gains of the same image sets where hard labels took the place of the soft ones."""
    evaluation = gains[0].evaluation
    known = dict(run.config.evaluations)
    if evaluation not in known:
        return []
    hard = find_control(known, evaluation, "hard-labels")
    if hard is None or hard == evaluation or known[evaluation].labels == "hard":
        return []
    wanted = known[hard].num_students
    done = {
        name
        for gain in gains
        for name in (gain.image_set, gain.control)
        if min(_num_students(each, name, hard) for each in runs) >= wanted
    }
    return [
        _gain(gain.image_set, gain.control, hard, runs, run.facts.num_test_images)
        for gain in gains
        if {gain.image_set, gain.control} <= done
    ]


def _hard_labels_text(gains: Sequence[Gain], hard_gains: Sequence[Gain]) -> str:
    """Return what hard labels leave of the gains: those of the image sets named before."""
    if not hard_gains:
        return ""
    named = hard_gains if len(gains) <= _MAX_NAMED else (hard_gains[0], hard_gains[-1])
    clauses = [
        _clause(gain, "random real images" if index == 0 else "them") for index, gain in enumerate(named)
    ]
    text = f"With hard labels in place of the soft ones, {'; '.join(clauses)}."
    before = {gain.image_set: gain for gain in gains}
    lost = [
        gain.image_set
        for gain in named
        if before[gain.image_set].is_sure
        and before[gain.image_set].level == "above"
        and not (gain.is_sure and gain.level == "above")
    ]
    if lost:
        text += f" So it is not shown that the images of {' and '.join(lost)} gain without the soft labels."
    return text


def _count(gains: Sequence[Gain], level: Level) -> str:
    number = sum(gain.is_sure and gain.level == level for gain in gains)
    return f"{number} {'is' if number == 1 else 'are'}"


def _clause(gain: Gain, control: str) -> str:
    points = _points(abs(gain.gain))
    where = f"{points} {gain.level} {control}"
    if gain.level == "level":
        where = f"level with {control}"
    pairs = f"{gain.num_pairs} pairs of {gain.pairs_of}"
    pairs += " of one run" if gain.pairs_of == "students" else ""
    figures = [f"{100 * gain.mean:.1f} against {100 * gain.control_mean:.1f} %"]
    if gain.interval is None:
        doubt = f"one pair of {gain.pairs_of} cannot say how sure that is"
        return f"{gain.image_set} is {where} ({'; '.join([*figures, doubt])})"
    low, high = (f"{100 * bound:+.1f}" for bound in gain.interval)
    figures.append(f"95 % interval {low} to {high} over {pairs}")
    doubt = "" if gain.is_sure or gain.level == "level" else ", which is not sure"
    return f"{gain.image_set} is {where} ({'; '.join(figures)}){doubt}"


def _points(share: float) -> str:
    return f"{100 * share:.1f} {'point' if f'{100 * share:.1f}' == '1.0' else 'points'}"


def _scale_text(chance: float, full_data: float | None, teachers: Mapping[str, float]) -> str:
    text = f"Chance is {100 * chance:.1f} %"
    if full_data is not None:
        text += f", students on all real images with hard labels reach {100 * full_data:.1f} %"
    if not teachers:
        return f"{text}; what the teachers reach is not known."
    low, high = (f"{100 * bound(teachers.values()):.1f}" for bound in (min, max))
    reach = f"{low} %" if low == high else f"{low} to {high} %"
    return f"{text}, the teachers reach {reach}."


def _advice(
    config: Config,
    image_sets: Mapping[str, AnyImageSet],
    gains: Sequence[Gain],
    chance: float,
    teachers: Mapping[str, float],
) -> str:
    """Return what to try where the figures show a cause, in one sentence; often empty."""
    if max(gain.mean for gain in gains) < chance + _NEAR_CHANCE * (1.0 - chance):
        epochs = config.relabel.epochs
        return f"The students hardly learn: raise relabel.epochs (now {epochs}) or recover.ipc."
    remedies = []
    worst = gains[-1] if len(gains) <= _MAX_NAMED else gains[0]  # a large comparison has losers
    if worst.level == "BELOW":
        remedies = _remedies_below(worst.image_set, image_sets[worst.image_set])
    if teachers and _are_weak(gains, chance, teachers):
        remedies.append(_stronger_teachers(config, teachers))
    if remedies:
        return f"Try, in a new store: {'; '.join(remedies)}."
    reach = max(teachers.values(), default=1.0)
    if all(gain.level == "level" and gain.control_mean > reach - _NEAR_TEACHERS for gain in gains):
        return "Random real images nearly reach the teachers: a smaller recover.ipc leaves room for a gain."
    return ""


def _remedies_below(name: str, image_set: AnyImageSet) -> list[str]:
    if not isinstance(image_set, RecoverConfig):
        return []
    remedies = [f"a lower learning rate for {name} (learning_rate, now {image_set.learning_rate:g})"]
    if image_set.init != "random":
        remedies.append(f"a start from random real images (init: random, now {image_set.init})")
    return remedies


def _are_weak(gains: Sequence[Gain], chance: float, teachers: Mapping[str, float]) -> bool:
    """Whether the teachers are nearer to chance than to 100 %, or worse than their own students."""
    mean = statistics.fmean(teachers.values())
    return mean < (1.0 + chance) / 2 or mean < max(gain.control_mean for gain in gains)


def _stronger_teachers(config: Config, teachers: Mapping[str, float]) -> str:
    reach = f"they reach {100 * statistics.fmean(teachers.values()):.0f} % on average"
    if all(config.teacher(name).weights is not None for name in teachers):
        return f"teachers with better weights ({reach})"
    epochs = config.teachers.squeeze.epochs
    return f"longer training of the teachers (teachers.squeeze.epochs, now {epochs}; {reach})"


def _surer_text(gains: Sequence[Gain]) -> str:
    if all(gain.is_sure for gain in gains):
        return ""
    if gains[0].pairs_of == "runs":
        return "Runs of more seeds would tell more."
    return "More students (evaluate.num_students) or runs of other seeds (prism-ray compare) would tell more."
