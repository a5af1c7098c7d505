"""What trackers are told of a unit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prism_ray.plan import Plan
from prism_ray.run import load_run
from prism_ray.run.points import Numbering, is_shown, items_of
from prism_ray.stages import scope_of, stage_names
from prism_ray.store import Commit, StoreFiles, read_commit
from prism_ray.store.commits import list_commits
from prism_ray.trackers import Item, Picture, Point
from tests.plans import config_of, facts_of


@pytest.mark.parametrize(
    "changes",
    [
        {"recover__ipc_indices_per_batch": 2, "recover__images_per_batch": 6},
        {"recover__formation": "joint", "recover__images_per_batch": 7, "relabel__images_per_group": 20},
        {"recover__formation": "class-wise", "recover__images_per_batch": 3, "relabel__epochs_per_unit": 7},
        {"evaluate__num_students": 3, "relabel__epochs": 10, "relabel__epochs_per_unit": 3},
    ],
)
def test_numbers_count_the_units_of_a_scope_in_order(changes: dict[str, Any]) -> None:
    """Catches two units at one step of a series, or a unit that has no number and is never sent."""
    plan = Plan(config_of(**changes), facts_of(5))
    numbering = Numbering(plan)
    counts: dict[str, int] = {}
    for stage in stage_names():
        for unit_id in plan.unit_ids(stage):
            scope = scope_of(unit_id)
            assert numbering.number(unit_id) == counts.get(scope, 0), unit_id
            counts[scope] = counts.get(scope, 0) + 1
    for unit_id in ("recover/gone/i00000-c00000", "recover/distilled/x", "relabel/x/y", "squeeze/gone"):
        assert numbering.number(unit_id) is None


def all_items(store: Path) -> list[Item]:
    files = StoreFiles(str(store))
    plan = load_run(files).plan
    numbering = Numbering(plan)
    items: list[Item] = []
    for unit_id in list_commits(files):
        number = numbering.number(unit_id)
        assert number is not None
        items += items_of(files, plan, read_commit(files, unit_id), number)
    return items


def test_a_run_has_its_losses_curves_accuracies_and_images_once(calm: Path) -> None:
    """Catches a kind of figure that does not arrive, and two points of a series at one step."""
    items = all_items(calm)
    keys = [(item.tag, item.step) for item in items]
    assert len(set(keys)) == len(keys)
    tags = {tag for tag, _ in keys}
    assert tags >= {
        "squeeze/resnet/train_loss",
        "squeeze/resnet/test_accuracy",
        "recover/distilled/ce",
        "recover/distilled/bn",
        "recover/distilled/i00000-c00000/ce",
        "recover/distilled/i00000-c00000/alignment/resnet",
        "recover/distilled/images",
        "relabel/distilled/seconds",
        "relabel/distilled/bytes",
        "evaluate/distilled/student/accuracy",
        "evaluate/distilled/student/s000/accuracy",
        "measure/distilled/cosine_mean",
    }
    # MLflow keeps series as files in folders.
    assert not [tag for tag in tags for other in tags if other.startswith(f"{tag}/")]
    curve = [item for item in items if item.tag == "recover/distilled/i00000-c00000/ce"]
    assert [item.step for item in curve][-1] == 11  # counted from 0
    assert all(isinstance(item, Point) and item.axis == "iteration" for item in curve)
    pictures = [item for item in items if isinstance(item, Picture)]
    assert pictures
    for picture in pictures:
        assert picture.pixels.dtype == np.uint8
        assert picture.pixels.shape[2] == 3
        assert picture.pixels.std() > 10
    assert {item.time for item in items} > {min(item.time for item in items)}
    assert min(item.time for item in items) > 1.6e9


def test_what_cannot_be_read_is_left_out(calm: Path, tmp_path: Path) -> None:
    """Catches a damaged card or part that ends the sending of all that is in order."""
    plan = load_run(StoreFiles(str(calm))).plan
    empty = StoreFiles(str(tmp_path / "empty"))
    for unit_id in ("recover/distilled/i00000-c00000", "squeeze/resnet", "evaluate/distilled/student/s000"):
        commit = read_commit(StoreFiles(str(calm)), unit_id)
        tags = {item.tag for item in items_of(empty, plan, commit, 0)}
        assert f"{scope_of(unit_id)}/seconds" in tags
    odd: dict[str, Any] = {"ok": 1, "inf": float("inf"), "text": "x", "flag": True, "last": 3}
    commit = Commit("measure/distilled", "f", (), odd, 1.0, "host", "no time")
    found = {item.tag: item for item in items_of(empty, plan, commit, 0)}
    assert found.keys() == {f"measure/distilled/{name}" for name in ("ok", "seconds", "bytes", "last")}


def test_few_batches_are_shown_of_very_many() -> None:
    """Catches a tracker that gets the images of a million batches."""
    assert [number for number in range(20) if is_shown(number)] == [0, 1, 2, 4, 8, 16]
