"""Students and teachers whose actor or machine goes while they are trained: they become the very same."""

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.chaos.command import COMPLETE, Command, wait_until
from tests.chaos.nodes import Nodes
from tests.processes import descendants
from tests.stores import committed, copy_store

pytestmark = [pytest.mark.ray, pytest.mark.timeout(280)]

Start = Callable[..., "subprocess.Popen[str]"]
Run = Callable[..., "subprocess.CompletedProcess[str]"]

# Trainings of some seconds each, with a checkpoint after every epoch.
LONG = {
    "squeeze": ("teachers.squeeze.epochs=12",),
    "evaluate": (
        "relabel.epochs=60",
        "relabel.prune_ratio=0.9",
        "relabel.epochs_per_unit=60",
        "evaluate.image_sets=[distilled]",
        "evaluate.ema_decay=0.9",
    ),
}
EACH_EPOCH = ("orchestrate.checkpoint_interval_s=0", "orchestrate.stall_timeout_s=20")  # asked every 5 s
_MEANWHILE_BYTES = 200_000  # more than a card, less than a checkpoint


@dataclass
class Training:
    """A stage that trains networks, to be disturbed."""

    stage: str
    undisturbed: Path  # a store after it
    store: Path  # the same store before it
    arguments: list[str]  # of the command

    def commits(self) -> list[dict[str, Any]]:
        return [
            json.loads(path.read_text()) for path in (self.store / "commits" / self.stage).rglob("*.json")
        ]

    def failures(self) -> list[str]:
        """What failed attempts died of."""
        return [json.loads(path.read_text())["error"] for path in self.store.glob("failures/**/*.json")]

    def has_checkpoint(self) -> bool:
        return bool(list((self.store / "wip" / self.stage).rglob("*.safetensors")))

    def wait_for_checkpoint(self, is_alive: Callable[[], bool]) -> None:
        assert wait_until(lambda: self.has_checkpoint() or not is_alive(), 120.0)
        time.sleep(0.5)  # for some epochs more
        assert is_alive()

    def check(self) -> None:
        """Fail if a network is another than without a disturbance, or was begun anew."""
        found, expected = committed(self.store), committed(self.undisturbed)
        assert found == {unit: parts for unit, parts in expected.items() if unit in found}
        assert {unit for unit in expected if unit.startswith(self.stage)} <= found.keys()
        assert not self.has_checkpoint()
        if self.stage == "evaluate":
            (commit,) = self.commits()
            assert 0 < commit["stats"]["resumed_at"] < 60


def arguments_of(stage: str, config: Path, small_options: list[str]) -> list[str]:
    settings = (word for setting in (*LONG[stage], *EACH_EPOCH) for word in ("--set", setting))
    return [stage, str(config), *small_options, *settings]


@pytest.fixture(scope="module")
def finished(calm: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Stores after an undisturbed stage, by its name; they are made when they are first asked for."""
    return {}


@pytest.fixture(params=["squeeze", "evaluate"])
def training(
    request: pytest.FixtureRequest,
    calm: Path,
    finished: dict[str, Path],
    cli: Run,
    digits_config: Path,
    small_options: list[str],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Training:
    stage: str = request.param
    arguments = arguments_of(stage, digits_config, small_options)
    if stage not in finished:
        store = tmp_path_factory.mktemp("finished") / "run"
        if stage == "evaluate":
            copy_store(calm, store, lambda unit: unit.startswith(("squeeze/", "recover/")))
            done = cli("relabel", *arguments[1:], "--store", store)
            assert done.returncode == 0, done.stderr
        done = cli(*arguments, "--store", store)
        assert done.returncode == 0, done.stderr
        finished[stage] = store
    copy_store(finished[stage], tmp_path / "run", lambda unit: not unit.startswith(f"{stage}/"))
    return Training(stage, finished[stage], tmp_path / "run", [*arguments, "--store", str(tmp_path / "run")])


only_students = pytest.mark.parametrize("training", ["evaluate"], indirect=True)
slow_for_teachers = pytest.mark.parametrize(
    "training", [pytest.param("squeeze", marks=pytest.mark.slow), "evaluate"], indirect=True
)


def actor_of(process: "subprocess.Popen[str]") -> psutil.Process:
    (actor,) = descendants(process.pid, "ray::WorkerActo")
    return actor


@slow_for_teachers
def test_a_training_whose_actor_is_killed_ends_with_the_same_network(
    training: Training, start_cli: Start
) -> None:
    """Catches hours of a student lost with its actor, and one that goes on as another student."""
    process = start_cli(*training.arguments)
    training.wait_for_checkpoint(lambda: process.poll() is None)
    actor_of(process).kill()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    assert training.failures() == ["ActorDied"]
    training.check()


@pytest.mark.slow
def test_a_training_whose_machine_is_killed_ends_with_the_same_network(
    training: Training, environment: dict[str, str], tmp_path: Path
) -> None:
    """Catches an attempt that counts although the machine was at fault, and a training begun anew."""
    with Nodes(environment) as nodes:
        command = Command(training.arguments, nodes.environment, tmp_path / "log")
        training.wait_for_checkpoint(lambda: command.is_alive)
        (actor,) = nodes.actors()
        nodes.kill(actor.ppid())  # its raylet, and all else of the machine
        assert command.end(120.0) == COMPLETE, command.output
    assert training.failures() == []
    training.check()


@pytest.mark.slow
@only_students
def test_a_student_whose_disk_is_full_goes_on(training: Training, start_cli: Start) -> None:
    """Catches a student that is given up, or set aside for good, because a checkpoint finds no room."""
    process = start_cli(*training.arguments)
    training.wait_for_checkpoint(lambda: process.poll() is None)
    actor_of(process).rlimit(psutil.RLIMIT_FSIZE, (_MEANWHILE_BYTES, psutil.RLIM_INFINITY))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    assert "evaluate/distilled/student/s000 continues without a new checkpoint: " in out
    assert training.failures() == []
    assert not list((training.store / "wip").glob("aside-*"))  # of files that found no room
    assert committed(training.store) == committed(training.undisturbed)
