"""docs/library.md, as somebody without the code would use it: its loop trains, its views are evaluate's."""

import re
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import prism_ray
from prism_ray.config import load_config
from prism_ray.data import index_folder
from prism_ray.parts.images import decode_png
from prism_ray.store import StoreFiles, layout
from tests.worked import DIGITS, QUICK, work

DOCUMENT = Path(__file__).parents[2] / "docs" / "library.md"
NUM_STUDENTS = 2
# One image per class: an epoch is one batch, so the order of the images cannot make a difference.
ONE_PER_CLASS = (
    "teachers.squeeze.epochs=3",
    "recover.ipc=1",
    "recover.images_per_batch=10",
    "relabel.epochs=60",
    "relabel.epochs_per_unit=60",
    "relabel.flip=false",
    "evaluate.batch_size=50",
    "evaluate.image_sets=[random-real]",
    f"evaluate.num_students={NUM_STUDENTS}",
)


def code(beginning: str) -> str:
    """Return the only block of the document with a text."""
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    (found,) = (block for block in blocks if beginning in block)
    return str(found)


@pytest.fixture
def double() -> Iterator[None]:
    """Numbers of 64 bits, in this package and in the document's code."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_the_loop_reaches_what_evaluate_reports(tmp_path: Path, double: None) -> None:
    """Catches a document that leaves out what students see: the accuracy of its loop is then another.

    Students of one image per class differ by 4 points, so each of the loop begins with the first weights of
    one of the run's. Numbers are float64: in float32, rounding alone makes differences of 2 points after 60
    epochs, because the images of a batch come in another order.
    """
    loop = code("def train_and_test")
    assert len([line for line in loop.splitlines() if line.strip()]) <= 25
    names: dict[str, Any] = {}
    exec(loop, names)
    work(tmp_path / "run", *ONE_PER_CLASS)
    students = prism_ray.open_run(tmp_path / "run").students().to_pylist()
    assert len(students) == NUM_STUDENTS
    reached = [names["train_and_test"](tmp_path / "run", "random-real", each["seed"]) for each in students]
    reported = [each["accuracy"] for each in students]
    assert statistics.fmean(reported) > 0.2  # chance is 0.1
    assert statistics.fmean(reached) == pytest.approx(statistics.fmean(reported), abs=0.01)


@pytest.mark.parametrize(
    "values",
    [
        ("relabel.mixup_alpha=0.8",),
        ("relabel.patch_shuffle=true", "relabel.crop_scale=[0.08, 1.0]"),
        ("data.image_size=33",),
    ],
    ids=["mixup", "swaps", "odd size"],
)
def test_the_views_of_the_document_are_those_of_students(tmp_path: Path, values: tuple[str, ...]) -> None:
    """Catches a specification of a view that leads to other pixels: order, halves, box or interpolation."""
    work(tmp_path / "run", *values, until="relabel")
    names: dict[str, Any] = {}
    exec(code("def shown"), names)
    run = prism_ray.open_run(tmp_path / "run")
    data = prism_ray.load(tmp_path / "run")
    size = run.config["data"]["image_size"]
    images = {
        (row["label"], row["ipc_index"]): torch.from_numpy(decode_png(row["image"]["bytes"], 1, size).copy())
        for row in run.images().to_pylist()
    }
    for epoch in (0, 3):
        data.set_epoch(epoch)
        views = {(row["label"], row["ipc_index"]): row for row in run.labels(epoch).to_pylist()}
        assert any(view["box_height"] for view in views.values())
        for index in range(len(data)):
            image, label, soft_label, _ = data[index]
            view = views[label, index % data.ipc]
            partner = view["partner_label"], view["partner_ipc_index"]
            made = names["shown"](
                images[label, index % data.ipc],
                view,
                images[partner],
                views[partner],
                data.mean,
                data.std,
                data.input_size,
            )
            assert torch.allclose(made, image, atol=1e-5), (epoch, index)
            assert np.array_equal(np.float32(view["logits"]), soft_label.numpy())


def test_real_images_of_a_folder_are_made_as_the_document_says(tmp_path: Path) -> None:
    """Catches test images that a reader resizes and cuts in another way."""
    rng = np.random.default_rng(0)
    for label in range(2):
        (tmp_path / "data" / f"class {label}").mkdir(parents=True)
        for number in range(8):
            pixels = rng.integers(0, 256, (40 + 7 * number, 70 - 3 * number, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / f"class {label}" / f"{number}.png")
    values = ("data.source=image-folder", f"data.path={tmp_path / 'data'}", "teachers.check_accuracy=false")
    config = load_config(DIGITS, [*QUICK, *values], store=str(tmp_path / "run"))
    index = index_folder(config.data)
    StoreFiles(str(tmp_path / "run")).create(layout.DATA_INDEX, index.to_parquet())
    work(tmp_path / "run", *values, until="relabel")
    data = prism_ray.load(tmp_path / "run", "random-real", normalise=False).test_images()
    assert len(data) == len(index.paths["test"]) > 0
    size = config.data.image_size
    for (image, label), path in zip(data, index.paths["test"], strict=True):
        with Image.open(tmp_path / "data" / path) as opened:
            side = min(opened.size) * size / round(8 * size / 7)
            left, top = (opened.width - side) / 2, (opened.height - side) / 2
            box = (left, top, left + side, top + side)
            made = opened.convert("RGB").resize((size, size), Image.Resampling.BILINEAR, box=box)
        assert torch.equal(image, torch.from_numpy(np.array(made)).permute(2, 0, 1) / 255)
        assert path.startswith(f"class {label}/")
