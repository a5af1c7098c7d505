"""What happens when the device's memory runs out: a batch that is done all the same, or an error that helps.

The device is the CPU with a budget: tensors beyond it raise what CUDA's allocator raises.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from prism_ray.analyze.pool import LiveStorages
from prism_ray.config import load_config
from prism_ray.data import open_data
from prism_ray.errors import DeviceMemoryError, EngineError
from prism_ray.run import Run, new_run
from prism_ray.stages import Unit, stage_names
from prism_ray.stages.recover import RecoverUnit
from prism_ray.store import Commit, StoreFiles, revoke, write_commit
from prism_ray.work.cache import num_bytes
from prism_ray.work.worker import Worker
from tests.budget import Budget

CPU = torch.device("cpu")
DIGITS = Path(__file__).parents[2] / "jobs" / "digits-ipc10.yaml"
QUICK = (
    "teachers.pool=[{name: resnet, arch: 'timm:test_resnet'}, {name: byobnet, arch: 'timm:test_byobnet'}]",
    "teachers.squeeze.epochs=1",
    "recover.ipc=2",
    "recover.iterations=6",
    "recover.iterations_step=0",
    "image_sets={distilled: {selection: {inclusion_probability: 1.0}, ipc_indices_per_batch: 2}, "
    "delt: {method: delt, iterations_step: 3}}",
    "collect.rded_images_per_class=20",
    "relabel.epochs=2",
    "relabel.images_per_group=20",
    "evaluate.batch_size=10",
    "evaluate.num_students=1",
    "orchestrate.checkpoint_interval_s=0",
)
BATCH = "recover/distilled/i00000-c00000"


def open_run(store: Path, *overrides: str) -> tuple[Run, StoreFiles]:
    config = load_config(DIGITS, [*QUICK, *overrides], store=str(store))
    return new_run(config, open_data(config.data).facts(), num_threads=1), StoreFiles(config.store)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> tuple[Path, dict[str, Commit]]:
    """A store, and every unit's commit, made with all the memory that there is."""
    store = tmp_path_factory.mktemp("run")
    run, files = open_run(store)
    worker = Worker(run, files, CPU)
    return store, {unit.id: worker.do(unit) for stage in stage_names() for unit in run.plan.units(stage)}


@pytest.fixture
def commits(done: tuple[Path, dict[str, Commit]]) -> Iterator[dict[str, Commit]]:
    """The commits, to which the store is put back after a test."""
    store, commits = done
    yield commits
    _, files = open_run(store)
    for commit in commits.values():
        revoke(files, commit.unit)
        write_commit(files, commit)


@pytest.fixture
def store(done: tuple[Path, dict[str, Commit]]) -> Path:
    return done[0]


def unit_of(run: Run, unit_id: str) -> Unit:
    return next(unit for stage in stage_names() for unit in run.plan.units(stage) if unit.id == unit_id)


def do(store: Path, unit_id: str, device: LiveStorages, *overrides: str) -> tuple[Commit, Worker]:
    """Do a unit again by a fresh worker, on a device with so much memory."""
    run, files = open_run(store, *overrides)
    revoke(files, unit_id)
    worker = Worker(run, files, CPU)
    with device:
        return worker.do(unit_of(run, unit_id)), worker


def files_of(commit: Commit) -> list[str]:
    return [part.sha256 for part in commit.files]


def peak_of(store: Path, unit_id: str) -> int:
    live = LiveStorages()
    do(store, unit_id, live)
    return live.peak_bytes


def test_a_batch_that_has_no_room_is_done_again_to_the_same_bytes(
    store: Path, commits: dict[str, Commit]
) -> None:
    """Catches a batch that fails although it could be made, one whose pixels tell how it was made, and a
    second try beside what the first has left in memory."""
    device = Budget(round(0.75 * peak_of(store, BATCH)))
    commit, worker = do(store, BATCH, device)
    assert device.num_failures == 1
    assert commit.stats["activation_checkpointing"] is True
    assert commits[BATCH].stats["activation_checkpointing"] is False
    assert files_of(commit) == files_of(commits[BATCH])
    assert commit.stats["last"] == commits[BATCH].stats["last"]
    assert sorted(worker.teachers.names) == ["byobnet", "resnet"]


def test_a_batch_that_runs_out_of_memory_late_goes_on_from_its_state(
    store: Path, commits: dict[str, Commit]
) -> None:
    """Catches iterations done again although their state was kept: images that join late do not fit."""
    unit_id = next(unit_id for unit_id in commits if unit_id.startswith("recover/delt/"))
    device = Budget(round(0.95 * peak_of(store, unit_id)))
    commit, _ = do(store, unit_id, device)
    assert device.num_failures == 1
    assert commit.stats["activation_checkpointing"] is True
    assert commit.stats["resumed_at"] == 3
    assert files_of(commit) == files_of(commits[unit_id])


