"""The answer at the top of the page."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from prism_ray.analyze.verdict import Gain, Verdict
from prism_ray.report.opened import Opened
from prism_ray.report.outcome import headline, judge_stores, what_was_distilled
from prism_ray.store import StoreFiles
from tests.report.conftest import open_store


def gain(points: float, interval: tuple[float, float] | None) -> Gain:
    return Gain("prism", "random-real", "student", "soft", "test", 0.5, 0.4, points, interval, 8, "students")


@pytest.mark.parametrize(
    ("points", "interval", "tone", "text"),
    [
        (0.1, (0.08, 0.12), "good", "prism is better than random real images"),
        (0.1, (-0.08, 0.28), "level", "Not sure: prism is 10.0 points above random real images"),
        (0.1, None, "level", "Not sure: prism is 10.0 points above random real images"),
        (0.001, (-0.02, 0.02), "level", "No better than random real images"),
        (0.001, (-0.2, 0.2), "level", "Not sure: prism is level with random real images"),
        (-0.03, (-0.2, 0.14), "level", "Not sure: prism is 3.0 points below random real images"),
        (-0.1, (-0.12, -0.08), "bad", "Worse than random real images"),
    ],
)
def test_the_headline_says_what_the_verdict_says(
    points: float, interval: tuple[float, float] | None, tone: str, text: str
) -> None:
    """Catches a page that calls a set good, bad or useless where the interval leaves it open."""
    verdict = Verdict("", (gain(points, interval),))
    assert headline(verdict, True).tone == tone
    assert headline(verdict, True).text == text


def test_all_sets_that_are_surely_better_are_named() -> None:
    """Catches a headline about one of two sets that are as good as each other."""
    sure = gain(0.1, (0.08, 0.12))
    others = [replace(sure, image_set=name) for name in ("sre2l", "edc", "delt", "rded")]
    unsure = replace(sure, image_set="lpld", interval=(-0.1, 0.3))
    assert headline(Verdict("", (sure, others[0], unsure)), True).text.startswith(
        "prism and sre2l are better"
    )
    text = headline(Verdict("", (sure, *others)), True).text
    assert text == "prism, sre2l, edc and 2 more are better than random real images"


def test_a_gain_of_the_labels_alone_is_told() -> None:
    """Catches a good set whose images gain nothing without the soft labels."""
    good = gain(0.1, (0.08, 0.12))
    lost = headline(Verdict("", (good,), (gain(0.0, (-0.1, 0.1)),)), True)
    assert "no gain is shown" in lost.detail
    kept = headline(Verdict("", (good,), (good,)), True)
    assert kept.detail == "It gains with hard labels too."


def test_without_students_there_is_no_verdict(store_with_only_a_plan: StoreFiles) -> None:
    """Catches an answer that nothing supports."""
    outcome = judge_stores([open_store(store_with_only_a_plan)])
    assert headline(outcome.verdict, outcome.summaries[0].complete).text == "No verdict yet"


def test_stores_that_cannot_be_compared_are_told_apart(
    opened: Opened, fill: Callable[..., StoreFiles]
) -> None:
    """Catches one verdict over runs of different settings, and a page that fails for two such stores."""
    outcome = judge_stores([opened, open_store(fill(("x", "y", "z")))])
    assert outcome.apart
    assert len(outcome.fair) == 2
    assert outcome.comparison is None


def test_the_sentence_of_what_was_distilled(opened: Opened) -> None:
    """Catches a sentence about another number of images, or another method."""
    assert what_was_distilled(opened) == (
        "1,438 real images of digits in 10 classes became 2 images per class by PRISM at 32 x 32 pixels "
        "(seed 0)."
    )


def test_two_seeds_have_one_verdict(made: Path, copied: Path) -> None:
    """Catches students of two runs that are thrown together, where runs are to be compared in pairs."""
    one, two = open_store(made, copied)
    two.run = replace(two.run, config=two.run.config.model_copy(update={"seed": 1}))
    outcome = judge_stores([one, two])
    assert not outcome.apart
    assert outcome.verdict.gains[0].pairs_of == "runs"
    assert outcome.comparison is not None
    assert outcome.comparison.num_runs == 2
