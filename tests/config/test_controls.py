"""Controls as evaluations: which are added, which a run has already, and which it keeps."""

from typing import Any

import pytest

from prism_ray.config import Config, parse_config, with_controls
from prism_ray.config.controls import find_control, with_finished_controls
from prism_ray.errors import ConfigError

VALUES: dict[str, Any] = {
    "store": "somewhere",
    "data": {"source": "digits", "image_size": 8},
    "teachers": {"pool": [{"name": "a", "arch": "timm:x"}]},
    "recover": {"ipc": 2, "primary": "a", "iterations_step": 0},
    "evaluate": {"student": {"arch": "timm:x"}, "num_students": 2},
}


def config_of(evaluations: dict[str, Any] | None = None, **evaluate: Any) -> Config:
    values = VALUES | {"evaluate": VALUES["evaluate"] | evaluate}
    return parse_config(values | ({"evaluations": evaluations} if evaluations else {}), "test")


def added(config: Config, held: Config | None = None) -> dict[str, tuple[str, ...]]:
    """Name -> image sets of each evaluation after the controls were added."""
    found = with_controls(config, held, "test")
    return {name: found.sets_of(name) for name in found.evaluations}


def test_a_new_run_has_hard_labels_beside_the_soft_ones() -> None:
    """Catches a comparison in which a gain of the labels is sold as one of the images."""
    found = with_controls(config_of(), None, "test")
    assert list(found.evaluations) == ["student", "student-hard-labels"]
    hard = found.evaluations["student-hard-labels"]
    assert (hard.labels, hard.num_students, hard.train_on) == ("hard", 2, "image-sets")
    assert found.sets_of("student-hard-labels") == ("distilled", "random-real")


def test_controls_on_request() -> None:
    """Catches students on the full data for every image set, or with soft labels that do not exist."""
    wanted = ["hard-labels", "no-augmentation", "full-data"]
    assert added(config_of(controls=wanted)) == {
        "student": ("distilled", "random-real"),
        "student-hard-labels": ("distilled", "random-real"),
        "student-no-augmentation": ("distilled", "random-real"),
        "student-full-data": ("full-data",),
    }
    found = with_controls(config_of(controls=wanted), None, "test").evaluations
    assert found["student-full-data"].labels == "hard"
    assert (found["student-no-augmentation"].labels, found["student-no-augmentation"].augment) == (
        "soft",
        False,
    )


def test_no_controls_if_none_are_wanted() -> None:
    """Catches a default that cannot be turned off, and a stored config that grows when it is read again."""
    assert list(added(config_of(controls=[]))) == ["student"]
    once = with_controls(config_of(), None, "test")
    assert with_controls(once, None, "test") == once


def test_an_evaluation_that_a_user_has_named_is_a_control_too() -> None:
    """Catches students that are trained twice, because the user gave a hard-label evaluation another name."""
    config = config_of({"student": {}, "hard": {"labels": "hard", "num_students": 1, "loss": "kl"}})
    assert list(added(config)) == ["student", "hard"]
    config = config_of({"student": {}, "hard": {"labels": "hard"}}, controls=["no-augmentation", "full-data"])
    assert list(added(config)) == ["student", "hard", "student-no-augmentation", "student-full-data"]
    assert find_control(config.evaluations, "student", "hard-labels") == "hard"
    assert find_control(config.evaluations, "student", "full-data") is None


def test_each_architecture_has_controls_of_its_own() -> None:
    """Catches a student of one architecture held against hard labels of another."""
    config = config_of({"one": {}, "two": {"student": {"arch": "timm:y"}}, "quiet": {"controls": []}})
    found = with_controls(config, None, "test").evaluations
    assert list(found) == ["one", "two", "quiet", "one-hard-labels", "two-hard-labels"]
    assert found["two-hard-labels"].student.arch == "timm:y"


def test_a_run_keeps_the_controls_that_it_was_begun_with() -> None:
    """Catches a finished store that becomes incomplete by a default, or forgets those of an earlier call."""
    assert list(added(config_of(), config_of())) == ["student"]
    held = with_controls(config_of(controls=["full-data"]), None, "test")
    assert list(added(config_of(), held)) == ["student", "student-full-data"]
    assert list(added(config_of(controls=["no-augmentation"]), held)) == [
        "student",
        "student-no-augmentation",
    ]
    assert list(added(config_of({"student": {}, "more": {"batch_size": 9}}), held)) == [
        *("student", "more", "student-full-data", "more-hard-labels"),
    ]


def test_a_name_that_is_taken_is_refused() -> None:
    """Catches an evaluation of the user that a control replaces."""
    config = config_of({"student": {}, "student-hard-labels": {"labels": "hard", "batch_size": 9}})
    with pytest.raises(ConfigError, match=r"test: evaluations.student-hard-labels has the name of the contr"):
        with_controls(config, None, "test")


def test_the_full_data_needs_hard_labels_and_no_image_sets() -> None:
    """Catches a run that looks for soft labels of real images, or a key without effect."""
    with pytest.raises(ConfigError, match="train_on = full-data needs labels = hard"):
        config_of(train_on="full-data")
    with pytest.raises(ConfigError, match="leave it out"):
        config_of({"full": {"train_on": "full-data", "labels": "hard", "image_sets": ["distilled"]}})


def test_a_run_that_lost_its_plan_has_the_controls_that_are_finished() -> None:
    """Catches finished students whose evaluation no config names any more."""
    config = config_of()
    begun = with_finished_controls(config, {"student", "student-full-data"}, "test")
    assert list(added(config, begun)) == ["student", "student-full-data"]
    assert list(added(config, with_finished_controls(config, {"student"}, "test"))) == ["student"]
