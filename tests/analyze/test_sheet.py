"""Contact sheets."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prism_ray.analyze.initial import make_initial_images, read_slots
from prism_ray.analyze.sheet import chosen_labels, contact_sheet
from prism_ray.config import load_config
from prism_ray.data import index_folder, open_data
from prism_ray.errors import UsageError
from prism_ray.parts.images import encode_images
from prism_ray.run import new_run, read_progress, save_run
from prism_ray.stages.formation import Slot
from prism_ray.stages.recover import batch, image_part
from prism_ray.store import Commit, StoreFiles, layout, write_commit, write_part
from tests.filled import finish
from tests.printed import small_digits_run
from tests.worked import DIGITS, QUICK, work


def test_every_image_stands_in_its_row_and_column(digits_config: Path, tmp_path: Path) -> None:
    """Catches rows and columns exchanged, images of another class, and a sheet that hides missing images."""
    files = StoreFiles(str(tmp_path / "run"))
    config = load_config(digits_config, ["recover.ipc=2", "recover.ipc_indices_per_batch=1"], files.location)
    run = save_run(files, new_run(config, open_data(config.data).facts(), 1))
    with pytest.raises(
        UsageError, match="no finished batch of images yet; make them with `prism-ray distill"
    ):
        contact_sheet(files, run, read_progress(files, run), range(10), range(2))
    unit = batch(run.plan, "distilled", 1)  # IPC index 1 only
    grey = np.array([20 * slot.label + 5 for slot in unit.slots], dtype=np.uint8)
    images = np.broadcast_to(grey[:, None, None, None], (10, 1, 32, 32))
    data = encode_images(unit, images, run.facts.class_names)
    part = write_part(files, lambda attempt: image_part(unit, attempt), data, 10)
    write_commit(files, Commit(unit.id, run.fingerprint_of(unit.id), (part,), {}, 1.0, "host", "now"))

    png = contact_sheet(files, run, read_progress(files, run), range(3), range(2))[0]
    sheet = np.asarray(Image.open(io.BytesIO(png)))
    for label in range(3):
        middle = sheet[22 + label * 68 + 32]  # a title of 22, cells of 64 and gaps of 4
        assert tuple(middle[100 + 32]) == (211, 211, 211)  # IPC index 0 is missing: light grey
        assert tuple(middle[100 + 68 + 32]) == (20 * label + 5,) * 3
    assert sheet.shape[0] == 22 + 3 * 68 + 4

    assert chosen_labels(run, ["7", "2", "7"]) == (7, 2)
    png = contact_sheet(files, run, read_progress(files, run), (7, 2), range(2), ["distilled"])[0]
    sheet = np.asarray(Image.open(io.BytesIO(png)))
    assert [sheet[22 + row * 68 + 32, 100 + 68 + 32, 0] for row in range(2)] == [145, 45]
    with pytest.raises(UsageError, match="number from 0 to 9"):
        chosen_labels(run, ["10"])
    with pytest.raises(UsageError, match="did you mean 'distilled'"):
        contact_sheet(files, run, read_progress(files, run), (7,), range(2), ["distiled"])


def test_indices_are_chosen(digits_config: Path, small_overrides: tuple[str, ...], tmp_path: Path) -> None:
    """Catches columns of other indices, and an index that nothing has, shown as an empty sheet."""
    files, run = small_digits_run(digits_config, str(tmp_path / "run"), small_overrides)
    finish(files, run)
    progress = read_progress(files, run)
    widths = [
        Image.open(io.BytesIO(contact_sheet(files, run, progress, (0,), some, ["distilled"])[0])).width
        for some in ((0, 1, 2), (3,))
    ]
    assert widths[0] - widths[1] == 2 * 68
    with pytest.raises(UsageError, match="--ipc-index 4 is too large: distilled has 4 images per class"):
        contact_sheet(files, run, progress, (0,), (1, 4), ["distilled"])


def test_initial_images_stand_beside_theirs(tmp_path: Path) -> None:
    """Catches the initial image of another slot, and one of an image set that started from noise."""
    sets = (
        "image_sets={a: {init: random}, b: {init: real}, c: {init: noise}, "
        "random-real: {method: random-real}}"
    )
    files, run = work(tmp_path / "run", sets, "recover.iterations=1", until="recover")
    progress = read_progress(files, run)
    for name in ("a", "b"):
        png, notes = contact_sheet(files, run, progress, (3, 5), (1,), [name], with_initial=True)
        assert notes == []
        sheet = np.asarray(Image.open(io.BytesIO(png)).convert("L")).astype(int)
        slots = [Slot(3, 1), Slot(5, 1)]
        initial = make_initial_images(files, run, name, slots)
        made = read_slots(files, run, progress, name, slots)
        for row, slot in enumerate(slots):
            top = 22 + 68 * row
            for left, image in ((100, initial[row]), (165, made[slot])):
                cell = sheet[top : top + 64 : 2, left : left + 64 : 2]  # 32 pixels, doubled
                np.testing.assert_array_equal(cell, image[0])
    png, notes = contact_sheet(files, run, progress, (3,), (0, 1), ["c", "random-real"], with_initial=True)
    assert notes == ["c: initial images are not shown: it started from noise"]


def test_real_images_that_are_gone_are_said(tmp_path: Path) -> None:
    """Catches a sheet that fails because the data are elsewhere."""
    folder = tmp_path / "pictures"
    for label in range(2):
        for number in range(8):
            path = folder / f"class{label}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), (30 * number, 80 * label, 7)).save(path)
    values = ("data.source=image-folder", f"data.path={folder}", "teachers.check_accuracy=false")
    index = index_folder(load_config(DIGITS, [*QUICK, *values]).data)
    StoreFiles(str(tmp_path / "run")).create(layout.DATA_INDEX, index.to_parquet())
    files, run = work(tmp_path / "run", *values, "image_sets={a: {init: real}}", until="recover")
    shutil.rmtree(folder)
    progress = read_progress(files, run)
    png, notes = contact_sheet(files, run, progress, (0, 1), (0,), with_initial=True)
    assert len(notes) == 1
    assert notes[0].startswith("a: initial images are not shown: ")
    assert str(folder) in notes[0]
    assert Image.open(io.BytesIO(png)).height == 22 + 2 * 68 + 4
