"""Comparisons over runs."""

import pytest

from prism_ray.analyze.compare import compare, to_markdown
from prism_ray.analyze.results import ImageSetFigures, ResultRow, Results
from prism_ray.errors import UsageError


def results(accuracies: dict[str, tuple[float, ...]], hard: tuple[float, ...] | None = None) -> Results:
    rows = [ResultRow(name, "student", "soft", values) for name, values in accuracies.items()]
    if hard is not None:
        rows.append(ResultRow("random-real", "hard", "hard", hard))
    sets = tuple(
        ImageSetFigures(name, name, 100, 50.0, 0.5, 0.01, {"judge": 0.9})
        for name in {row.image_set for row in rows}
    )
    return Results(tuple(rows), sets)


ONE = results({"prism": (0.80, 0.82), "sre2l": (0.78, 0.78), "random-real": (0.79, 0.81)}, (0.6, 0.6))
TWO = results({"prism": (0.90, 0.92), "sre2l": (0.86, 0.88), "random-real": (0.89, 0.91)}, (0.7, 0.7))


def test_differences_are_taken_within_a_run() -> None:
    """A spread over runs that hides a difference which every single run shows."""
    comparison = compare([ONE, TWO], "sre2l")
    prism = next(row for row in comparison.rows if row.image_set == "prism")
    assert prism.run_means == pytest.approx((0.81, 0.91))
    assert prism.differences == pytest.approx((0.03, 0.04))
    assert prism.mean_difference == pytest.approx(0.035)
    assert prism.spread == pytest.approx(0.0707, abs=1e-4)
    assert prism.images_per_second == 2.0


def test_rows_are_sorted_within_their_evaluation() -> None:
    """A table whose best row is hard to find, or that mixes hard labels among the soft ones."""
    rows = compare([ONE, TWO], "sre2l").rows
    assert [(row.image_set, row.evaluation) for row in rows] == [
        ("prism", "student"),
        ("random-real", "student"),
        ("sre2l", "student"),
        ("random-real", "hard"),
    ]
    assert rows[-1].differences == pytest.approx((-0.18, -0.17))


def test_runs_of_different_rows_are_not_compared() -> None:
    """A mean over the runs in which a method happened to be done."""
    with pytest.raises(UsageError, match="not the same image sets"):
        compare([ONE, results({"prism": (0.5,)})], "sre2l")


def test_an_unknown_baseline_is_named() -> None:
    """KeyError for a typo."""
    with pytest.raises(UsageError, match=r"--baseline srel: .* prism, sre2l, random-real"):
        compare([ONE], "srel")


def test_the_markdown_has_a_line_per_row() -> None:
    """A table that Markdown does not show as one."""
    lines = to_markdown(compare([ONE, TWO], "sre2l")).splitlines()
    assert len(lines) == 2 + 4
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith("| prism | student, soft labels | 86.00 +- 7.07 | +3.50 +- 0.71 | 0.500 |")
