"""The hint for a misspelt word: the nearest choice or none, and how it is shown."""

import doctest

import pytest

from prism_ray import suggest
from prism_ray.suggest import did_you_mean


def test_its_examples_are_right() -> None:
    """Catches a docstring that shows what the function no longer does."""
    assert doctest.testmod(suggest) == (0, 2)


@pytest.mark.parametrize(
    ("wrong", "choices", "hint"),
    [
        ("epoch", ["epochs", "epoch_size"], "; did you mean 'epochs'?"),  # the nearest alone
        ("noise", [], ""),
        ("zzz", ["epochs", "noise"], ""),
        ("", ["epochs"], ""),
        ("lod.yaml", {"load.yaml": "a/load.yaml"}, "; did you mean a/load.yaml?"),
        ("zzz", {"load.yaml": "a/load.yaml"}, ""),
    ],
)
def test_the_nearest_choice_is_suggested(wrong: str, choices: list[str] | dict[str, str], hint: str) -> None:
    """Catches a guess where nothing is near, and a mapping whose key is shown."""
    assert did_you_mean(wrong, choices) == hint


def test_several_are_suggested_where_many_are_alike() -> None:
    """Catches a limit that is ignored, or the nearest one not first."""
    choices = ["resnet18", "resnet34", "resnet81d", "vgg11"]
    assert did_you_mean("resnet81", choices, at_most=2) == "; did you mean 'resnet81d', 'resnet18'?"


def test_choices_may_come_one_by_one() -> None:
    """Catches an iterator that is used up before it is searched."""
    assert did_you_mean("nose", iter(["noise", "real"])) == "; did you mean 'noise'?"
