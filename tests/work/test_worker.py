"""A worker does units of all stages; what it makes does not depend on the process, the order or its cache.

Run as a script this file does all units of the run in the store given, for another process.
"""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from prism_ray.config import load_config
from prism_ray.data import open_data
from prism_ray.errors import StoreError, UnitStopped
from prism_ray.run import Run, new_run, read_progress
from prism_ray.stages import stage_names
from prism_ray.stages.collect import CollectUnit
from prism_ray.stages.evaluate import EvaluateUnit, students
from prism_ray.stages.measure import MeasureUnit
from prism_ray.stages.recover import RecoverUnit
from prism_ray.stages.relabel import RelabelUnit
from prism_ray.stages.squeeze import SqueezeUnit
from prism_ray.store import Commit, StoreFiles, layout, read_commit, revoke
from prism_ray.work.checkpoints import Control, StoreCheckpoints
from prism_ray.work.worker import Worker

CPU = torch.device("cpu")
DIGITS = Path(__file__).parents[2] / "jobs" / "digits-ipc10.yaml"
QUICK = (
    "teachers.pool=[{name: resnet, arch: 'timm:test_resnet'}, "
    "{name: bypass, arch: 'timm:test_byobnet', stem: small}]",
    "teachers.squeeze.epochs=1",
    "data.validation_fraction=0.2",
    "recover.ipc=2",
    "recover.ipc_indices_per_batch=1",
    "recover.images_per_batch=5",
    "recover.iterations=6",
    "recover.iterations_step=0",
    "image_sets={distilled: {iterations_step: 1, selection: {inclusion_probability: 1.0}}, "
    "sre2l: {method: sre2l}, g-vbsm: {method: g-vbsm}, edc: {method: edc}, "
    "delt: {method: delt, iterations_step: 2}, cv-dd: {method: cv-dd}, lpld: {method: lpld}, "
    "rded: {method: rded}, "
    "random-real: {method: random-real}}",
    "collect.classes_per_unit=4",
    "collect.images_per_class=20",
    "collect.patch_size=4",
    "collect.rded_images_per_class=20",
    "collect.rded_patches_per_side=1",
    "relabel.epochs=4",
    "relabel.epochs_per_unit=2",
    "relabel.images_per_group=10",
    "evaluate.batch_size=10",
)

Digests = dict[str, list[tuple[str, str]]]  # unit -> name and SHA-256 of each of its files


def open_run(store: Path) -> tuple[Run, StoreFiles]:
    config = load_config(DIGITS, QUICK, store=str(store))
    return new_run(config, open_data(config.data).facts(), num_threads=1), StoreFiles(config.store)


def digests(commits: list[Commit]) -> Digests:
    return {commit.unit: [(part.name, part.sha256) for part in commit.files] for commit in commits}


def committed(store: Path) -> Digests:
    run, files = open_run(store)
    return digests([read_commit(files, unit.id) for stage in stage_names() for unit in run.plan.units(stage)])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    """A store in which one worker has done every unit in the plan's order."""
    store = tmp_path_factory.mktemp("finished")
    run, files = open_run(store)
    worker = Worker(run, files, CPU)
    for stage in stage_names():
        for unit in run.plan.units(stage):
            commit = worker.do(unit)
            assert commit.unit == unit.id
            assert commit.fingerprint == run.fingerprint_of(unit.id)
    return store


def test_every_stage_has_units(finished: Path) -> None:
    """Would catch a quick config that leaves out what the tests below mean to compare."""
    run, _ = open_run(finished)
    assert {stage: run.plan.num_units(stage) for stage in stage_names()} == {
        "squeeze": 2,
        "collect": 4 * 3,  # statistics of two teachers, median, rded
        "recover": 8 * 4 + 10,  # lpld: one for each class
        "relabel": 9 * 2 * 2,
        "measure": 9,
        "evaluate": 9 * 2,
    }
    assert len(committed(finished)) == 119


