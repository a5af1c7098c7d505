"""The report as a whole."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from prism_ray.errors import UsageError
from prism_ray.report.build import build_report, chosen_classes, encode_figures
from prism_ray.report.opened import Opened
from prism_ray.store import StoreFiles
from tests.report.conftest import open_store
from tests.stores import copy_store


def test_the_projection_has_each_image_once(opened: Opened) -> None:
    """Catches features of other images than the points are named after."""
    report = build_report([opened], ["3", "0"])
    rows = report.tables["projection"].to_pylist()
    keys = {(row["image_set"], row["label"], row["ipc_index"]) for row in rows}
    assert len(rows) == len(keys) == 2 * 2 * 2
    assert {label for _, label, _ in keys} == {0, 3}
    assert "features of judge" in report.projected.text  # the first verifier is the feature teacher


def test_without_features_torch_is_not_needed(opened: Opened) -> None:
    """Catches a page that silently lacks the projection."""
    report = build_report([opened], features=False)
    assert report.projected.charts == ()
    assert "--without-features" in report.projected.text


def test_missing_teachers_leave_the_rest_of_the_page(made: Path, tmp_path: Path) -> None:
    """Catches a report that fails because a teacher's weights are gone."""
    copy_store(made, tmp_path / "run", lambda unit: unit != "squeeze/judge")
    report = build_report([open_store(tmp_path / "run")])
    assert report.projected.text.startswith("There are no features: ")
    assert report.accuracy is not None


def test_figures_are_strict_json(opened: Opened) -> None:
    """Catches NaN, and figures that differ from those of `status`."""
    from prism_ray.analyze.summary import summarise

    report = build_report([opened], features=False)
    values = json.loads(encode_figures(report), parse_constant=pytest.fail)
    summary = summarise(opened.files, opened.run, opened.progress)
    assert values["verdict"] == json.loads(json.dumps(summary.verdict.to_json()))
    assert values["stores"][opened.name]["results"] == json.loads(json.dumps(summary.results.to_json()))
    assert len(values["tables"]["students"]["accuracy"]) == 4


def test_classes_by_name_then_by_label(opened: Opened, fill: Callable[..., StoreFiles]) -> None:
    """Catches the class called 2 that is taken for the class with label 2."""
    swapped = open_store(fill(("2", "1", "0")))
    assert chosen_classes(swapped, ["2"]) == [0]
    assert chosen_classes(opened, ["7", "1", "7"]) == [1, 7]
    assert chosen_classes(opened, []) == list(range(10))
    with pytest.raises(UsageError, match=r"--class '10': .* has no such class"):
        chosen_classes(opened, ["10"])
