"""Fair figures from rows as the store has them: controls, references, scores, students x sets, notes."""

from typing import Any

import pytest

from prism_ray.analyze.fair import (
    FairFigures,
    fair_figures,
    fair_tables,
    missing_controls,
    spread_notes,
)
from prism_ray.analyze.results import ResultRow, Results
from prism_ray.config import parse_config, with_controls
from prism_ray.data import DataFacts
from prism_ray.run import Run, new_run

ALL = ("hard-labels", "no-augmentation", "full-data")


def run_of(controls: tuple[str, ...] = ALL, evaluations: dict[str, Any] | None = None, **sets: Any) -> Run:
    values: dict[str, Any] = {
        "store": "somewhere",
        "data": {"source": "digits", "image_size": 8},
        "teachers": {"pool": [{"name": "a", "arch": "timm:x"}]},
        "recover": {"ipc": 2, "primary": "a", "iterations_step": 0},
        "image_sets": sets or {"prism": {}, "random-real": {"method": "random-real"}},
        "evaluate": {"student": {"arch": "timm:x"}, "controls": list(controls)},
    }
    if evaluations:
        values["evaluations"] = evaluations
    facts = DataFacts(tuple("0123456789"), (5,) * 10, num_test_images=180, channels=1, identity="data")
    return new_run(with_controls(parse_config(values, "test"), None, "test"), facts, 1)


def results(accuracies: dict[tuple[str, str], float]) -> Results:
    """Make rows of two students each, whose mean is given."""
    rows = [
        ResultRow(name, of, "soft", "test", (mean - 0.01, mean + 0.01))
        for (name, of), mean in accuracies.items()
    ]
    return Results(tuple(rows), ())


EVERYTHING = {
    ("prism", "student"): 0.6,
    ("random-real", "student"): 0.5,
    ("prism", "student-hard-labels"): 0.3,
    ("random-real", "student-hard-labels"): 0.35,
    ("prism", "student-no-augmentation"): 0.48,
    ("random-real", "student-no-augmentation"): 0.5,
    ("full-data", "student-full-data"): 0.9,
}


def figures_of(accuracies: dict[tuple[str, str], float], run: Run | None = None) -> FairFigures:
    return fair_figures(run or run_of(), [results(accuracies)])


def test_scores_are_those_of_the_rows() -> None:
    """Catches the random real images of another evaluation, or full data taken for an image set.

    By hand (test_scores.py): HLR 0.9 - 0.3, IOR 0.6 - 0.5; gains +0.1 and -0.02.
    """
    (evaluation,) = figures_of(EVERYTHING).evaluations
    prism, random = evaluation.rows
    assert prism.lrs is not None
    assert prism.ars is not None
    assert (prism.lrs.mean, prism.ars.mean) == (
        pytest.approx(17.48, abs=0.005),
        pytest.approx(28.63, abs=0.005),
    )
    assert prism.hard_labels_gain is not None
    assert prism.hard_labels_gain.mean == pytest.approx(-0.05)
    assert (random.control, random.gain) == (None, None)
    assert random.ars is not None
    assert random.ars.mean == pytest.approx(26.89, abs=0.005)  # neither gains nor loses
    assert evaluation.full_data is not None
    assert evaluation.full_data.mean == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("gone", "lrs", "ars"),
    [
        (("full-data", "student-full-data"), False, True),
        (("prism", "student-hard-labels"), False, True),
        (("random-real", "student-no-augmentation"), True, False),
        (("random-real", "student"), False, False),
    ],
)
def test_a_score_is_missing_if_one_of_its_parts_is(gone: tuple[str, str], lrs: bool, ars: bool) -> None:
    """Catches a score from half of its parts."""
    (evaluation,) = figures_of({key: value for key, value in EVERYTHING.items() if key != gone}).evaluations
    prism = evaluation.rows[0]
    assert ((prism.lrs is not None), (prism.ars is not None)) == (lrs, ars)
    assert all(
        len(row) == len(table.columns) for table in fair_tables(figures_of({}))[:1] for row in table.rows
    )


