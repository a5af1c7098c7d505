"""The sentences that end `distill`, `status` and `compare`, from rows as the store has them."""

import math
import statistics
from typing import Any

import pytest

from prism_ray.analyze.intervals import t_quantile
from prism_ray.analyze.results import ImageSetFigures, ResultRow, Results, TeacherFigures
from prism_ray.analyze.verdict import Observed, Verdict, judge
from prism_ray.config import parse_config, with_controls
from prism_ray.data import DataFacts
from prism_ray.run import Run, new_run

CONTROL = {"method": "random-real"}
PAIR = {"prism": {}, "random-real": CONTROL}


def run_of(image_sets: dict[str, Any] | None = None, **changes: Any) -> Run:
    """Describe a run of ten classes; `changes` replace whole sections."""
    values: dict[str, Any] = {
        "store": "somewhere",
        "data": {"source": "digits", "image_size": 8, "validation_fraction": 0.1},
        "teachers": {"pool": [{"name": "a", "arch": "timm:x"}, {"name": "b", "arch": "timm:x"}]},
        "recover": {"ipc": 2, "primary": "a", "iterations_step": 0},
        "evaluate": {"student": {"arch": "timm:x"}, "num_students": 3},
        **changes,
    }
    if image_sets is not None:
        values["image_sets"] = image_sets
    facts = DataFacts(
        tuple("0123456789"), (5,) * 10, num_test_images=10_000, channels=1, identity="some data"
    )
    return new_run(parse_config(values, "test"), facts, 1)


def observed(
    accuracies: dict[str, tuple[float, ...]],
    teachers: tuple[float | None, ...] = (0.97, 0.985),
    evaluation: str = "student",
    split: str = "test",
    labels: str = "soft",
) -> Observed:
    rows = [ResultRow(name, evaluation, labels, split, values) for name, values in accuracies.items()]
    sets = [ImageSetFigures(name, name, 20, 1.0, None, None, {}) for name in accuracies]
    pool = [
        TeacherFigures(name, "timm:x", 1, 1, accuracy if split == "test" else 0.01, accuracy)
        for name, accuracy in zip("ab", teachers, strict=True)
    ]
    return Observed(Results(tuple(rows), tuple(sets)), tuple(pool))


def verdict(accuracies: dict[str, tuple[float, ...]], run: Run | None = None, **more: Any) -> Verdict:
    return judge(run or run_of(PAIR), [observed(accuracies, **more)])


def test_a_gain_is_told_in_points_with_its_interval_chance_and_teachers() -> None:
    """A gain in percent of the control, an interval of unpaired students, chance of two classes for ten."""
    found = verdict({"prism": (0.61, 0.66, 0.60), "random-real": (0.50, 0.57, 0.52)})
    assert found.text == (
        "prism is 9.3 points above random real images under the same labels (62.3 against 53.0 %; 95 % "
        "interval +5.5 to +13.1 over 3 pairs of students of one run). Chance is 10.0 %, the teachers reach "
        "97.0 to 98.5 %."
    )
    (gain,) = found.to_json()["gains"]
    assert (gain["is_sure"], gain["level"], gain["num_pairs"]) == (True, "above", 3)
    assert found.to_json()["chance"] == pytest.approx(0.1)
    assert found.to_json()["teachers"] == {"a": 0.97, "b": 0.985}


def test_a_loss_says_what_to_try() -> None:
    """A set that is worse than doing nothing, and a run that ends with "look at the images"."""
    run = run_of(PAIR, recover={"ipc": 2, "primary": "a", "learning_rate": 0.07})
    found = verdict(
        {"prism": (0.48, 0.47, 0.49), "random-real": (0.56, 0.55, 0.57)}, run, teachers=(0.5, 0.56)
    )
    assert "prism is 8.0 points BELOW random real images under the same labels" in found.text
    assert found.text.endswith(
        "Try, in a new store: a lower learning rate for prism (learning_rate, now 0.07); a start from random "
        "real images (init: random, now real); longer training of the teachers (teachers.squeeze.epochs, now "
        f"{run.config.teachers.squeeze.epochs}; they reach 53 % on average)."
    )


def test_a_remedy_that_is_in_use_is_not_recommended() -> None:
    """Advice to set what is set, or to train teachers that are good or that have weights of others."""
    rows = {"prism": (0.48, 0.47, 0.49), "random-real": (0.56, 0.55, 0.57)}
    random = {"ipc": 2, "primary": "a", "init": "random"}
    text = verdict(rows, run_of(PAIR, recover=random)).text
    assert "learning rate" in text
    assert "init" not in text
    assert "teachers.squeeze" not in text
    pool = [{"name": name, "arch": "timm:x@pretrained"} for name in "ab"]
    text = verdict(rows, run_of(PAIR, teachers={"pool": pool}), teachers=(0.5, 0.5)).text
    assert "teachers with better weights (they reach 50 % on average)" in text


