"""Students of one worker: labels from the store or from the teachers, and every way to make labels small."""

import json
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import prism_ray.work.evaluate
from prism_ray.config import load_config
from prism_ray.data import check_config, open_data
from prism_ray.errors import ConfigError, UnitStopped
from prism_ray.parts.labels import LabelForm, LabelReader
from prism_ray.run import Run, new_run
from prism_ray.run.content import find_fault
from prism_ray.store import StoreFiles, layout, read_commit
from prism_ray.work.checkpoints import Control
from prism_ray.work.worker import Worker
from tests.stores import copy_store
from tests.worked import DIGITS, do_missing
from tests.worked import QUICK as OF_ONE_TEACHER

QUICK = (
    "teachers.pool=[{name: resnet, arch: 'timm:test_resnet'}, "
    "{name: bypass, arch: 'timm:test_byobnet', stem: small}]",
    *OF_ONE_TEACHER[1:],
)


def open_run(store: Path, *values: str) -> tuple[Run, StoreFiles]:
    config = load_config(DIGITS, [*QUICK, *values], store=str(store))
    return new_run(config, open_data(config.data).facts(), num_threads=1), StoreFiles(config.store)


def students_of(store: Path, *values: str) -> list[dict[str, Any]]:
    """Do what is missing in a store; return the cards of its students."""
    run, files = open_run(store, *values)
    do_missing(run, files)
    cards = [read_commit(files, unit.id).files[0].name for unit in run.plan.units("evaluate")]
    return [json.loads(files.read(name)) for name in cards]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    """A store with teachers, images, labels in float16, and students."""
    store = tmp_path_factory.mktemp("images") / "run"
    students_of(store)
    return store


def with_images(images: Path, store: Path) -> Path:
    """Return a store with the teachers and images of another, and no labels."""
    copy_store(images, store, lambda unit: unit.startswith(("squeeze/", "recover/")))
    shutil.rmtree(store / "ledger", ignore_errors=True)
    return store


# Ways to make a view, of which each has columns of its own, or a draw.
MIXES = {
    "cutmix": (),
    "none": ("relabel.cutmix_alpha=0",),
    "mixup": ("relabel.cutmix_alpha=0", "relabel.mixup_alpha=0.8"),
    "everything": ("relabel.mixup_alpha=0.8", "relabel.rand_augment=true", "relabel.patch_shuffle=true"),
}


@pytest.mark.parametrize("mix", MIXES)
def test_students_with_teachers_beside_them_become_the_same(images: Path, tmp_path: Path, mix: str) -> None:
    """Catches online labels of other views, groups or numbers than those that are stored."""
    store, settings = with_images(images, tmp_path / "run"), MIXES[mix]
    run, files = open_run(store, "relabel.mode=online", *settings)
    assert run.plan.num_units("relabel") == 0
    (unit, *_) = run.plan.units("evaluate")
    assert run.plan.teachers_of(unit) == ("resnet", "bypass")
    online = students_of(store, "relabel.mode=online", *settings)
    assert not list((store / "commits" / "relabel").rglob("*.json"))
    stored = images if mix == "cutmix" else with_images(images, tmp_path / "stored")
    assert online == students_of(stored, *settings)
    assert (online != students_of(images)) == (mix != "cutmix")
    assert set(read_commit(files, unit.id).weights) == {"resnet", "bypass"}


@pytest.mark.parametrize("mix", MIXES)
def test_students_become_the_same_if_views_are_drawn_again(images: Path, tmp_path: Path, mix: str) -> None:
    """Catches views that are not those of the labels, or that `verify` takes for damage."""
    cards = []
    for how in ("stored", "drawn"):
        store = with_images(images, tmp_path / how)
        settings = (*MIXES[mix], "relabel.encoding=int8", f"relabel.view_parameters={how}")
        cards.append(students_of(store, *settings))
        run, files = open_run(store, *settings)
        for unit in run.plan.units("relabel"):
            assert find_fault(files, run, unit, read_commit(files, unit.id)) is None
    assert cards[0] == cards[1]


@pytest.mark.parametrize("labels", ["soft", "hard"])
def test_mixup_goes_with_encodings_pruning_and_hard_labels(images: Path, tmp_path: Path, labels: str) -> None:
    """Catches a share that an encoding, a label that is used again, or hard labels leave out."""
    losses = []
    for mix in ("mixup", "none"):
        settings = [
            *MIXES[mix],
            f"evaluate.labels={labels}",
            "relabel.prune_ratio=0.5",
            "relabel.encoding=int4",
        ]
        store = with_images(images, tmp_path / mix)
        losses.append(max(card["train_loss"] for card in students_of(store, *settings)))
        run, files = open_run(store, *settings)
        for unit in run.plan.units("relabel"):
            assert find_fault(files, run, unit, read_commit(files, unit.id)) is None
    assert all(0.0 < loss < 100.0 for loss in losses)
    assert losses[0] != losses[1]


