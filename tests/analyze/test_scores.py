"""The formulas of DD-Ranking: a value calculated by hand, and the laws that a score must keep."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prism_ray.analyze.scores import (
    NEUTRAL,
    augmentation_robust_score,
    error_of_test_images,
    hard_label_recovery,
    improvement_over_random,
    label_robust_score,
    normalised,
)

share = st.floats(0.0, 1.0)
difference = st.floats(-1.0, 1.0)


def test_a_score_calculated_by_hand() -> None:
    """Catches a swapped sign, or e^alpha without its two limits.

    Full data 0.9, set 0.6 and 0.3 with hard labels, random real 0.5: HLR 0.6, IOR 0.1, alpha = 0.05 - 0.3 =
    -0.25; e^-0.25 = 0.77880, e^-1 = 0.36788, e = 2.71828: 100 (0.41092) / 2.35040 = 17.48.
    """
    hlr, ior = hard_label_recovery(0.9, 0.3), improvement_over_random(0.6, 0.5)
    assert (hlr, ior) == (pytest.approx(0.6), pytest.approx(0.1))
    assert label_robust_score(ior, hlr) == pytest.approx(17.48, abs=0.005)
    # beta = 0.5 0.1 + 0.5 (-0.02) = 0.04; e^0.04 = 1.04081: 100 (0.67293) / 2.35040 = 28.63
    assert augmentation_robust_score(0.1, -0.02) == pytest.approx(28.63, abs=0.005)
    assert pytest.approx(26.89, abs=0.005) == NEUTRAL


def test_the_ends_of_the_scale() -> None:
    """Catches a scale that no set can reach the end of."""
    assert normalised(-1.0) == pytest.approx(0.0)
    assert normalised(1.0) == pytest.approx(100.0)


@given(full=share, own=share, random=share, hard=share)
def test_scores_are_between_0_and_100(full: float, own: float, random: float, hard: float) -> None:
    """Catches a score that is no percentage for some accuracies."""
    hlr, ior = hard_label_recovery(full, hard), improvement_over_random(own, random)
    assert -1e-9 <= label_robust_score(ior, hlr) <= 100.0 + 1e-9
    assert -1e-9 <= augmentation_robust_score(ior, hard - random) <= 100.0 + 1e-9


@given(ior=difference, hlr=difference, more=st.floats(1e-6, 1.0))
def test_more_gain_and_less_loss_are_better(ior: float, hlr: float, more: float) -> None:
    """Catches a score that sinks with a gain, or that a loss with hard labels raises."""
    assert label_robust_score(ior + more, hlr) > label_robust_score(ior, hlr)
    assert label_robust_score(ior, hlr + more) < label_robust_score(ior, hlr)
    assert augmentation_robust_score(ior + more, hlr) > augmentation_robust_score(ior, hlr)
    assert augmentation_robust_score(ior, hlr + more) > augmentation_robust_score(ior, hlr)


@given(gain=difference)
def test_the_weights_are_equal(gain: float) -> None:
    """Catches an ARS that counts one of its two gains more."""
    assert augmentation_robust_score(gain, 0.0) == pytest.approx(augmentation_robust_score(0.0, gain))


def test_the_error_of_test_images_is_binomial() -> None:
    """Catches a variance in place of its root: 180 images allow 3.7 points at 50 %."""
    assert error_of_test_images(0.5, 180) == pytest.approx(0.0373, abs=5e-5)
    assert error_of_test_images(1.0, 180) == 0.0
    assert error_of_test_images(0.5, 10_000) == pytest.approx(math.sqrt(0.25 / 10_000))