def test_a_selected_set_has_no_learning_rate_to_lower() -> None:
    """AttributeError, or advice about pixels that nothing optimised."""
    run = run_of({"rded": {"method": "rded"}, "random-real": CONTROL})
    text = verdict({"rded": (0.4, 0.41, 0.4), "random-real": (0.5, 0.52, 0.5)}, run).text
    assert "rded is 10.3 points BELOW" in text
    assert "learning rate" not in text


def test_a_tie_is_called_level_and_says_how_to_learn_more() -> None:
    """A difference within the noise sold as a gain; teachers that leave no room and nobody says so."""
    text = verdict({"prism": (0.976, 0.979, 0.974), "random-real": (0.975, 0.975, 0.977)}).text
    assert text.startswith(
        "prism is level with random real images under the same labels (97.6 against 97.6 %;"
    )
    assert "would tell more" in text
    assert "a smaller recover.ipc leaves room for a gain" in text


def test_equal_students_are_level() -> None:
    """Division by a spread of 0, or an interval of no width taken for certainty of a gain."""
    found = verdict({"prism": (0.9, 0.8, 0.7), "random-real": (0.9, 0.8, 0.7)})
    assert "prism is level with" in found.text
    assert not found.gains[0].is_sure


def test_what_few_students_cannot_tell_is_not_claimed() -> None:
    """Two students with 8 points between the sets, and an interval of 25 points that nobody prints."""
    run = run_of(PAIR, evaluate={"student": {"arch": "timm:x"}, "num_students": 2})
    text = verdict({"prism": (0.60, 0.62), "random-real": (0.54, 0.52)}, run).text
    assert "prism is 8.0 points above" in text
    assert "over 2 pairs of students of one run), which is not sure" in text
    assert "More students (evaluate.num_students)" in text


def test_one_student_gives_no_interval() -> None:
    """StatisticsError, or an interval of nan."""
    run = run_of(PAIR, evaluate={"student": {"arch": "timm:x"}, "num_students": 1})
    found = verdict({"prism": (0.62,), "random-real": (0.54,)}, run)
    assert found.gains[0].interval is None
    assert "one pair of students cannot say how sure that is" in found.text
    assert "nan" not in found.text


def test_up_to_three_sets_are_named_and_of_more_the_best_and_the_worst() -> None:
    """A verdict of eighteen sentences, or one that hides the loser of two."""
    control = (0.50, 0.52, 0.51)
    sets = {"prism": {}, "sre2l": {"method": "sre2l"}, "random-real": CONTROL}
    rows = {"prism": (0.60, 0.62, 0.60), "sre2l": (0.44, 0.46, 0.46), "random-real": control}
    text = verdict(rows, run_of(sets)).text
    assert "prism is 9.7 points above random real images under the same labels (" in text
    assert "; sre2l is 5.7 points BELOW them (" in text
    assert "a lower learning rate for sre2l" in text
    more = {f"set{number}": {"replicate": number} for number in range(4)}
    rows = {f"set{number}": tuple(0.1 * number + one for one in (0.3, 0.32, 0.31)) for number in range(4)}
    text = verdict(rows | {"random-real": control}, run_of(more | {"random-real": CONTROL})).text
    assert text.startswith(
        "Of 4 image sets, 1 is surely above, 2 are surely below; the best and the worst: set3 is 10.0 points "
        "above random real images"
    )
    assert "set0 is 20.0 points BELOW them" in text
    assert "set1" not in text


@pytest.mark.parametrize(
    ("rows", "missing"),
    [
        ({}, "prism has 0 of 3, random-real has 0 of 3"),
        ({"prism": (0.6, 0.6, 0.6), "random-real": (0.5,)}, "random-real has 1 of 3"),
    ],
)
def test_an_unfinished_run_has_no_verdict_yet(rows: dict[str, tuple[float, ...]], missing: str) -> None:
    """Students of different seeds paired because some are not done, or a gain over what nobody trained."""
    found = verdict(rows)
    assert found.text == f"none yet, because students are not trained ({missing})."
    assert found.gains == ()


@pytest.mark.parametrize(
    ("image_sets", "message"),
    [
        ({"prism": {}}, "no random real images to compare with. Name the image sets in `image_sets`"),
        ({"random-real": CONTROL}, "only random real images"),
        (
            {"prism": {}, "random-real": {**CONTROL, "ipc": 1}},
            "another number of images per class than the other image sets (prism 2, random-real 1)",
        ),
    ],
)
def test_without_a_fair_control_there_is_no_verdict(image_sets: dict[str, Any], message: str) -> None:
    """A set of ten images per class that beats a control of one, or StopIteration where there is none."""
    run = run_of(image_sets)
    rows = {name: (0.6, 0.6, 0.6) for name in image_sets}
    text = verdict(rows, run).text
    assert text.startswith("none, because ")
    assert message in text


