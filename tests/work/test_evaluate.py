"""Students of one worker: labels from the store or from the teachers, and every way to make labels small."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from prism_ray.config import load_config
from prism_ray.data import check_config, open_data
from prism_ray.errors import ConfigError
from prism_ray.parts.labels import LabelForm, LabelReader
from prism_ray.run import Run, new_run
from prism_ray.stages import stage_names
from prism_ray.store import StoreFiles, read_commit
from prism_ray.work.worker import Worker
from tests.stores import copy_store

DIGITS = Path(__file__).parents[2] / "jobs" / "digits-ipc10.yaml"
QUICK = (
    "teachers.pool=[{name: resnet, arch: 'timm:test_resnet'}, "
    "{name: bypass, arch: 'timm:test_byobnet', stem: small}]",
    "teachers.squeeze.epochs=1",
    "recover.ipc=2",
    "recover.images_per_batch=5",
    "recover.iterations=2",
    "recover.iterations_step=0",
    "relabel.images_per_group=10",
    "relabel.epochs=6",
    "relabel.epochs_per_unit=2",
    "evaluate.batch_size=10",
    "evaluate.num_students=1",
)


def open_run(store: Path, *values: str) -> tuple[Run, StoreFiles]:
    config = load_config(DIGITS, [*QUICK, *values], store=str(store))
    return new_run(config, open_data(config.data).facts(), num_threads=1), StoreFiles(config.store)


def students_of(store: Path, *values: str) -> list[dict[str, Any]]:
    """Do what is missing in a store; return the cards of its students."""
    run, files = open_run(store, *values)
    worker = Worker(run, files, torch.device("cpu"))
    for stage in stage_names():
        for unit in run.plan.units(stage):
            if not files.exists(f"commits/{unit.id}.json"):
                worker.do(unit)
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


def test_students_with_teachers_beside_them_become_the_same(images: Path, tmp_path: Path) -> None:
    """Catches online labels of other views, groups or numbers than those that are stored."""
    store = with_images(images, tmp_path / "run")
    run, files = open_run(store, "relabel.mode=online")
    assert run.plan.num_units("relabel") == 0
    (unit, *_) = run.plan.units("evaluate")
    assert run.plan.teachers_of(unit) == ("resnet", "bypass")
    online = students_of(store, "relabel.mode=online")
    assert not list((store / "commits" / "relabel").rglob("*.json"))
    assert online == students_of(images)
    assert set(read_commit(files, unit.id).weights) == {"resnet", "bypass"}


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


def test_one_set_of_labels_serves_every_batch_size(images: Path, tmp_path: Path) -> None:
    """Catches labels with the key of a batch: other batch sizes would need labels of their own."""
    store = tmp_path / "run"
    shutil.copytree(images, store)
    before = {path: path.read_bytes() for path in store.glob("labels/**/*.parquet")}
    assert before
    sizes = "{student: {}, five: {batch_size: 5}, seven: {batch_size: 7}, all: {batch_size: 100}}"
    cards = students_of(store, f"evaluations={sizes}")
    assert {path: path.read_bytes() for path in store.glob("labels/**/*.parquet")} == before
    losses = {card["unit"]: card["train_loss"] for card in cards if "/distilled/" in card["unit"]}
    assert len(set(losses.values())) == len(losses) == 4
