"""The card of an exported dataset: metadata that the Hub and `datasets` read, and code that works."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner

import prism_ray
from prism_ray.cli import main
from prism_ray.run import new_run
from prism_ray.store import StoreFiles
from tests.filled import finish
from tests.plans import config_of, facts_of
from tests.worked import work

datasets = pytest.importorskip("datasets")


def export(store: Path, target: Path, *options: str) -> str:
    words = ["export", str(store), "--to", str(target), "--as", "dataset", *options]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize(
    "values",
    [
        ("relabel.patch_shuffle=true",),
        ("relabel.encoding=int8", "relabel.mixup_alpha=0.8"),
        ("relabel.encoding=int4",),
        ("relabel.encoding=top-3-int4", "relabel.prune_ratio=0.5", "store.image_format=png"),
        ("relabel.encoding=top-3",),
    ],
    ids=lambda values: values[0].partition("=")[2],
)
def test_the_code_of_the_card_shows_what_students_see(tmp_path: Path, values: tuple[str, ...]) -> None:
    """Catches a card whose reader decodes other logits or makes other pixels than evaluate."""
    work(tmp_path / "run", *values, until="relabel")
    assert "with the soft labels of" in export(tmp_path / "run", tmp_path / "out")
    cache = str(tmp_path / "cache")
    images = datasets.load_dataset(str(tmp_path / "out"), cache_dir=cache)["train"]
    views = datasets.load_dataset(str(tmp_path / "out"), "labels", cache_dir=cache)["train"]
    card = (tmp_path / "out" / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    pixels = {
        (row["label"], row["ipc_index"]): torch.from_numpy(np.array(row["image"]))[None] for row in images
    }
    data = prism_ray.load(tmp_path / "run")
    data.set_epoch(2)
    rows = {(row["label"], row["ipc_index"]): row for row in views if row["epoch"] == 2}
    assert len(rows) == len(data) == 20
    for image, label, soft_label, view in data:
        row = rows[label, view.ipc_index]
        partner = row["partner_label"], row["partner_ipc_index"]
        made = names["shown"](pixels[label, view.ipc_index], row, pixels[partner], rows[partner])
        assert torch.allclose(made, image, atol=1e-5)
        assert np.allclose(names["logits_of"](row), soft_label.numpy(), atol=1e-3)


def test_features_and_metadata_are_what_the_library_reads(tmp_path: Path) -> None:
    """Catches class names that are lost or become numbers, and metadata that differ from the files."""
    odd = ("yes", "a: b", "#", "猫", "1.0", "\x07'\"", "null")
    facts = replace(facts_of(7), class_names=odd, channels=1)
    changes = {"data__image_size": 8, "relabel__epochs": 2, "relabel__encoding": "fp16"}
    files = StoreFiles(str(tmp_path / "run"))
    finish(files, new_run(config_of(1, **changes), facts, 1))
    export(tmp_path / "run", tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    metadata = yaml.safe_load(card.split("---\n")[1])
    assert [config["config_name"] for config in metadata["configs"]] == ["default", "labels"]
    assert metadata["task_categories"] == ["image-classification"]
    cache = str(tmp_path / "cache")
    for config, names in (("default", ["label"]), ("labels", ["label", "partner_label"])):
        found = datasets.load_dataset(str(tmp_path / "out"), config, cache_dir=cache)["train"]
        assert all(found.features[name].names == list(odd) for name in names)
        info = next(each for each in metadata["dataset_info"] if each["config_name"] == config)
        assert datasets.Features._from_yaml_list(info["features"]) == found.features
    assert isinstance(found.features["logits"], datasets.List)
    assert found.features["logits"].length == 7


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    """Catches a card that describes labels which the dataset does not have."""
    work(tmp_path / "run", "relabel.mode=online", until="recover")
    said = export(tmp_path / "run", tmp_path / "online")
    assert "soft labels" not in said
    assert "stored no soft labels (`relabel.mode: online`)" in (tmp_path / "online" / "README.md").read_text()
    files = StoreFiles(str(tmp_path / "filled"))
    facts = replace(facts_of(3), channels=1)
    finish(files, new_run(config_of(1, data__image_size=8, relabel__epochs=2), facts, 1))
    export(tmp_path / "filled", tmp_path / "without", "--without-labels")
    card = (tmp_path / "without" / "README.md").read_text()
    assert "were left out of this export" in card
    assert "config_name: labels" not in card
    assert not (tmp_path / "without" / "labels").exists()
