"""Actors on a real Ray: some die, some start late or never, a cluster is too small."""

from pathlib import Path

import pytest

from tests.orchestrate.faults import run_fault

pytestmark = [pytest.mark.ray, pytest.mark.timeout(200)]


def test_a_killed_actor_is_replaced(
    tmp_path: Path, digits_config: Path, small_overrides: tuple[str, ...], environment: dict[str, str]
) -> None:
    """Catches a pool that loses an actor's units with it, or ends when its only actor is killed."""
    overrides = [*small_overrides, "recover.ipc_indices_per_batch=1"]
    result = run_fault("kill", tmp_path / "run", digits_config, overrides, environment)
    assert result["set_aside"] == []
    assert len(list((tmp_path / "run" / "commits").rglob("*.json"))) == 4


def test_an_actor_that_is_killed_before_it_works_is_replaced(
    tmp_path: Path, digits_config: Path, small_overrides: tuple[str, ...], environment: dict[str, str]
) -> None:
    """Catches a run that ends because its first actor, or that one's machine, went while it started."""
    assert run_fault("early", tmp_path / "run", digits_config, small_overrides, environment) == {"deaths": 1}


def test_a_cluster_too_small_is_an_error_not_a_wait(
    tmp_path: Path, digits_config: Path, environment: dict[str, str]
) -> None:
    """Catches waiting for a GPU that this machine has not and will never have."""
    overrides = ["orchestrate.gpus_per_actor=1", "orchestrate.actor_start_timeout_s=3"]
    result = run_fault("start", tmp_path / "run", digits_config, overrides, environment)
    assert result["error"] == "UsageError"
    assert "orchestrate.gpus_per_actor = 1: this machine has 0 GPUs" in str(result["message"])


def test_an_accelerator_that_this_machine_has_not_is_told_at_once(
    tmp_path: Path, digits_config: Path, environment: dict[str, str]
) -> None:
    """Catches five minutes of waiting for an H100 on a laptop."""
    overrides = ["orchestrate.accelerator_type=H100"]
    result = run_fault("start", tmp_path / "run", digits_config, overrides, environment)
    assert result["error"] == "UsageError"
    assert "orchestrate.accelerator_type = 'H100': none of the cluster's 1 machine" in str(result["message"])


def test_actors_that_stay_pending_are_an_error_in_time(
    tmp_path: Path, digits_config: Path, environment: dict[str, str]
) -> None:
    """Catches a silent wait for resources that the cluster does not grow."""
    overrides = ["orchestrate.actor_start_timeout_s=3"]
    result = run_fault("pending", tmp_path / "run", digits_config, overrides, environment)
    assert result["error"] == "OrchestrateError"
    assert "within 3 s (orchestrate.actor_start_timeout_s)" in str(result["message"])
    assert "requests 1 CPUs, 1 GPUs" in str(result["message"])
    assert "GPU 0 of 0" in str(result["message"])


def test_an_actor_without_a_place_gets_no_units(
    tmp_path: Path, digits_config: Path, small_overrides: tuple[str, ...], environment: dict[str, str]
) -> None:
    """Catches units that wait for ever at an actor which the cluster has no room for."""
    overrides = [*small_overrides, "recover.ipc_indices_per_batch=1"]
    result = run_fault("crowded", tmp_path / "run", digits_config, overrides, environment)
    assert result["set_aside"] == []
    assert len(list((tmp_path / "run" / "commits").rglob("*.json"))) == 4


def test_an_actor_that_is_not_to_be_replaced_is_missing_to_the_end(
    tmp_path: Path, digits_config: Path, small_overrides: tuple[str, ...], environment: dict[str, str]
) -> None:
    """Catches a decision about a dead actor that is not carried out, and a run that waits for that actor."""
    # Many units: a death is noticed a little later, and the other actor must not have done them all by then.
    many = ["recover.ipc_indices_per_batch=1", "recover.ipc=100", "recover.iterations_step=0"]
    overrides = [*small_overrides, *many]
    result = run_fault("fewer", tmp_path / "run", digits_config, overrides, environment)
    assert result["num_left"] == 1
    assert result["set_aside"] == []
    assert len(list((tmp_path / "run" / "commits").rglob("*.json"))) == 100
