"""The states of the stages, from the commits and the lease."""

from collections.abc import Callable

import pytest

from prism_ray.analyze.states import stage_states
from prism_ray.run import Run, RunProgress
from prism_ray.stages import stage_names
from prism_ray.store import Commit


@pytest.fixture
def run(make_run: Callable[..., Run]) -> Run:
    """Two sets of 2 batches and 2 groups each, so that labels of one group can be made before the others."""
    return make_run(recover__images_per_batch=3, relabel__images_per_group=3)


def states(run: Run, *done: str, is_alive: bool = False) -> list[str]:
    """Return the states when the units are done that begin so."""
    progress = RunProgress(run.plan, {})
    for stage in stage_names():
        for unit_id in run.plan.unit_ids(stage):
            if unit_id.startswith(done):
                progress.add(Commit(unit_id, "f", (), {}, 1.0, "host", "now"))
    return list(stage_states(progress, is_alive).values())


def test_a_stage_that_cannot_begin_names_the_one_it_waits_for(run: Run) -> None:
    """Catches stages that all look alike at 0 units: the one at work and those that have to wait."""
    assert states(run, "none") == [
        "pending", "not needed", "waits for squeeze", "waits for recover", "waits for recover",
        "waits for relabel",
    ]  # fmt: skip
    assert states(run, "none", is_alive=True)[0] == "running"


def test_overlapping_stages_run_as_soon_as_a_piece_is_ready(run: Run) -> None:
    """Catches labels called waiting while they are made, because not all images are there."""
    first = "recover/distilled/i00000"
    assert states(run, "squeeze", first, is_alive=True)[2:] == [
        "running", "running", "waits for recover", "waits for relabel",
    ]  # fmt: skip
    assert states(run, "squeeze", "recover/distilled", "relabel/distilled", is_alive=True)[2:] == [
        "running", "running", "running", "running",
    ]  # fmt: skip


def test_what_is_done_is_done_and_what_stands_still_is_pending(run: Run) -> None:
    """Catches an interrupted run that is shown as running, or a finished one as pending."""
    assert states(run, "squeeze", "recover/distilled/i00000") == [
        "done", "not needed", "pending", "pending", "waits for recover", "waits for relabel",
    ]  # fmt: skip
    assert set(states(run, "")) == {"done", "not needed"}
