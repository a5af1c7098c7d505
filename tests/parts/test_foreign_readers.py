"""Label and image parts read by DuckDB and pandas alone, by the queries that stand in docs/labels.md."""

import io
import re
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from PIL import Image

from prism_ray.config import RelabelConfig
from prism_ray.encodings import find_encoding
from prism_ray.parts.images import encode_images
from prism_ray.parts.labels import EpochLabels, encode_labels
from prism_ray.parts.views import Views, draw_views
from prism_ray.stages.formation import Slot
from prism_ray.stages.recover import RecoverUnit

DOCUMENT = (Path(__file__).parents[2] / "docs" / "labels.md").read_text()
MACROS, QUERY = re.findall(r"```sql\n(.*?)```", DOCUMENT, re.DOTALL)
(PROGRAM,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
TABLE = DOCUMENT.partition("| the logits of 10 classes |")[2].partition("\n\n")[0]
EXPRESSIONS = dict(re.findall(r"^\| `(\S+)` \| `(.*)` \|$", TABLE, re.MULTILINE))
SLOTS = tuple(Slot(label, ipc_index) for label in range(10) for ipc_index in range(2))
PIXELS = np.random.default_rng(1).integers(0, 256, (20, 3, 8, 8), dtype=np.uint8)
BY_INDEX = sorted(range(20), key=lambda number: (SLOTS[number].ipc_index, SLOTS[number].label))


def write_parts(
    folder: Path, encoding: str, mixup_alpha: float = 0.0
) -> tuple[Views, npt.NDArray[np.float16]]:
    """Write a batch, and labels of two epochs in two files; return what the first epoch has."""
    config = RelabelConfig(mixup_alpha=mixup_alpha)
    rng = np.random.default_rng(0)
    epochs = [
        EpochLabels(
            epoch, draw_views(SLOTS, epoch, 5, config, 8), (5 * rng.normal(size=(20, 10))).astype(np.float16)
        )
        for epoch in range(2)
    ]
    (folder / "labels").mkdir()
    for labels in epochs:
        data = encode_labels([labels], find_encoding(encoding))
        (folder / "labels" / f"part-g00000-e{labels.epoch:05d}-0.parquet").write_bytes(data)
    unit = RecoverUnit("distilled", "i00000-c00000", SLOTS, (5,) * 20, (("resnet",),), 7)
    (folder / "images").mkdir()
    data = encode_images(unit, PIXELS, [str(label) for label in range(10)])
    (folder / "images" / "part-i00000-c00000-0.parquet").write_bytes(data)
    return epochs[0].views, epochs[0].logits


def decoded(encoding: str, logits: npt.NDArray[np.float16]) -> npt.NDArray[np.float32]:
    """Return logits after encoding, as this package decodes them."""
    import pyarrow as pa

    found = find_encoding(encoding)
    table = pa.table(found.encode(logits), schema=pa.schema(found.fields(10)))
    return found.decode(table, 10).logits.astype(np.float32)


def assert_logits(found: Any, expected: npt.NDArray[np.float32]) -> None:
    """Fail if they differ by more than float16 rounds."""
    np.testing.assert_allclose(np.stack(found).astype(np.float32), expected, rtol=2.0**-10, atol=2.0**-10)


def assert_images(pngs: Any) -> None:
    for png, number in zip(pngs, BY_INDEX, strict=True):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))).transpose(2, 0, 1), PIXELS[number])


def test_the_document_has_every_encoding() -> None:
    """Catches an encoding that was added without a word on how others can read it."""
    values = ("fp16", "int8", "int4")
    assert list(EXPRESSIONS) == [*values, "top-3", *(f"top-3-{name}" for name in values[1:])]


@pytest.mark.parametrize("mixup_alpha", [0.0, 0.8])
@pytest.mark.parametrize("encoding", EXPRESSIONS)
def test_duckdb_decodes_every_encoding(
    encoding: str, mixup_alpha: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches columns that only this package can read, and a document that decodes them wrongly."""
    views, logits = write_parts(tmp_path, encoding, mixup_alpha)
    monkeypatch.chdir(tmp_path)
    with duckdb.connect() as connection:
        connection.execute(MACROS)
        rows = connection.execute(
            f"SELECT label, ipc_index, crop_top, flip, augment_seed, {EXPRESSIONS[encoding]} AS logits "
            "FROM 'labels/part-*.parquet' WHERE epoch = 0 ORDER BY ipc_index, label"
        ).fetchall()
        columns = {
            name for name, *_ in connection.execute("DESCRIBE FROM 'labels/part-*.parquet'").fetchall()
        }
    assert ("own_share" in columns) == (mixup_alpha > 0.0)
    assert [row[:5] for row in rows] == list(
        zip(
            *(getattr(views, name).tolist() for name in ("label", "ipc_index", "crop_top", "flip")),
            [0] * 20,
            strict=True,
        )
    )
    assert_logits([row[5] for row in rows], decoded(encoding, logits))


def test_duckdb_joins_images_and_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches image parts whose PNGs others cannot reach, or keys that do not fit those of the labels."""
    _, logits = write_parts(tmp_path, "int8")
    monkeypatch.chdir(tmp_path)
    with duckdb.connect() as connection:
        connection.execute(MACROS)
        rows = connection.execute(QUERY).fetchall()
    assert [row[:2] for row in rows] == [
        (SLOTS[number].ipc_index, SLOTS[number].label) for number in BY_INDEX
    ]
    assert_images(row[2] for row in rows)
    assert_logits([row[-1] for row in rows], decoded("int8", logits))


def test_pandas_and_numpy_join_and_decode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches float16 columns or lists that pandas reads as something else, and a program that is wrong."""
    _, logits = write_parts(tmp_path, "int8")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(PROGRAM, names)
    assert isinstance(names["views"], pd.DataFrame)
    assert_images(cell["bytes"] for cell in names["views"].image)
    assert_logits(names["logits"], decoded("int8", logits))
