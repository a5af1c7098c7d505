"""The image grids."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prism_ray.data import RealImages, open_data
from prism_ray.report.opened import Opened
from prism_ray.report.pictures import read_pictures
from prism_ray.store import StoreFiles
from tests.report.conftest import open_store
from tests.stores import copy_store


def test_the_control_is_the_initial_row(opened: Opened) -> None:
    """Catches initial images beside sets that did not start from them."""
    pictures = read_pictures([opened])
    assert [(row.image_set, row.starts) for row in pictures.rows] == [
        ("random-real", ("prism",)),
        ("prism", ()),
    ]
    assert pictures.form is not None
    assert pictures.form.side == 32
    assert all(not atlas.missing for row in pictures.rows for atlas in row.atlases)


def test_real_images_are_opened_once_for_all_initial_ones(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches an image folder whose index of a million files is read for every 256 thumbnails."""
    num_opened = 0

    def counted(*arguments: Any) -> RealImages:
        nonlocal num_opened
        num_opened += 1
        return open_data(*arguments)

    with_control = read_pictures([opened]).rows[0]
    monkeypatch.setattr("prism_ray.report.pictures.same_as", lambda run, name: None)
    monkeypatch.setattr("prism_ray.report.pictures._AT_ONCE", 4)
    monkeypatch.setattr("prism_ray.work.context.open_data", counted)
    row = next(row for row in read_pictures([opened]).rows if row.starts)
    assert (row.image_set, num_opened) == ("", 1)
    assert [atlas.data for atlas in row.atlases] == [atlas.data for atlas in with_control.atlases]


def test_missing_batches_are_told(made: Path, tmp_path: Path) -> None:
    """Catches an incomplete run whose grids look complete, or that has no page."""
    copy_store(made, tmp_path / "run", lambda unit: unit != "recover/prism/i00000-c00004")
    pictures = read_pictures([open_store(tmp_path / "run")])
    prism = next(row for row in pictures.rows if row.image_set == "prism")
    missing = [slot for atlas in prism.atlases for slot in atlas.missing]
    assert missing == [(4, 0), (4, 1), (5, 0), (5, 1)]


def test_no_images_no_grids(store_with_only_a_plan: StoreFiles) -> None:
    """Catches a run that has just begun and has no page."""
    assert read_pictures([open_store(store_with_only_a_plan)]).rows == ()


def test_stores_of_other_classes_are_left_out(opened: Opened, fill: Callable[..., StoreFiles]) -> None:
    """Catches images of other classes under the same name."""
    other = open_store(fill(("x", "y", "z")))
    pictures = read_pictures([opened, other])
    assert {row.store for row in pictures.rows} == {opened.name}
    assert "other classes" in other.notes[0]
