"""A run at work, killed and resumed, as `status` and the dashboard in a browser show it."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.browser import page_of
from tests.chaos.command import wait_until

pytest.importorskip("plotly")
pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

Start = Callable[..., "subprocess.Popen[str]"]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def test_a_run_is_seen_at_work_killed_and_resumed(
    start_cli: Start,
    cli: Run,
    digits_config: Path,
    store_with_teachers: Path,
    small_options: list[str],
    tmp_path: Path,
) -> None:
    """Catches a display that knows whole units only, shows a dead driver at work, or ends with it."""
    store = store_with_teachers
    # Many iterations: the run must still be in recover when the browser has opened the page.
    options = ["--set", "recover.iterations=500", "--set", "orchestrate.checkpoint_interval_s=1"]
    command = ["distill", digits_config, *small_options, *options, "--store", store]

    def live() -> dict[str, object] | None:
        state: dict[str, object] | None = json.loads(cli("status", store, "--json").stdout)["live"]
        return state

    def is_at_work() -> bool:
        """Say whether an actor has said how far its batch is."""
        shown = live()
        units = [unit for actor in shown["actors"] for unit in actor["units"]] if shown else []  # type: ignore[attr-defined]
        return any(unit["num_done"] > 0 and unit["unit"].startswith("recover/") for unit in units)

    driver = start_cli(*command)
    assert wait_until(is_at_work, 150.0)
    board = start_cli("dashboard", store, "--no-open")
    assert board.stdout is not None
    link = board.stdout.readline().split()[-1]
    dom = page_of(link, tmp_path / "profile")
    assert "is at work (last heartbeat" in dom
    assert "actor-1 on " in dom
    assert " per s" in dom
    driver.kill()
    driver.wait(30)
    assert live() is None
    assert "has ended without releasing the store" in page_of(link, tmp_path / "profile")
    resumed = cli(*command, timeout=600.0)
    assert resumed.returncode == 0, resumed.stderr
    assert not (store / "live.json").exists()
    deadline = time.monotonic() + 60.0
    while "Complete. No driver is at work." not in (dom := page_of(link, tmp_path / "profile")):
        assert time.monotonic() < deadline
    assert "js-plotly-plot" in dom
    assert "<figure>" in dom
