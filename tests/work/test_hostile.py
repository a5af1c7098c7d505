"""What a unit builds on, forged so that its commit vouches for it: an error names it."""

import hashlib
import io
import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner

from prism_ray.cli import main
from prism_ray.config import load_config
from prism_ray.data import open_data
from prism_ray.errors import StoreError
from prism_ray.run import Run, new_run, save_run
from prism_ray.stages import stage_names
from prism_ray.store import StoreFiles, layout
from prism_ray.work.worker import Worker

CPU = torch.device("cpu")
DIGITS = Path(__file__).parents[2] / "jobs" / "digits-ipc10.yaml"
QUICK = (
    "teachers.pool=[{name: resnet, arch: 'timm:test_resnet'}]",
    "teachers.squeeze.epochs=1",
    "recover.ipc=1",
    "recover.images_per_batch=5",
    "recover.iterations=2",
    "recover.iterations_step=0",
    "image_sets={edc: {method: edc}, rded: {method: rded}, g: {method: g-vbsm}}",
    "collect.images_per_class=5",
    "collect.rded_images_per_class=5",
    "collect.rded_patches_per_side=1",
    "relabel.epochs=2",
    "relabel.epochs_per_unit=2",
    "relabel.images_per_group=5",
    "evaluate.num_students=1",
    "evaluate.batch_size=5",
)
IMAGES, LABELS = "recover/edc/j0000000", "relabel/edc/g00000-e00000"
STUDENT, MEASURE = "evaluate/edc/student/s000", "measure/edc"
SCORES, STATISTICS = "collect/rded/resnet/c00000", "collect/statistics/resnet/c00000"


def open_run(store: Path) -> tuple[Run, StoreFiles]:
    config = load_config(DIGITS, QUICK, store=str(store))
    return new_run(config, open_data(config.data).facts(), num_threads=1), StoreFiles(config.store_url)


def do(store: Path, unit_id: str) -> None:
    """Do a unit again, on what the store has."""
    run, files = open_run(store)
    unit = next(unit for stage in stage_names() for unit in run.plan.units(stage) if unit.id == unit_id)
    Worker(run, files, CPU).do(unit)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    store = tmp_path_factory.mktemp("finished")
    run, files = open_run(store)
    save_run(files, run)
    worker = Worker(run, files, CPU)
    for stage in stage_names():
        for unit in run.plan.units(stage):
            worker.do(unit)
    return store


def forge(store: Path, unit_id: str, change: Callable[[bytes], bytes], place: int = 0) -> None:
    """Change a file of a unit, and let its commit vouch for what it has become."""
    path = store / layout.commit(unit_id)
    commit = json.loads(path.read_text())
    part = commit["files"][place]
    data = change((store / part["name"]).read_bytes())
    (store / part["name"]).write_bytes(data)
    part |= {"num_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    path.write_text(json.dumps(commit))


def rows_with(change: Callable[[list[dict[str, Any]]], object]) -> Callable[[bytes], bytes]:
    def changed(data: bytes) -> bytes:
        table = pq.read_table(io.BytesIO(data))
        rows = table.to_pylist()
        change(rows)
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows, table.schema), sink, use_dictionary=False)
        return sink.getvalue()

    return changed


def tensors_with(name: str, value: float) -> Callable[[bytes], bytes]:
    def changed(data: bytes) -> bytes:
        tensors = safetensors.torch.load(data)
        next(values for key, values in sorted(tensors.items()) if key.endswith(name)).fill_(value)
        return safetensors.torch.save(tensors)

    return changed


def without_a_layer(data: bytes) -> bytes:
    """Drop a convolution from the totals."""
    tensors = safetensors.torch.load(data)
    layer = min(key for key in tensors if key.endswith("patch_count")).rpartition("/")[0]
    return safetensors.torch.save({k: v for k, v in tensors.items() if k.rpartition("/")[0] != layer})


def card_with(**changes: Any) -> Callable[[bytes], bytes]:
    return lambda data: json.dumps(json.loads(data) | changes).encode()


def nan_logits(rows: list[dict[str, Any]]) -> None:
    rows[3]["logits"] = [np.float16("nan")] * 10


