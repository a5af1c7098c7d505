"""`orchestrate`: numbers or `auto`."""

from pathlib import Path

import pytest

from prism_ray.config import load_config
from prism_ray.errors import ConfigError


def test_defaults_are_automatic(config_path: Path) -> None:
    """A default that fits one machine only."""
    orchestrate = load_config(config_path).orchestrate
    assert (orchestrate.actors, orchestrate.gpus_per_actor, orchestrate.threads_per_actor) == ("auto",) * 3


@pytest.mark.parametrize("key", ["actors", "threads_per_actor"])
def test_a_number_or_auto(config_path: Path, key: str) -> None:
    """A union that turns 2 into text or text into a number."""
    assert getattr(load_config(config_path, [f"orchestrate.{key}=2"]).orchestrate, key) == 2
    assert getattr(load_config(config_path, [f"orchestrate.{key}=auto"]).orchestrate, key) == "auto"


def test_a_fraction_of_a_gpu_is_allowed(config_path: Path) -> None:
    """Ray shares a GPU between actors by fractions; a whole-number setting would forbid it."""
    assert load_config(config_path, ["orchestrate.gpus_per_actor=0.25"]).orchestrate.gpus_per_actor == 0.25
    assert load_config(config_path, ["orchestrate.gpus_per_actor=0"]).orchestrate.gpus_per_actor == 0


@pytest.mark.parametrize(
    ("num_gpus", "number", "says"),
    [("0", "4", "gpus_per_actor = 0 gives actors none"), ("3", "2", "gives each student 1.5 of the 3 GPUs")],
)
def test_students_share_gpus_that_ray_can_share(
    config_path: Path, num_gpus: str, number: str, says: str
) -> None:
    """Students that share nothing, and an actor that Ray refuses after an hour of other work."""
    overrides = [f"orchestrate.gpus_per_actor={num_gpus}", f"orchestrate.students_per_actor={number}"]
    with pytest.raises(ConfigError, match=says):
        load_config(config_path, overrides)
    for possible in (("2", "2"), ("0.5", "3"), ("auto", "4"), ("0", "1")):
        values = [
            f"orchestrate.{key}_per_actor={value}"
            for key, value in zip(("gpus", "students"), possible, strict=True)
        ]
        assert load_config(config_path, values).orchestrate.students_per_actor == int(possible[1])


def test_a_misspelt_auto_is_one_complaint_with_a_suggestion(config_path: Path) -> None:
    """One line per member of the union, none of which says what is meant."""
    with pytest.raises(ConfigError) as caught:
        load_config(config_path, ["orchestrate.actors=auot"])
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("--set orchestrate.actors=auot: orchestrate.actors = 'auot': ")
    assert "whole number" in message
    assert "did you mean 'auto'?" in message


@pytest.mark.parametrize(
    "override",
    [
        "actors=0",
        "actors=1.5",
        "actors=true",
        "gpus_per_actor=-1",
        "threads_per_actor=0",
        "students_per_actor=0",
        "students_per_actor=auto",
        "max_attempts=0",
        "actor_start_timeout_s=0",
        "log_interval_s=0",
        "log_interval_s=.inf",
    ],
)
def test_counts_and_times_have_bounds(config_path: Path, override: str) -> None:
    """No actors, no attempts or an endless wait, accepted without a word."""
    with pytest.raises(ConfigError, match=rf"orchestrate\.{override.partition('=')[0]} = "):
        load_config(config_path, [f"orchestrate.{override}"])