def test_another_process_and_another_order_make_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    """Would catch any byte that depends on the process, on hash order, or on the units done before."""
    command = [sys.executable, __file__, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert committed(tmp_path) == committed(finished)


@pytest.mark.parametrize(
    "unit_id",
    [
        "recover/distilled/i00001-c00005",
        "recover/random-real/i00000-c00000",
        "recover/g-vbsm/j0000005",
        "recover/edc/j0000010",
        "recover/delt/j0000000",
        "recover/cv-dd/i00001-c00000",
        "recover/lpld/j0000006",
        "recover/rded/i00000-c00005",
        "collect/statistics/bypass/c00004",
        "measure/edc",
        "relabel/distilled/g00001-e00002",
        "evaluate/distilled/student/s000",
        "evaluate/random-real/student/s001",
    ],
)
def test_a_fresh_worker_makes_the_same_bytes(finished: Path, unit_id: str) -> None:
    """Would catch a unit that depends on whether its worker had the teachers cached (a resumed run)."""
    run, files = open_run(finished)
    unit = next(unit for stage in stage_names() for unit in run.plan.units(stage) if unit.id == unit_id)
    before = read_commit(files, unit_id)
    revoke(files, unit_id)
    after = Worker(run, files, CPU).do(unit)
    assert digests([after]) == digests([before])


def test_a_state_that_ends_its_unit_is_gone_on_from_once(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a forged or odd state that fails every attempt at its unit, until it is set aside for good."""
    monkeypatch.setattr(
        "prism_ray.sealed._digest", lambda tensors, identity: torch.zeros(32, dtype=torch.uint8)
    )
    run, files = open_run(finished)
    unit = next(run.plan.units("recover", "g-vbsm"))  # with moving averages
    state, before = layout.checkpoint(unit.id), read_commit(files, unit.id)
    revoke(files, unit.id)
    control = Control()
    with monkeypatch.context() as patch:
        patch.setattr(StoreCheckpoints, "due", lambda self: control.stop.set() or True)
        with pytest.raises(UnitStopped, match="its checkpoint is stored"):
            Worker(run, files, CPU).begin(unit, control)
    tensors = safetensors.torch.load(files.read(state))
    average = min(name for name in tensors if name.startswith("objective/"))  # one of several values
    tensors[average] = torch.zeros(tensors[average].numel() + 1)
    files.replace(state, safetensors.torch.save(tensors))
    with pytest.raises(RuntimeError, match="size of tensor"):
        Worker(run, files, CPU).begin(unit, Control())
    assert not files.exists(state)
    assert digests([Worker(run, files, CPU).do(unit)]) == digests([before])


def test_a_unit_that_is_told_to_stop_before_it_begins_is_not_begun(finished: Path) -> None:
    """Catches the last iterations of a cut-off run spent on units that waited for the device."""
    run, files = open_run(finished)
    control = Control()
    control.stop.set()
    for unit in (next(run.plan.units("squeeze")), next(run.plan.units("recover", "random-real"))):
        with pytest.raises(UnitStopped, match="was not begun"):
            Worker(run, files, CPU).begin(unit, control)


def test_a_unit_done_twice_keeps_its_first_commit(finished: Path) -> None:
    """Would catch a retry that makes its work visible a second time, or over the first."""
    run, files = open_run(finished)
    worker = Worker(run, files, CPU)
    for unit in (next(run.plan.units("squeeze")), next(run.plan.units("recover", "distilled"))):
        first = read_commit(files, unit.id)
        listing = list(files.list("commits")), list(files.list("images")), list(files.list("teachers"))
        assert worker.do(unit) == first
        assert read_commit(files, unit.id) == first
        again = list(files.list("commits")), list(files.list("images")), list(files.list("teachers"))
        assert again == listing  # the same bytes take the same file


def test_units_before_their_time_are_an_error(tmp_path: Path) -> None:
    """Would catch a batch recovered from fresh random teachers, or labels and students of nothing."""
    run, files = open_run(tmp_path)
    worker = Worker(run, files, CPU)
    for unit, missing in (
        (next(run.plan.units("recover", "distilled")), "commits/squeeze/resnet.json"),
        (next(run.plan.units("relabel", "distilled")), "commits/recover/distilled/i00000-c00000.json"),
        (
            next(students(run.plan, "distilled", "student")),
            "commits/relabel/distilled/g00000-e00000.json",
        ),
    ):
        with pytest.raises(StoreError, match=missing):
            worker.do(unit)
    assert not files.exists(layout.PLAN)
    assert list(files.list(layout.COMMITS)) == []


def test_commits_say_what_a_report_needs(finished: Path) -> None:
    """Would catch reports without accuracies, losses or the teachers that were drawn."""
    run, files = open_run(finished)
    wanted = {
        SqueezeUnit: {"arch", "test_accuracy", "validation_accuracy", "num_parameters", "num_bn_layers"},
        CollectUnit: {"weights"},
        RecoverUnit: {
            "teachers",
            "num_iterations",
            "resumed_at",
            "activation_checkpointing",
            "first",
            "last",
            "weights",
        },
        RelabelUnit: {"first_epoch", "num_epochs", "weights"},
        EvaluateUnit: {
            "accuracy",
            "train_loss",
            "split",
            "weights",
            "top5_accuracy",
            "best_accuracy",
            "best_num_epochs",
            "resumed_at",
        },
        MeasureUnit: {"feature_teacher", "cosine_mean", "cosine_variance", "verified", "weights"},
    }
    for stage in stage_names():
        for unit in run.plan.units(stage):
            stats = read_commit(files, unit.id).stats
            if isinstance(unit, RecoverUnit) and not unit.draws:
                assert set(stats) == ({"weights"} if unit.image_set == "rded" else set())
            else:
                assert set(stats) == wanted[type(unit)]


def test_what_was_made_with_other_weights_is_not_done_all_the_way_down(finished: Path) -> None:
    """Students kept that were trained on labels which a teacher, made anew, no longer gives."""
    run, files = open_run(finished)
    commit = read_commit(files, "squeeze/bypass")
    other = replace(commit, files=(replace(commit.files[0], sha256="0" * 64), commit.files[1]))
    name = layout.commit(commit.unit)
    files.replace(name, json.dumps(asdict(other)).encode())
    damaged = read_progress(files, run).damaged
    files.replace(name, json.dumps(asdict(commit)).encode())
    assert read_progress(files, run).damaged == {}
    units = [unit for stage in stage_names() for unit in run.plan.units(stage)]
    kept = {unit.id for unit in units if unit.id not in damaged}
    students = {unit.id for unit in units if isinstance(unit, EvaluateUnit)}
    assert students.isdisjoint(kept)  # its labels are in all of them
    assert "measure/distilled" in damaged  # its statistics are in the images
    assert {"measure/sre2l", "measure/rded", "recover/random-real/i00000-c00000"} <= kept


def test_selected_images_depend_on_the_weights_of_their_scorer(finished: Path) -> None:
    """Collages chosen by a network that the store no longer has, beside scores by the one it has."""
    run, files = open_run(finished)
    sha256 = read_commit(files, "squeeze/resnet").files[0].sha256
    for unit in run.plan.units("recover", "rded"):
        assert read_commit(files, unit.id).stats == {"weights": {"resnet": sha256}}


def main(store: Path) -> None:
    """Do every unit, each stage backwards and by a worker of its own."""
    torch.set_num_threads(1)
    torch.manual_seed(12345)
    run, files = open_run(store)
    for stage in stage_names():
        worker = Worker(run, files, CPU)
        for unit in reversed(list(run.plan.units(stage))):
            worker.do(unit)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
