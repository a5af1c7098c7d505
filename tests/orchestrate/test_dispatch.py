"""The dispatcher on a real Ray: units that fail, input that is wrong."""

import json
from pathlib import Path

import pytest

from tests.orchestrate.faults import run_fault

pytestmark = [pytest.mark.ray, pytest.mark.timeout(200)]


def test_a_failing_unit_is_set_aside_and_the_rest_goes_on(
    tmp_path: Path, digits_config: Path, small_overrides: tuple[str, ...], environment: dict[str, str]
) -> None:
    """Catches a unit that fails for good stopping the others, retried for ever, or leaving no traceback."""
    overrides = [*small_overrides, "orchestrate.max_attempts=2"]
    result = run_fault("unit", tmp_path / "run", digits_config, overrides, environment)
    assert result["set_aside"] == ["recover/distilled/bad"]
    heard = result["heard"]
    assert isinstance(heard, list)
    assert [event for event in heard if event[0] == "failed"] == [
        ["failed", "recover/distilled/bad", "StoreError", True],
        ["failed", "recover/distilled/bad", "StoreError", False],
    ]
    assert ["done", "recover/random-real/i00000-c00000"] in heard
    records = sorted((tmp_path / "run" / "failures").rglob("*.json"))
    assert [path.name for path in records] == ["bad-1.json", "bad-2.json"]
    assert "Traceback" in json.loads(records[0].read_text())["traceback"]
    assert (tmp_path / "run" / "aside" / "recover" / "distilled" / "bad.json").exists()


def test_wrong_architecture_is_found_before_any_work(
    tmp_path: Path, digits_config: Path, environment: dict[str, str]
) -> None:
    """Catches a typo in an architecture that is found only by the squeeze, or retried."""
    overrides = ["teachers.pool.1.arch=timm:test_resnett", "orchestrate.actors=1"]
    result = run_fault("arch", tmp_path / "run", digits_config, overrides, environment)
    assert result["error"] == "ConfigError"
    assert "teachers.pool.1.arch = 'timm:test_resnett'" in str(result["message"])
    assert "timm:test_resnet" in str(result["message"])