def test_the_batch_size_that_is_named_fits(store: Path, commits: dict[str, Commit]) -> None:
    """Catches a number that was guessed: the next run with it fails too, or is smaller than it need be."""
    num_bytes = round(0.45 * peak_of(store, BATCH))
    with pytest.raises(DeviceMemoryError) as caught:
        do(store, BATCH, Budget(num_bytes))
    message = str(caught.value)
    assert message.startswith(f"{BATCH}: 20 images with the teachers resnet, byobnet do not fit")
    assert "recover.selection.slots, now 3" in message
    assert "orchestrate.accelerator_type" in message
    found = re.search(r"lower recover\.images_per_batch \(now 100\) to (\d+) or less", message)
    assert found is not None
    fits = int(found[1])
    assert 2 <= fits < 19
    commit, _ = do(store, BATCH, Budget(num_bytes), f"recover.images_per_batch={fits}")
    assert commit.stats["activation_checkpointing"] is True
    assert commit.files[0].num_rows == fits // 2 * 2  # whole classes of two images


def test_when_nothing_fits_other_settings_are_named(store: Path, commits: dict[str, Commit]) -> None:
    """Catches the advice to recover no images at a time, and teachers that are too large by themselves."""
    with pytest.raises(DeviceMemoryError, match="not even one would") as caught:
        do(store, BATCH, Budget(round(0.2 * peak_of(store, BATCH))))
    assert "lower data.image_size (now 32)" in str(caught.value)
    assert "images_per_batch" not in str(caught.value)


def test_where_others_use_the_device_too_it_may_be_tried_again(
    store: Path, commits: dict[str, Commit]
) -> None:
    """Catches a run that ends because a neighbour's batch was large for a moment."""
    device = Budget(round(0.45 * peak_of(store, BATCH)))
    with pytest.raises(EngineError, match=r"orchestrate\.gpus_per_actor, now 0\.5") as caught:
        do(store, BATCH, device, "orchestrate.gpus_per_actor=0.5")
    assert "lower recover.images_per_batch (now 100) to " in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("squeeze/resnet", ["teachers.squeeze.batch_size (now 64)"]),
        ("collect/", ["collect.batch_size (now 100)"]),
        ("relabel/", ["relabel.teacher_batch_size (now 256)", "relabel.images_per_group (now 20)"]),
        ("evaluate/", ["evaluate.batch_size (now 10 for student)"]),
        ("measure/", []),
    ],
)
def test_other_stages_name_what_makes_them_smaller(
    kind: str, settings: list[str], store: Path, commits: dict[str, Commit]
) -> None:
    """Catches an error that says how many MiB CUDA tried to get, and nothing that a user could set; and what
    has failed staying in memory beside the next unit."""
    unit_id = next(unit_id for unit_id in commits if unit_id.startswith(kind))
    run, files = open_run(store)
    revoke(files, unit_id)
    worker = Worker(run, files, CPU)
    device = Budget(round(0.6 * peak_of(store, unit_id)))
    revoke(files, unit_id)
    with device, pytest.raises(EngineError) as caught:
        worker.do(unit_of(run, unit_id))
    message = str(caught.value)
    assert message.startswith(f"{unit_id} does not fit into the memory of cpu; ")
    assert all(setting in message for setting in [*settings, "orchestrate.accelerator_type"])
    assert "CUDA error" not in message  # which would end the actor
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)
    assert device.live_bytes < 0.05 * device.num_bytes
    assert worker.teachers.names == ()
    assert files_of(worker.do(unit_of(run, unit_id))) == files_of(commits[unit_id])


def test_teachers_that_a_batch_does_not_need_make_room(store: Path, commits: dict[str, Commit]) -> None:
    """Catches a cache that holds a device's memory while a batch has none."""
    unit_id = next(unit_id for unit_id in commits if unit_id.startswith("recover/delt/"))
    peak = peak_of(store, unit_id)
    run, files = open_run(store)
    revoke(files, unit_id)
    unit = unit_of(run, unit_id)
    assert isinstance(unit, RecoverUnit)
    assert unit.teachers == ("resnet",)
    worker = Worker(run, files, CPU)
    unused = worker._context.teacher("byobnet")
    device = Budget(peak + num_bytes(unused) // 2)
    worker.teachers.keep(())
    with device:
        worker._context.teacher("byobnet")
        worker.do(unit)
    assert device.num_failures == 1
    assert worker.teachers.names == ("resnet",)
