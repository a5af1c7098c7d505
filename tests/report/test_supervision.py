"""Losses and draws."""

from itertools import pairwise
from pathlib import Path

import pytest

from prism_ray.report.opened import Opened
from prism_ray.report.supervision import evenly, read_supervision
from prism_ray.run.compact import compact
from tests.report.conftest import open_store


def test_losses_and_draws_of_each_batch(opened: Opened) -> None:
    """Catches a curve of another batch, and a selection that has draws."""
    found = read_supervision(opened)
    assert found.num_batches == {"prism": 5} == found.num_shown
    batches = {point.batch for point in found.losses if point.image_set == "prism"}
    assert batches == {draw.batch for draw in found.draws}
    assert len(batches) == 5
    for batch in batches:
        commit = opened.commits([f"recover/prism/{batch}"])[0]
        ce = [p for p in found.losses if (p.batch, p.kind) == (batch, "cross-entropy")]
        assert ce[-1].value == pytest.approx(commit.stats["last"]["ce"], rel=1e-4)
        shares = [draw.share for draw in found.draws if draw.batch == batch]
        assert all(0.0 < share <= 1.0 for share in shares)
    squeeze = {point.batch for point in found.losses if point.kind == "squeeze"}
    assert squeeze == {"resnet", "judge"}


def test_merged_files_keep_the_curves(copied: Path) -> None:
    """Catches a page without curves after `compact`."""
    before = read_supervision(open_store(copied)).losses
    opened = open_store(copied)
    assert list(compact(opened.files, opened.run, 10**8))
    assert read_supervision(open_store(copied)).losses == before


def test_evenly_takes_all_or_equal_steps() -> None:
    """Catches the same batch twice, and only the first ones."""
    values = [str(k) for k in range(100)]
    assert evenly(values, 100) == values
    chosen = list(map(int, evenly(values, 7)))
    assert chosen[0] == 0
    assert {b - a for a, b in pairwise(chosen)} == {14, 15}
