"""What the dashboard's page shows of a store."""

import base64
import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from prism_ray.dashboard.state import DashboardState
from prism_ray.run import Run
from prism_ray.run.live import ActorNow, Live, StageNow, UnitNow
from prism_ray.store import Failure, Lease, StoreFiles, layout, record_failure, revoke
from tests.filled import CURVE, finish


def test_a_finished_run(files: StoreFiles, make_run: Callable[..., Run]) -> None:
    """Catches a page that only works while a driver does."""
    run = make_run()
    finish(files, run)
    shown = DashboardState(files, run)
    state = shown.state()
    assert state["driver"] is None
    assert state["live"] is None
    stages = {row["stage"]: (row["done"], row["units"], row["share"]) for row in state["stages"]}
    num_batches = len(list(run.plan.unit_ids("recover")))
    assert stages["recover"] == (num_batches, num_batches, 1.0)
    assert "collect" not in stages  # no unit of it is needed
    assert set(state["newest"]) == set(run.plan.unit_ids("recover"))
    images = shown.images()
    assert images["batch"] == state["newest"][0]
    first = images["images"][0]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(first["src"].partition(",")[2]))))
    assert pixels.shape == (64, 64)  # 8 pixels, each as a square
    assert first["name"] == run.facts.class_names[first["label"]]
    curves = shown.curves()
    assert set(curves) == set(state["newest"])
    assert list(next(iter(curves.values()))["ce"]) == CURVE["ce"]


def test_a_run_at_work(files: StoreFiles, make_run: Callable[..., Run]) -> None:
    """Catches bars that wait for whole units, and newest images that are those of the first look."""
    run = make_run()
    finish(files, run)
    ids = list(run.plan.unit_ids("recover"))
    unit = UnitNow("recover/distilled/x", 30, 100, 2.0, {"ce": 1.0})
    stage = StageNow("recover", 3, len(ids), 0, 9.0, 0.4, 30.0)
    live = Live(9.0, (stage,), (ActorNow("actor-1", "h", 1, "cpu", (unit,)),), (ids[2], "measure/distilled"))
    shown = DashboardState(files, run)
    with Lease(files, 20.0, lambda text: None):
        files.replace(layout.LIVE, live.to_json())
        state = shown.state()
        (row,) = (row for row in state["stages"] if row["stage"] == "recover")
        assert row["share"] == 0.4
        assert state["driver"]["alive"]
        assert state["live"]["actors"][0]["units"][0]["text"] == "2 per s, cross-entropy 1"
        assert state["newest"][0] == ids[2]
        assert shown.images()["batch"] == ids[2]


def test_what_is_damaged_or_gone_is_left_out(files: StoreFiles, make_run: Callable[..., Run]) -> None:
    """Catches a page that shows nothing at all because one batch was set back."""
    run = make_run()
    finish(files, run)
    record_failure(files, Failure("recover/x", "EngineError", "not finite", "traceback", "host"))
    shown = DashboardState(files, run)
    newest = shown.state()["newest"]
    revoke(files, newest[0])
    assert shown.images()["images"] == []
    assert set(shown.curves()) == set(newest[1:])
    (failure,) = shown.state()["failures"]
    assert failure == {"unit": "recover/x", "error": "EngineError", "message": "not finite"}
