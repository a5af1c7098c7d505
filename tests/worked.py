"""Stores made by one worker in the process of the test: teachers, images, labels and students, no Ray."""

from pathlib import Path

import torch

from prism_ray.config import load_config
from prism_ray.data import open_data
from prism_ray.run import Run, new_run, save_run
from prism_ray.stages import stage_names
from prism_ray.store import StoreFiles
from prism_ray.work.worker import Worker

DIGITS = Path(__file__).parents[1] / "jobs" / "digits-ipc10.yaml"
QUICK = (
    "teachers.pool=[{name: resnet, arch: 'timm:test_resnet'}]",
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


def do_missing(run: Run, files: StoreFiles, until: str = "evaluate") -> None:
    """Do the units of a run that have no commit, up to a stage, in this process."""
    worker = Worker(run, files, torch.device("cpu"))
    names = stage_names()
    for stage in names[: names.index(until) + 1]:
        for unit in run.plan.units(stage):
            if not files.exists(f"commits/{unit.id}.json"):
                worker.do(unit)


def work(location: str | Path, *values: str, until: str = "evaluate") -> tuple[StoreFiles, Run]:
    """Do what is missing of the small digits job, up to a stage; `values` are as for `--set`."""
    config = load_config(DIGITS, [*QUICK, *values], store=str(location))
    files = StoreFiles(config.store_url)
    run = new_run(config.with_store(files.location), open_data(config.data).facts(), num_threads=1)
    run = save_run(files, run)
    do_missing(run, files, until)
    return files, run