@pytest.mark.parametrize("encoding", ["int8", "int4", "top-3", "top-3-int8", "top-3-int4"])
@pytest.mark.parametrize(
    "evaluate",
    [
        {"loss": "kl", "marginal": "renormalise", "temperature_schedule": "step", "temperature_step": 2},
        {"loss": "kl", "temperature_schedule": "cosine", "student_temperature_ratio": 0.5},
        {"loss": "mse"},
    ],
    ids=["renormalise", "smooth", "mse"],
)
def test_every_way_to_make_labels_small_trains_students(
    images: Path, tmp_path: Path, encoding: str, evaluate: dict[str, Any]
) -> None:
    """Catches a combination of encoding, pruning, marginal and temperatures that stops or is not finite."""
    values = [f"evaluate.{key}={value}" for key, value in evaluate.items()]
    settings = [*values, "relabel.prune_ratio=0.5", f"relabel.encoding={encoding}"]
    store = with_images(images, tmp_path / "run")
    cards = students_of(store, *settings)
    assert len(cards) == 2
    assert all(0.0 < card["train_loss"] < 100.0 for card in cards)
    run, files = open_run(store, *settings)
    units = list(run.plan.units("relabel", "distilled"))
    assert sum(unit.num_epochs for unit in units) == 3 * run.plan.formation("distilled").num_groups
    commits = [read_commit(files, unit.id) for unit in units]
    labels = LabelReader(files, commits, LabelForm.of(run.plan, "distilled")).epoch(2)
    assert (labels.kept is not None) == encoding.startswith("top")


@pytest.mark.parametrize("ensemble", ["mean", "majority", "prior"])
def test_every_ensemble_labels(images: Path, tmp_path: Path, ensemble: str) -> None:
    """Catches an ensemble without what it needs, and one that is another's in disguise."""
    store = with_images(images, tmp_path / "run")
    priors = "relabel.priors={resnet: 50.0, bypass: 40.0}"
    cards = students_of(store, f"relabel.ensemble={ensemble}", *([priors] if ensemble == "prior" else []))
    losses = [card["train_loss"] for card in cards]
    assert losses != [card["train_loss"] for card in students_of(images)]
    assert all(0.0 < loss < 100.0 for loss in losses)


def test_priors_that_nobody_knows_are_asked_for() -> None:
    """Catches a run that finds out after recover that there are no validation images."""
    config = load_config(DIGITS, [*QUICK, "relabel.ensemble=prior"], store="x")
    with pytest.raises(ConfigError) as caught:
        check_config(config, open_data(config.data).facts(), "job.yaml")
    message = "job.yaml: relabel.ensemble = 'prior' needs the accuracy of resnet, bypass on validation images"
    assert str(caught.value).startswith(message)
    assert str(caught.value).endswith("or set relabel.priors in percent")


@pytest.mark.parametrize("mix", MIXES)
def test_one_set_of_labels_serves_every_batch_size(images: Path, tmp_path: Path, mix: str) -> None:
    """Catches labels with the key of a batch: other batch sizes would need labels of their own."""
    settings = MIXES[mix]
    store = with_images(images, tmp_path / "run")
    students_of(store, *settings)
    before = {path: path.read_bytes() for path in store.glob("labels/**/*.parquet")}
    assert before
    sizes = "{student: {}, five: {batch_size: 5}, seven: {batch_size: 7}, all: {batch_size: 100}}"
    cards = students_of(store, f"evaluations={sizes}", *settings)
    assert {path: path.read_bytes() for path in store.glob("labels/**/*.parquet")} == before
    losses = {card["unit"]: card["train_loss"] for card in cards if "/distilled/" in card["unit"]}
    assert len(set(losses.values())) == len(losses) == 4


# Runs in a process of its own: trains a student and dies when half of its second checkpoint is written.
CUT_OFF = """
import os, signal, sys
from pathlib import Path
import torch
from prism_ray.store import files
from tests.work.test_evaluate import EACH_EPOCH, Worker, open_run
torch.set_num_threads(1)
run, store = open_run(Path(sys.argv[1]), EACH_EPOCH)
write, num_written = files._write_synced, 0
def write_half(path, data):
    global num_written
    num_written += 1
    if num_written == 2:
        write(path, data[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, data)
files._write_synced = write_half
Worker(run, store, torch.device("cpu")).do(next(run.plan.units("evaluate")))
"""
EACH_EPOCH = "orchestrate.checkpoint_interval_s=0"


def card_and_start(store: Path, *values: str) -> tuple[bytes, int]:
    """Do the first student of a store; return its card, and the epoch that it went on from."""
    run, files = open_run(store, EACH_EPOCH, *values)
    unit = next(run.plan.units("evaluate"))
    commit = Worker(run, files, torch.device("cpu")).do(unit)
    assert not files.exists(layout.checkpoint(unit.id))
    return files.read(commit.files[0].name), commit.stats["resumed_at"]