def test_scores_of_runs_are_taken_run_by_run() -> None:
    """Catches a score of means, which has no spread over runs."""
    more = {key: value + (0.1 if key[0] == "prism" else 0.0) for key, value in EVERYTHING.items()}
    figures = fair_figures(run_of(), [results(EVERYTHING), results(more)])
    prism = figures.evaluations[0].rows[0]
    assert prism.gain is not None
    assert prism.gain.by_run == pytest.approx((0.1, 0.2))
    assert prism.lrs is not None
    assert prism.lrs.spread is not None
    assert figures.to_json()["evaluations"][0]["rows"][0]["gain"]["mean"] == pytest.approx(0.15)


def test_the_table_has_controls_and_references_side_by_side() -> None:
    """Catches a table without chance or full data, or that names a column which has no figures."""
    (table,) = fair_tables(figures_of(EVERYTHING))
    assert table.columns == (
        "trained on",
        "soft labels, %",
        "hard labels, %",
        "whole images, %",
        "LRS",
        "ARS",
    )
    assert table.rows == (
        ("prism", "60.0 (+10.0)", "30.0 (-5.0)", "48.0 (-2.0)", "17.5", "28.6"),
        ("random-real", "50.0", "35.0", "50.0", "16.7", "26.9"),
        ("full data (all real images)", "-", "90.0", "-", "-", "-"),
        ("chance", "10.0", "10.0", "10.0", "-", "-"),
    )
    soft = {key: value for key, value in EVERYTHING.items() if key[1] == "student"}
    assert fair_tables(figures_of(soft, run_of(()))) == []


def test_students_of_several_architectures_are_columns() -> None:
    """Catches architectures in a list below each other, and a set that one lacks taken for another."""
    evaluations = {"small": {}, "large": {"student": {"arch": "timm:y"}, "image_sets": ["prism"]}}
    run = run_of((), evaluations)
    accuracies = {("prism", "small"): 0.6, ("random-real", "small"): 0.5, ("prism", "large"): 0.7}
    (table,) = fair_tables(figures_of(accuracies, run))
    assert table.columns == ("trained on", "small: timm:x", "large: timm:y")
    assert table.rows == (
        ("prism", "60.0 (+10.0)", "70.0"),
        ("random-real", "50.0", "-"),
        ("chance", "10.0", "10.0"),
    )


def test_what_is_missing_names_the_key() -> None:
    """Catches a comparison without controls that nobody tells of."""
    assert missing_controls(run_of().config) == ""
    assert missing_controls(run_of(("hard-labels",)).config) == (
        "Not trained: the controls no-augmentation (for ARS), full-data (for LRS); evaluate.controls adds "
        "them to this run."
    )
    evaluations = {"one": {}, "two": {"student": {"arch": "timm:y"}, "controls": ["hard-labels"]}}
    text = missing_controls(run_of(ALL, evaluations).config)
    assert "no-augmentation of two (for ARS)" in text
    assert "hard-labels" not in text


def test_each_spread_is_explained() -> None:
    """Catches a +- over students that is read as one over runs, and 180 test images taken for exact."""
    figures = figures_of(EVERYTHING)
    students, images = spread_notes(figures, 0.014, over_runs=False)
    assert students.startswith("+- is the standard deviation over the students of a set.")
    assert images.startswith("180 test images allow +-3.7 points by themselves, at an accuracy of 50 %")
    two = fair_figures(run_of(), [results(EVERYTHING), results(EVERYTHING)])
    over_runs = spread_notes(two, 0.014, over_runs=True)[0]
    assert over_runs.startswith("+- is the standard deviation over 2 runs")
    assert over_runs.endswith("Over the students of a set in a run it is 1.4 points on average.")
    assert spread_notes(figures, 0.014, over_runs=True)[0].startswith("One run has no spread over runs.")
    assert figures.to_json()["test_error"] == pytest.approx(0.0373, abs=1e-4)
