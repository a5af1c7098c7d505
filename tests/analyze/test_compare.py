"""Comparisons over runs."""

from dataclasses import replace
from typing import Any

import pytest

from prism_ray.analyze.compare import check_comparable, compare, default_baseline, to_markdown
from prism_ray.analyze.results import ImageSetFigures, ResultRow, Results
from prism_ray.config import parse_config, with_controls
from prism_ray.data import DataFacts
from prism_ray.errors import UsageError
from prism_ray.run import Run, RunProgress, new_run
from prism_ray.stages import stages
from tests.plans import config_of, facts_of


def results(accuracies: dict[str, tuple[float, ...]], hard: tuple[float, ...] | None = None) -> Results:
    rows = [ResultRow(name, "student", "soft", "test", values) for name, values in accuracies.items()]
    if hard is not None:
        rows.append(ResultRow("random-real", "hard", "hard", "test", hard))
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


def test_runs_of_different_rows_are_not_compared() -> None:
    """A mean over the runs in which a method happened to be done."""
    with pytest.raises(UsageError, match="have not finished the same image sets"):
        compare([ONE, results({"prism": (0.5,)})], "sre2l")


def test_an_unknown_baseline_is_named() -> None:
    """KeyError for a typo."""
    with pytest.raises(UsageError, match=r"--baseline srel: .* prism, sre2l, random-real"):
        compare([ONE], "srel")


def test_nothing_is_held_against_a_baseline_under_another_evaluation() -> None:
    """Hard labels minus soft ones, printed as what a method brings."""
    comparison = compare([ONE, TWO], "sre2l")
    hard = comparison.rows[-1]
    assert (hard.differences, hard.mean_difference, hard.difference_spread) == ((), None, None)
    assert "| random-real | hard, hard labels, test images | 65.00 +- 7.07 | - |" in to_markdown(comparison)


def run_of(
    seed: int, complete: bool = True, controls: tuple[str, ...] = (), **recover: Any
) -> tuple[Run, RunProgress]:
    values: dict[str, Any] = {
        "store": "somewhere",
        "seed": seed,
        "data": {"source": "digits", "image_size": 8},
        "teachers": {"pool": [{"name": "a", "arch": "timm:x"}]},
        "recover": {"ipc": 2, "primary": "a", "iterations_step": 0, **recover},
        "evaluate": {"student": {"arch": "timm:x"}, "controls": list(controls)},
    }
    facts = DataFacts(("x", "y"), (5, 5), num_test_images=3, channels=1, identity="some data")
    run = new_run(with_controls(parse_config(values, "test"), None, "test"), facts, 1)
    progress = RunProgress(run.plan, {})
    progress.num_done.update({stage.name: stage.count(run.plan) for stage in stages() if complete})
    return run, progress


def test_runs_of_one_config_and_other_seeds_are_compared() -> None:
    """A comparison refused because the runs had other threads, or the seeds they are meant to have."""
    run, progress = run_of(1)
    check_comparable({"one": run_of(0), "two": (replace(run, num_threads=4), progress)})


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (run_of(1, complete=False), "two is not finished"),
        (
            run_of(1, iterations=50),
            r"first against second:\n  recover.iterations = 4000 against 50 \(recover/distilled\)$",
        ),
        (run_of(0), "one and two both have seed 0"),
    ],
)
def test_runs_that_say_nothing_together_are_not_compared(
    second: tuple[Run, RunProgress], message: str
) -> None:
    """A spread of 0.00 over one run given twice; a mean over other settings, or over half of the students."""
    with pytest.raises(UsageError, match=message):
        check_comparable({"one": run_of(0), "two": second})


def test_the_markdown_has_a_line_per_row() -> None:
    """A table that Markdown does not show as one."""
    lines = to_markdown(compare([ONE, TWO], "sre2l")).splitlines()
    assert len(lines) == 2 + 4
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith(
        "| prism | student, soft labels, test images | 86.00 +- 7.07 | +3.50 +- 0.71 | 90.0 | 0.500 |"
    )


@pytest.mark.parametrize(
    ("methods", "expected"),
    [
        ({"prism": "prism", "reals": "random-real", "sre2l": "sre2l"}, "reals"),
        ({"one": "sre2l", "other": "prism"}, "one"),
    ],
)
def test_runs_are_compared_with_random_real_images_by_default(methods: dict[str, str], expected: str) -> None:
    """Catches a default that only one config has: `compare` fails for all others."""
    sets = {name: {"method": method} for name, method in methods.items()}
    run = new_run(config_of(1, image_sets=sets), facts_of(3), 1)
    assert default_baseline(run) == expected


def test_runs_with_and_without_controls_are_compared() -> None:
    """A new run refused beside those of the time before controls, for students that only it has."""
    check_comparable({"old": run_of(0), "new": run_of(1, controls=("hard-labels", "full-data"))})
    check_comparable({"new": run_of(1, controls=("hard-labels", "full-data")), "old": run_of(0)})


def test_the_spreads_of_a_row_are_told_apart() -> None:
    """A spread over the students of a run taken for one over runs, or none of the test images."""
    rows = [replace(row, num_test_images=180) for row in ONE.rows]
    comparison = compare([replace(ONE, rows=tuple(rows)), TWO], "sre2l")
    prism = next(row for row in comparison.rows if row.image_set == "prism")
    assert prism.student_spread == pytest.approx(0.0141, abs=1e-4)
    assert prism.spread == pytest.approx(0.0707, abs=1e-4)
    assert prism.test_error == pytest.approx((0.86 * 0.14 / 180) ** 0.5)


def test_the_full_data_are_no_image_set() -> None:
    """StopIteration for a row without figures of images."""
    full = ResultRow("full-data", "student-full-data", "hard", "test", (0.9, 0.9))
    comparison = compare([replace(ONE, rows=(*ONE.rows, full))], "sre2l")
    assert all(row.image_set != "full-data" for row in comparison.rows)
