"""Students of the controls by one worker: hard labels, whole images, the full data."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from prism_ray.config import with_controls
from prism_ray.run import Run
from prism_ray.store import StoreFiles, read_commit
from prism_ray.work.context import WorkContext
from prism_ray.work.controls import labels_of_whole_images
from prism_ray.work.evaluate import _labellers
from tests.work.test_evaluate import open_run
from tests.worked import do_missing

CONTROLS = "evaluate.controls=[hard-labels, no-augmentation, full-data]"


def controlled(store: Path, *values: str) -> tuple[Run, StoreFiles]:
    run, files = open_run(store, *values)
    config = with_controls(run.config, None, "test")
    return Run(**(vars(run) | {"config": config, "scopes": new_scopes(run, config)})), files


def new_scopes(run: Run, config: object) -> dict:  # type: ignore[type-arg]
    from prism_ray.plan.fingerprint import run_scopes

    return run_scopes(config, run.facts, run.num_threads)  # type: ignore[arg-type]


def students_of(store: Path, *values: str) -> dict[str, dict]:  # type: ignore[type-arg]
    """Do what is missing in a store; return the cards of its students by their ids."""
    run, files = controlled(store, *values)
    do_missing(run, files)
    cards = [read_commit(files, unit.id).files[0].name for unit in run.plan.units("evaluate")]
    return {card["unit"]: card for card in (json.loads(files.read(name)) for name in cards)}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    """A store with all controls, whose full data has one epoch."""
    store = tmp_path_factory.mktemp("controls") / "run"
    students_of(store, CONTROLS, "evaluate.full_data_epochs=1")
    return store


def test_each_control_has_its_students(store: Path) -> None:
    """Catches a control that trains what it is a control of, or the full data once for each image set."""
    cards = students_of(store, CONTROLS, "evaluate.full_data_epochs=1")
    assert set(cards) == {
        *(f"evaluate/{name}/student{control}/s000"
          for name in ("distilled", "random-real")
          for control in ("", "-hard-labels", "-no-augmentation")),
        "evaluate/full-data/student-full-data/s000",
    }  # fmt: skip
    assert len({card["train_loss"] for card in cards.values()}) == len(cards)
    full = cards["evaluate/full-data/student-full-data/s000"]
    assert [point["num_epochs"] for point in full["curve"]] == [1]


def test_controls_change_no_byte_of_the_others(store: Path, tmp_path: Path) -> None:
    """Catches labels or students that depend on which controls stand beside them."""
    plain = tmp_path / "plain"
    students_of(plain, "evaluate.controls=[]")
    for path in [*plain.glob("labels/**/*.parquet"), *plain.glob("students/**/*.json")]:
        assert (store / path.relative_to(plain)).read_bytes() == path.read_bytes()


def test_hard_labels_need_no_teachers_where_nothing_is_stored(store: Path, tmp_path: Path) -> None:
    """Catches teachers that label views for students who never look at the labels."""
    online = tmp_path / "online"
    shutil.copytree(store, online, ignore=shutil.ignore_patterns("relabel", "evaluate", "ledger", "labels"))
    cards = students_of(online, CONTROLS, "evaluate.full_data_epochs=1", "relabel.mode=online")
    stored = students_of(store, CONTROLS, "evaluate.full_data_epochs=1")
    assert cards == stored
    run, _ = controlled(online, CONTROLS, "relabel.mode=online")
    teachers = {unit.evaluation: run.plan.teachers_of(unit) for unit in run.plan.units("evaluate")}
    assert teachers["student-hard-labels"] == teachers["student-full-data"] == ("resnet",)
    assert teachers["student"] == teachers["student-no-augmentation"] == ("resnet", "bypass")


@pytest.mark.parametrize("encoding", ["fp16", "top-3-int8"])
def test_labels_of_whole_images_are_the_same_in_every_epoch(store: Path, encoding: str) -> None:
    """Catches views that are still cropped, and labels finer than those that relabel would store."""
    run, files = controlled(store, CONTROLS, f"relabel.encoding={encoding}")
    context = WorkContext(run, files, torch.device("cpu"))
    unit = next(unit for unit in run.plan.units("evaluate") if unit.evaluation == "student-no-augmentation")
    images = context.images_of_set(
        unit.image_set, context.commits_of(run.plan.unit_ids("recover", unit.image_set))
    )
    read_epoch = labels_of_whole_images(context, _labellers(context, unit, images))
    first, second = read_epoch(0), read_epoch(5)
    np.testing.assert_array_equal(first.logits, second.logits)
    assert (first.views.crop_height == 32).all()
    assert not first.views.flip.any()
    assert not first.views.box_height.any()
    assert (first.kept is not None) == encoding.startswith("top")
    assert np.isfinite(first.logits).all()


def test_full_data_epochs_are_free_for_other_students(store: Path) -> None:
    """Catches finished students that another number of epochs on the full data throws away."""
    run, _ = controlled(store, CONTROLS)
    more, _ = controlled(store, CONTROLS, "evaluate.full_data_epochs=1")
    changed = {name for name in run.scopes if run.scopes[name] != more.scopes[name]}
    assert changed == {"evaluate/full-data/student-full-data"}