def test_an_evaluation_without_the_control_is_passed_over() -> None:
    """A control under hard labels, held against sets under soft ones."""
    evaluations = {
        "own": {"image_sets": ["prism"]},
        "hard": {"image_sets": ["random-real"], "labels": "hard"},
    }
    run = run_of(PAIR, evaluations=evaluations)
    rows = (
        ResultRow("prism", "own", "soft", "test", (0.6,) * 3),
        ResultRow("random-real", "hard", "hard", "test", (0.5,) * 3),
    )
    found = judge(run, [Observed(Results(rows, ()), ())])
    assert found.text.startswith("none, because no evaluation tests random-real beside another image set")
    both = run_of(PAIR, evaluations=evaluations | {"both": {"labels": "hard"}})
    rows += tuple(ResultRow(name, "both", "hard", "test", (0.6, 0.61, 0.6)) for name in PAIR)
    found = judge(both, [Observed(Results(rows, ()), ())])
    assert "under the same hard labels (evaluation both)" in found.text
    assert "what the teachers reach is not known" in found.text


def test_validation_images_are_named_and_teachers_are_those_of_the_same_images() -> None:
    """Settings chosen on validation images and reported as a result; the teachers' test accuracy beside."""
    evaluate = {"student": {"arch": "timm:x"}, "num_students": 3, "split": "validation"}
    rows = {"prism": (0.61, 0.66, 0.60), "random-real": (0.50, 0.57, 0.52)}
    text = verdict(rows, run_of(PAIR, evaluate=evaluate), split="validation", teachers=(0.9, 0.9)).text
    assert "These are validation images, on which settings may be chosen; the test images decide." in text
    assert "the teachers reach 90.0 %." in text


def test_students_near_chance_are_not_blamed_on_the_images() -> None:
    """Advice on learning rates where students saw six epochs."""
    text = verdict({"prism": (0.11, 0.12, 0.1), "random-real": (0.15, 0.16, 0.14)}).text
    assert "The students hardly learn: raise relabel.epochs (now 300) or recover.ipc." in text
    assert "learning rate" not in text


def test_runs_are_paired_by_their_means() -> None:
    """An interval over the students of all runs, as if those of one run had different images."""
    gains = (0.08, 0.10, 0.12)
    runs = [
        observed({"prism": (0.5 + gain, 0.54 + gain, 0.52), "random-real": (0.5, 0.54, 0.52)})
        for gain in gains
    ]
    found = judge(run_of(PAIR), runs)
    (gain,) = found.gains
    means = [2 * gain / 3 for gain in gains]
    half = t_quantile(2) * statistics.stdev(means) / math.sqrt(3)
    assert gain.interval == pytest.approx((statistics.fmean(means) - half, statistics.fmean(means) + half))
    assert "over 3 pairs of runs)" in found.text
    assert "one run" not in found.text


def with_hard_labels(soft: dict[str, tuple[float, ...]], hard: dict[str, tuple[float, ...]]) -> Verdict:
    """Judge a run whose config names the control hard-labels."""
    run = run_of(PAIR)
    run = new_run(with_controls(run.config, None, "test"), run.facts, 1)
    rows = observed(soft).results.rows
    rows += observed(hard, evaluation="student-hard-labels", labels="hard").results.rows
    both = observed(soft)
    return judge(run, [Observed(Results(rows, both.results.image_sets), both.teachers)])


SURE = {"prism": (0.61, 0.66, 0.60), "random-real": (0.50, 0.57, 0.52)}


def test_a_gain_that_hard_labels_do_not_show_is_told_as_such() -> None:
    """A gain of the labels sold as one of the images."""
    found = with_hard_labels(SURE, {"prism": (0.31, 0.30, 0.32), "random-real": (0.32, 0.30, 0.31)})
    lead = "With hard labels in place of the soft ones, prism is"
    assert f"{lead} level with random real images (31.0 against 31.0 %;" in found.text
    assert "So it is not shown that the images of prism gain without the soft labels." in found.text
    (gain,) = found.to_json()["hard_label_gains"]
    assert (gain["evaluation"], gain["level"]) == ("student-hard-labels", "level")


def test_a_gain_that_hard_labels_show_too_stands() -> None:
    """A gain of the images doubted because hard labels were tested."""
    found = with_hard_labels(SURE, {"prism": (0.41, 0.46, 0.40), "random-real": (0.30, 0.37, 0.32)})
    assert (
        "With hard labels in place of the soft ones, prism is 9.3 points above random real im" in found.text
    )
    assert "not shown" not in found.text


def test_hard_labels_count_only_when_all_their_students_are_trained() -> None:
    """A gain over a control of which one student is trained."""
    found = with_hard_labels(SURE, {"prism": (0.41, 0.46, 0.40), "random-real": (0.30,)})
    assert "hard labels" not in found.text
    assert found.hard_label_gains == ()
