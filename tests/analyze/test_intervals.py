"""Student's t for few pairs."""

import pytest
from scipy import stats

from prism_ray.analyze.intervals import interval, t_quantile


@pytest.mark.parametrize("degrees", [*range(1, 41), 100, 1000])
def test_quantiles_are_those_of_students_t(degrees: int) -> None:
    """A typo in the table, or an expansion that is used where it is wrong by more than 0.2 %."""
    assert t_quantile(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=2e-3)


def test_the_interval_is_that_of_a_paired_t_test() -> None:
    """An interval of students as if they were not paired, of the normal distribution, or with n for n - 1."""
    ours, theirs = (0.61, 0.66, 0.60), (0.50, 0.57, 0.52)
    found = interval([one - other for one, other in zip(ours, theirs, strict=True)])
    assert found == pytest.approx(tuple(stats.ttest_rel(ours, theirs).confidence_interval(0.95)), rel=1e-4)
    assert interval([0.1]) is None


def test_two_students_that_agree_by_chance_prove_nothing() -> None:
    """An interval of no width, because both students of a set know three of 60 images more."""
    low, high = interval([0.05, 0.05], step=1 / 60) or (0.0, 0.0)
    assert low < 0.0 < high
