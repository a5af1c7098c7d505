"""A run as tables: what `prism_ray.open_run` returns."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import prism_ray
from prism_ray.errors import UsageError
from prism_ray.parts.labels import LabelForm, LabelReader
from prism_ray.run.sets import commits_of_set
from prism_ray.store import revoke
from tests.stores import copy_store
from tests.worked import work


def test_a_run_says_what_it_is(worked: Path) -> None:
    """Catches a run without its settings, or with those of the file instead of the resolved ones."""
    run = prism_ray.open_run(worked)
    assert run.location == str(worked)
    assert run.image_sets == ("distilled", "random-real")
    assert run.class_names == tuple("0123456789")
    assert run.config["relabel"]["epochs"] == 6
    assert run.complete
    assert "distilled" in run.verdict()
    assert str(worked) in repr(run)


def test_units_have_a_row_each(worked: Path) -> None:
    """Catches units of a stage that are missing, and sums that are not those of the commits."""
    table = prism_ray.open_run(worked).units()
    frame = table.to_pandas()
    assert frame.unit.is_unique
    assert set(frame.state) == {"done"}
    assert frame.in_config.all()
    assert list(dict.fromkeys(frame.stage)) == ["squeeze", "recover", "relabel", "measure", "evaluate"]
    assert frame[frame.stage == "recover"].num_rows.sum() == 40
    for row in table.to_pylist():
        assert row["num_bytes"] >= sum((worked / name).stat().st_size for name in row["files"]) > 0


def test_units_that_are_not_done_are_rows_too(worked: Path, tmp_path: Path) -> None:
    """Catches a table in which pending, damaged or unnamed units cannot be told from finished ones."""
    store = tmp_path / "run"
    copy_store(worked, store, lambda unit: not unit.startswith(("evaluate/random", "measure")))
    damaged = next((store / "images").glob("part-*.parquet"))
    damaged.write_bytes(b"short")
    work(store, "image_sets={distilled: {}}", until="squeeze")
    run = prism_ray.open_run(store)
    assert not run.complete
    frame = run.units().to_pandas().set_index("unit")
    assert frame.state["measure/distilled"] == "pending"
    assert sum(frame.state == "damaged") == 1
    assert not frame[frame.index.str.startswith("recover/random-real")].in_config.any()
    assert (frame[frame.index.str.startswith("recover/random-real")].state == "done").all()
    assert np.isnan(frame.seconds["measure/distilled"])


def test_students_and_teachers_have_the_figures_of_the_commits(worked: Path) -> None:
    """Catches accuracies of other students, and a teacher without its accuracy."""
    run = prism_ray.open_run(worked)
    students = run.students().to_pylist()
    assert [(row["image_set"], row["evaluation"], row["student"]) for row in students] == [
        ("distilled", "student", 0),
        ("random-real", "student", 0),
    ]
    assert all(
        0.0 <= row["accuracy"] <= row["best_accuracy"] <= row["top5_accuracy"] <= 1.0 for row in students
    )
    assert students[0]["seed"] == students[1]["seed"]
    (teacher,) = run.teachers().to_pylist()
    assert teacher["arch"] == "timm:test_resnet"
    assert 0.0 < teacher["test_accuracy"] <= 1.0
    assert teacher["validation_accuracy"] is None
    assert len(teacher["weights_sha256"]) == 64


def test_students_of_earlier_configs_are_kept(worked: Path, tmp_path: Path) -> None:
    """Catches students that disappear from the table when a config no longer names them."""
    store = tmp_path / "run"
    shutil.copytree(worked, store)
    work(store, "image_sets={distilled: {}, edc: {method: random-real}}", until="recover")
    rows = prism_ray.open_run(store).students().to_pylist()
    assert [row["image_set"] for row in rows] == ["distilled", "random-real"]


def test_the_status_is_that_of_the_command(worked: Path, tmp_path: Path) -> None:
    """Catches states that differ from those that `prism-ray status` prints."""
    table = prism_ray.open_run(worked).status()
    states = dict(zip(table["stage"].to_pylist(), table["state"].to_pylist(), strict=True))
    assert states == {
        "squeeze": "done",
        "collect": "not needed",
        "recover": "done",
        "relabel": "done",
        "measure": "done",
        "evaluate": "done",
    }
    store = tmp_path / "run"
    files, _ = work(store, until="squeeze")
    assert prism_ray.open_run(store).status()["state"].to_pylist()[2] == "pending"
    revoke(files, "squeeze/resnet")  # a run is followed while it works
    assert prism_ray.open_run(store).status()["num_done"].to_pylist()[0] == 0


@pytest.mark.parametrize("values", [(), ("relabel.encoding=top-3-int8",)], ids=["fp16", "top-3-int8"])
def test_labels_are_decoded_whatever_their_encoding(tmp_path: Path, values: tuple[str, ...]) -> None:
    """Catches labels that a reader must decode, and rows in an order that no image has."""
    store = tmp_path / "run"
    files, run = work(store, *values, until="relabel")
    table = prism_ray.open_run(store).labels(4, "random-real")
    assert table["logits"].type == pa.list_(pa.float16(), 10)
    assert ("kept" in table.column_names) == bool(values)
    keys = list(zip(table["label"].to_pylist(), table["ipc_index"].to_pylist(), strict=True))
    assert keys == [(label, index) for label in range(10) for index in range(2)]
    form = LabelForm.of(run.plan, "random-real")
    found = LabelReader(files, commits_of_set(files, run, "random-real", "relabel"), form).epoch(4)
    order = np.lexsort((found.views.ipc_index, found.views.label))
    assert table["logits"].to_pylist() == found.logits[order].tolist()
    assert table["crop_top"].to_pylist() == found.views.crop_top[order].tolist()
    with pytest.raises(UsageError, match=r"epoch = 6: .* has labels of the epochs 0 to 5"):
        prism_ray.open_run(store).labels(6)
