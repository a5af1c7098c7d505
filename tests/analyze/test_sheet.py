"""Contact sheets."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prism_ray.analyze.sheet import contact_sheet
from prism_ray.config import load_config
from prism_ray.data import open_data
from prism_ray.errors import UsageError
from prism_ray.parts.images import encode_images
from prism_ray.run import new_run, read_progress, save_run
from prism_ray.stages.recover import batch, image_part
from prism_ray.store import Commit, StoreFiles, write_commit, write_part


def test_every_image_stands_in_its_row_and_column(digits_config: Path, tmp_path: Path) -> None:
    """Catches rows and columns exchanged, images of another class, and a sheet that hides missing images."""
    files = StoreFiles(str(tmp_path / "run"))
    config = load_config(digits_config, ["recover.ipc=2", "recover.ipc_indices_per_batch=1"], files.location)
    run = save_run(files, new_run(config, open_data(config.data).facts(), 1))
    with pytest.raises(
        UsageError, match="no finished batch of images yet; make them with `prism-ray distill"
    ):
        contact_sheet(files, run, read_progress(files, run), 10, 10)
    unit = batch(run.plan, "distilled", 1)  # IPC index 1 only
    grey = np.array([20 * slot.label + 5 for slot in unit.slots], dtype=np.uint8)
    images = np.broadcast_to(grey[:, None, None, None], (10, 1, 32, 32))
    data = encode_images(unit, images, run.facts.class_names)
    part = write_part(files, lambda attempt: image_part(unit, attempt), data, 10)
    write_commit(files, Commit(unit.id, run.fingerprint_of(unit.id), (part,), {}, 1.0, "host", "now"))

    png = contact_sheet(files, run, read_progress(files, run), max_classes=3, max_ipc=10)
    sheet = np.asarray(Image.open(io.BytesIO(png)))
    for label in range(3):
        middle = sheet[22 + label * 68 + 32]  # a title of 22, cells of 64 and gaps of 4
        assert tuple(middle[100 + 32]) == (211, 211, 211)  # IPC index 0 is missing: light grey
        assert tuple(middle[100 + 68 + 32]) == (20 * label + 5,) * 3
    assert sheet.shape[0] == 22 + 3 * 68 + 4
