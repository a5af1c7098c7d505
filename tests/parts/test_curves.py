"""Loss curves in the footers of image files."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from prism_ray.errors import StoreError
from prism_ray.parts.curves import StoredCurve, read_curve
from prism_ray.parts.images import CURVE, BatchLosses, encode_images
from prism_ray.run import Run, save_run
from prism_ray.run.compact import compact
from prism_ray.stages.recover import RecoverUnit, image_part
from prism_ray.store import Commit, StoreFiles, read_commit, write_commit, write_part

CURVE_OF = {"iterations": [0, 5], "ce": [2.5, 1.0], "bn": [3.0, 2.0]}
CURVE_OF |= {"alignments": {"t0": [3.0, None], "t1": [None, 2.0]}, "terms": {}}  # type: ignore[dict-item]


def commit_batch(files: StoreFiles, run: Run, unit: RecoverUnit, curve: dict[str, Any] | None) -> Commit:
    pixels = np.zeros((len(unit.slots), 1, 8, 8), np.uint8)
    losses = None if curve is None else BatchLosses(1.0, 2.0, curve)
    data = encode_images(unit, pixels, run.facts.class_names, losses)
    part = write_part(files, lambda k: image_part(unit, k), data, len(unit.slots))
    commit = Commit(unit.id, run.fingerprint_of(unit.id), (part,), {}, 1.0, "x", "now")
    write_commit(files, commit)
    return commit


@pytest.fixture
def run(make_run: Callable[..., Run]) -> Run:
    return make_run(recover__images_per_batch=2)


def test_a_curve_comes_back_before_and_after_compact(files: StoreFiles, run: Run) -> None:
    """Would catch curves that are lost, or exchanged between batches, when files are merged."""
    save_run(files, run)
    units = [unit for unit in run.plan.units("recover") if unit.image_set == "distilled"]
    curves: list[dict[str, Any] | None] = [
        {**CURVE_OF, "ce": [float(number), 0.5]} if number != 1 else None for number in range(len(units))
    ]
    for unit, curve in zip(units, curves, strict=True):
        commit_batch(files, run, unit, curve)
    before = [read_curve(files, read_commit(files, unit.id)) for unit in units]
    assert before[1] is None
    assert [curve and curve.ce[0] for curve in before] == [0.0, None, 2.0, 3.0]
    assert before[0] is not None
    assert before[0].alignments == {"t0": (3.0, None), "t1": (None, 2.0)}
    (merged,) = compact(files, run, 10**6)
    assert merged.num_parts == len(units)
    assert [read_curve(files, read_commit(files, unit.id)) for unit in units] == before


@pytest.mark.parametrize(
    "curve",
    [
        {**CURVE_OF, "ce": [1.0]},
        {**CURVE_OF, "alignments": {"t0": [1.0]}},
        {**CURVE_OF, "bn": ["<img>", 1.0]},
        {"iterations": [0]},
        [1, 2],
        "text",
    ],
)
def test_a_curve_that_is_none_is_refused(curve: Any, files: StoreFiles, run: Run) -> None:
    """Would catch a page that draws whatever a file says, or a traceback in its place."""
    save_run(files, run)
    commit = commit_batch(files, run, next(iter(run.plan.units("recover"))), curve)
    with pytest.raises(StoreError, match="loss curve"):
        read_curve(files, commit)


def test_footers_of_merged_files_stay_readable(files: StoreFiles, run: Run) -> None:
    """Would catch a footer above the limit of what is read: 500 batches with the largest curve."""
    numbers = [1.2345e-10] * 33
    teachers = {f"a-teacher-with-a-long-name-{n:03d}": numbers for n in range(119)}
    largest = {
        "iterations": list(range(33)),
        "ce": numbers,
        "bn": numbers,
        "alignments": teachers,
        "terms": {},
    }
    assert 500 * len(json.dumps(largest, separators=(",", ":"))) < 2**25


def test_a_file_of_an_earlier_version_has_no_curve(files: StoreFiles, run: Run) -> None:
    """Would catch old stores that cannot be read because they lack a curve."""
    unit = next(iter(run.plan.units("recover")))
    commit = commit_batch(files, run, unit, CURVE_OF)
    table = pq.read_table(io.BytesIO(files.read(commit.files[0].name)))
    metadata = {key: value for key, value in table.schema.metadata.items() if key != CURVE.encode()}
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), sink)
    part = write_part(files, lambda k: f"images/old-{k}.parquet", sink.getvalue(), len(unit.slots))
    assert read_curve(files, replace(commit, files=(part,))) is None
    assert isinstance(read_curve(files, commit), StoredCurve)