SMALLER = {"mean": [0.0] * 3, "std": [1.0] * 3, "size": 10**6}
FORGERIES: dict[str, tuple[str, int, Callable[[bytes], bytes], str, str]] = {
    # whose file, which, what becomes of it; the unit that builds on it, its error
    "NaN logits": (LABELS, 0, rows_with(nan_logits), STUDENT, "a logit is not finite"),
    "a crop outside": (
        LABELS,
        0,
        rows_with(lambda rows: rows[0].update(crop_left=30)),
        STUDENT,
        "a view has a crop that is not inside its image",
    ),
    "a box outside": (
        LABELS,
        0,
        rows_with(lambda rows: rows[0].update(box_top=-5)),
        STUDENT,
        "a view has a box that is not inside its image",
    ),
    "a negative seed": (
        LABELS,
        0,
        rows_with(lambda rows: rows[0].update(augment_seed=-5)),
        STUDENT,
        "a view has a negative seed",
    ),
    "a view twice": (
        LABELS,
        0,
        rows_with(lambda rows: rows[1].update(label=rows[0]["label"])),
        STUDENT,
        "an image has two views",
    ),
    "no view": (LABELS, 0, rows_with(lambda rows: rows.pop()), STUDENT, "9 rows, not 10"),
    "a view without": (
        LABELS,
        0,
        rows_with(lambda rows: rows[0].update(flip=None)),
        STUDENT,
        "has missing values",
    ),
    "labels cut": (LABELS, 0, lambda data: data[:-20], STUDENT, "not a Parquet file"),
    "an image twice": (
        IMAGES,
        0,
        rows_with(lambda rows: rows[1].update(label=rows[0]["label"])),
        LABELS,
        "its batches do not contain the images of group 0",
    ),
    "an image twice, measured": (
        IMAGES,
        0,
        rows_with(lambda rows: rows[1].update(label=rows[0]["label"])),
        MEASURE,
        "9 different images in 10 rows instead of 10",
    ),
    "no image": (IMAGES, 0, rows_with(lambda rows: rows.pop()), LABELS, "4 rows, not 5"),
    "images cut": (IMAGES, 0, lambda data: data[:100], MEASURE, "not a Parquet file"),
    "scores of NaN": (SCORES, 0, tensors_with("/loss", float("nan")), "recover/rded/i00000-c00000", SCORES),
    "a patch elsewhere": (SCORES, 0, tensors_with("/side", 99), "recover/rded/i00000-c00000", SCORES),
    "a bad image": (SCORES, 0, tensors_with("/place", 10**9), "recover/rded/i00000-c00000", SCORES),
    "scores cut": (SCORES, 0, lambda data: data[:-8], "recover/rded/i00000-c00000", SCORES),
    "totals of NaN": (STATISTICS, 0, tensors_with("/sum", float("nan")), IMAGES, STATISTICS),
    "a count of 0": (STATISTICS, 0, tensors_with("/count", 0), IMAGES, STATISTICS),
    "a layer less": (STATISTICS, 0, without_a_layer, "recover/g/j0000000", "no statistics of layer"),
    "classes of NaN": (STATISTICS, 1, tensors_with("/mean", float("nan")), IMAGES, STATISTICS),
    "a negative variance": (STATISTICS, 1, tensors_with("/var", -1.0), IMAGES, STATISTICS),
    "classes cut": (STATISTICS, 1, lambda data: data[:-8], IMAGES, STATISTICS),
    "weights of NaN": ("squeeze/resnet", 0, tensors_with("weight", float("nan")), MEASURE, "not finite"),
    "weights cut": (
        "squeeze/resnet",
        0,
        lambda data: data[:-8],
        MEASURE,
        "the result of squeeze/resnet cannot be used",
    ),
    "another network": (
        "squeeze/resnet",
        1,
        card_with(network={"arch": "timm:resnet50"}),
        MEASURE,
        "its card is not of this run: network: it is not timm:test_resnet",
    ),
    "a large input": ("squeeze/resnet", 1, card_with(preprocessing=SMALLER), MEASURE, "preprocessing.size"),
    "many outputs": ("squeeze/resnet", 1, card_with(num_classes=10**12), MEASURE, "has the shape"),
}


def test_the_units_of_these_tests_can_be_done_again(finished: Path) -> None:
    """Catches every unit below failing without a forgery."""
    for unit_id in {unit_id for *_, unit_id, _ in FORGERIES.values()}:
        do(finished, unit_id)


@pytest.mark.parametrize(
    ("whose", "place", "change", "unit_id", "problem"), FORGERIES.values(), ids=FORGERIES.keys()
)
def test_a_forged_file_ends_the_unit_that_builds_on_it(
    finished: Path,
    tmp_path: Path,
    whose: str,
    place: int,
    change: Callable[[bytes], bytes],
    unit_id: str,
    problem: str,
) -> None:
    """Catches NaN, wrong rows, patches outside and other networks that are used, or end in a KeyError.

    And an error whose remedy leaves the fault where it is.
    """
    store = tmp_path / "store"
    shutil.copytree(finished, store)
    forge(store, whose, change, place)
    with pytest.raises(StoreError) as caught:
        do(store, unit_id)
    message = str(caught.value)
    assert problem in message
    remedy, again = re.findall(r"`prism-ray ([^`]+)`", message)
    assert again == f"distill {store}/config.yaml --store {store}"
    result = CliRunner().invoke(main, shlex.split(remedy))
    assert isinstance(result.exception, SystemExit | None)
    _, files = open_run(store)
    assert not files.exists(layout.commit(whose))
    do(store, whose)
    do(store, unit_id)