def without_students(images: Path, store: Path) -> Path:
    copy_store(images, store, lambda unit: not unit.startswith("evaluate/"))
    return store


def stopped(store: Path, *values: str) -> Path:
    """Train the first student for an epoch; return the file of its checkpoint."""
    run, files = open_run(store, EACH_EPOCH, *values)
    unit, control = next(run.plan.units("evaluate")), Control()
    training = Worker(run, files, torch.device("cpu"))
    with pytest.MonkeyPatch.context() as patch:  # told to stop in its first epoch
        for name in ("_stored", "_online"):
            patch.setattr(prism_ray.work.evaluate, name, told_to_stop(control, name))
        with pytest.raises(UnitStopped, match="its checkpoint is stored"):
            training.begin(unit, control)
    return store / layout.checkpoint(unit.id)


def told_to_stop(control: Control, name: str) -> Callable[..., Any]:
    """Return a function of work/evaluate.py that tells its own unit to stop."""
    function = getattr(prism_ray.work.evaluate, name)

    def tell(*arguments: Any) -> Any:
        control.stop.set()
        return function(*arguments)

    return tell


@pytest.fixture(scope="module")
def calm(images: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The card of a student that nothing happened to."""
    card, start = card_and_start(without_students(images, tmp_path_factory.mktemp("calm") / "run"))
    assert start == 0
    return card


def test_a_student_killed_in_the_middle_of_a_checkpoint_becomes_the_same(
    images: Path, calm: bytes, tmp_path: Path
) -> None:
    """Catches a checkpoint that is written over the last one: half of it would be all that is left."""
    store = without_students(images, tmp_path / "run")
    command = [sys.executable, "-c", CUT_OFF, str(store)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert list((store / "wip").glob("aside-*"))
    assert card_and_start(store) == (calm, 1)


@pytest.mark.parametrize(
    "values",
    [
        ("relabel.mode=online", "relabel.teacher_batch_norm=batch"),
        MIXES["everything"],
        ("relabel.prune_ratio=0.6", "relabel.encoding=top-3-int4", "evaluate.ema_decay=0.9"),
    ],
    ids=["online", "every mix", "pruned"],
)
def test_any_student_that_is_cut_off_becomes_the_same(
    images: Path, tmp_path: Path, values: tuple[str, ...]
) -> None:
    """Catches labels of other epochs after a checkpoint: of the teachers beside it, or those used again."""
    store = with_images(images, tmp_path / "labelled")
    run, files = open_run(store, *values)
    worker = Worker(run, files, torch.device("cpu"))
    for unit in run.plan.units("relabel", "distilled"):
        worker.do(unit)
    shutil.copytree(store, tmp_path / "rough")
    undisturbed, _ = card_and_start(store, *values)
    assert stopped(tmp_path / "rough", *values).exists()
    assert card_and_start(tmp_path / "rough", *values) == (undisturbed, 1)


def flip(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[Path, random.Random], object]] = {
    "nothing": lambda path, rng: None,
    "flipped": flip,
    "truncated": lambda path, rng: path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)]),
    "emptied": lambda path, rng: path.write_bytes(b""),
    "lengthened": lambda path, rng: path.write_bytes(path.read_bytes() + rng.randbytes(64)),
    "replaced": lambda path, rng: path.write_bytes(rng.randbytes(path.stat().st_size)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_never_makes_another_student(
    images: Path, calm: bytes, tmp_path: Path, damage: str
) -> None:
    """Catches a student that goes on from weights that nobody trained, and one that fails because of them."""
    rng = random.Random(damage)
    for number in range(1 if damage in ("nothing", "emptied") else 3):
        store = without_students(images, tmp_path / f"run-{number}")
        DAMAGES[damage](stopped(store), rng)
        assert card_and_start(store) == (calm, 1 if damage == "nothing" else 0)


@pytest.mark.parametrize(
    ("earlier", "starts_at"),
    [
        ("evaluate.learning_rate=0.002", 0),
        ("relabel.encoding=int8", 0),
        ("relabel.epochs=7", 0),
        ("evaluate.num_students=3", 1),
        ("evaluate.image_sets=[distilled]", 1),
    ],
)
def test_the_checkpoint_of_another_config_is_used_if_it_is_the_same_student(
    images: Path, calm: bytes, tmp_path: Path, earlier: str, starts_at: int
) -> None:
    """Catches a student of the learning rate or labels of an earlier config, and one begun anew for nothing.

    The second happens when students are added to a run that was interrupted.
    """
    other = with_images(images, tmp_path / "other")
    run, files = open_run(other, earlier)
    worker = Worker(run, files, torch.device("cpu"))
    for unit in run.plan.units("relabel", "distilled"):
        worker.do(unit)
    checkpoint = stopped(other, earlier)
    store = without_students(images, tmp_path / "run")
    target = store / checkpoint.relative_to(other)
    target.parent.mkdir(parents=True)
    shutil.copy(checkpoint, target)
    assert card_and_start(store) == (calm, starts_at)
