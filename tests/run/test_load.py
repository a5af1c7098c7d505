"""The images of a store in Python, as README shows it."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner

import prism_ray
from prism_ray.cli import main
from prism_ray.errors import UsageError
from prism_ray.run import Run, new_run
from prism_ray.store import StoreFiles
from tests.filled import finish
from tests.plans import config_of, facts_of

datasets = pytest.importorskip("datasets")

README = Path(__file__).parents[2] / "README.md"
SETS: dict[str, Any] = {"distilled": {}, "random-real": {"method": "random-real"}, "sre": {"method": "sre2l"}}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StoreFiles:
    """A finished run of 3 classes and 4 images per class in the folder that README names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    files = StoreFiles("runs/digits")
    changes = {"data__image_size": 8, "relabel__epochs": 2, "image_sets": SETS}
    finish(files, new_run(config_of(1, **changes), replace(facts_of(3), channels=1), 1))
    return files


def run(*arguments: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("commands", [(), ("compact",), ("compact", "gc --older-than 0")])
def test_the_code_of_the_readme_works_whatever_files_there_are(
    store: StoreFiles, commands: tuple[str, ...]
) -> None:
    """Catches a line in README that finds no file after compact and gc, or some images twice."""
    for command in commands:
        name, *options = command.split()
        run(name, *options, store.location)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (code,) = (block for block in blocks if "prism_ray.open_run" in block)
    found: dict[str, Any] = {}
    exec(code, found)
    dataset = found["dataset"]
    assert dataset.num_rows == 12
    assert dataset.features["label"].names == ["class 0", "class 1", "class 2"]
    assert sorted(zip(dataset["label"], dataset["ipc_index"], strict=True)) == [
        (label, index) for label in range(3) for index in range(4)
    ]
    assert dataset[0]["image"].size == (8, 8)
    assert bool(list(Path("runs/digits/images").glob("part-*"))) == (len(commands) < 2)


def test_the_exported_dataset_of_the_readme_is_loaded(store: StoreFiles, tmp_path: Path) -> None:
    """Catches the way without this package: a folder that `datasets` does not read."""
    text = README.read_text(encoding="utf-8")
    (command,) = re.findall(r"^    prism-ray (export \S+ --to \S+ --as dataset)$", text, re.MULTILINE)
    run(*command.split())
    (loaded,) = re.findall(r"^    (datasets\.load_dataset\(.*\))$", text, re.MULTILINE)
    assert eval(loaded, {"datasets": datasets})["train"].num_rows == 12


@pytest.mark.parametrize("image_set", SETS)
def test_every_image_set_is_loaded(store: StoreFiles, image_set: str) -> None:
    """Catches a function that knows only the set whose folder has no name."""
    table = prism_ray.open_run(Path("runs/digits")).images(image_set)
    assert isinstance(table, pa.Table)
    assert table.num_rows == 12
    assert table.column_names[:3] == ["image", "label", "ipc_index"]


def test_what_cannot_be_loaded_is_said(store: StoreFiles, tmp_path: Path) -> None:
    """Catches a table of half of the images, or an error of a file for a wrong name."""
    with pytest.raises(UsageError, match="has no image set 'distiled'; did you mean 'distilled'"):
        prism_ray.open_run("runs/digits").images("distiled")
    with pytest.raises(UsageError, match="contains no run"):
        prism_ray.open_run(tmp_path / "nothing")
    next((tmp_path / "runs/digits/commits/recover/sre").glob("*.json")).unlink()
    with pytest.raises(UsageError, match="the image set 'sre' is not finished, 3 of 4 batches are done"):
        prism_ray.open_run("runs/digits").images("sre")


def test_a_store_behind_a_url_is_loaded_too(files: StoreFiles, make_run: Callable[..., Run]) -> None:
    """Catches a store behind a URL that is read as a local path."""
    finish(files, make_run())
    assert prism_ray.open_run(files.location).images().num_rows == 6
