"""What is known before a cluster starts: `plan` and `distill` refuse the same things in the same words."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from prism_ray.cli import main
from prism_ray.config import load_config
from prism_ray.errors import DataError, UsageError
from prism_ray.run import match
from prism_ray.run.preflight import check_ready, free_bytes, missing_bytes
from prism_ray.store import StoreFiles
from tests.run.test_match import begin, config_of, folder

__all__ = ["folder"]


def said(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(word) for word in words])
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (["teachers.pool.0.arch=timm:test_resnett"], "teachers.pool.0.arch = 'timm:test_resnett'"),
        (["evaluate.student.arch=timm:no_such_net"], "evaluate.student.arch"),
        (["teachers.pool.0.arch=torchvision:resnet18@NO_SUCH_TAG"], "NO_SUCH_TAG"),
        (["data.image_size=1"], "data.image_size"),
        (["recover.ipc=1000"], "recover.ipc = 1000"),
    ],
)
def test_plan_refuses_what_distill_refuses(
    digits_config: Path, tmp_path: Path, settings: list[str], problem: str
) -> None:
    """A plan that ends with "Next: prism-ray distill" and exit code 0, and a distill that ends with 2."""
    options = [word for setting in settings for word in ("--set", setting)]
    code, output = said("plan", digits_config, "--store", tmp_path / "run", *options)
    assert code == 2, output
    assert problem in output
    assert "Next:" not in output
    assert not (tmp_path / "run").exists()


def test_a_file_in_place_of_the_store_is_refused(digits_config: Path, tmp_path: Path) -> None:
    """NotADirectoryError an hour later, or "cannot be written" without the reason."""
    (tmp_path / "file").write_text("no folder")
    for store in (tmp_path / "file", tmp_path / "file" / "run"):
        code, output = said("plan", digits_config, "--store", store)
        assert code == 2
        assert f"{tmp_path / 'file'} is a file, not a folder" in output


def test_too_little_space_is_told_with_both_numbers(
    digits_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full after a night of work."""
    config = load_config(digits_config, store=str(tmp_path / "run"))
    files = StoreFiles(config.store_url)
    asked = match(config, files, "config")
    needed = missing_bytes(asked, None)
    check_ready(asked, files, None)
    assert free_bytes(files) == shutil.disk_usage(tmp_path).free
    monkeypatch.setattr("prism_ray.run.preflight.free_bytes", lambda _: needed // 2)
    with pytest.raises(UsageError, match=r"has .* MB free, and the run needs about .* MB more"):
        check_ready(asked, files, None)


def test_images_that_changed_since_the_run_began_are_named(
    digits_config: Path, folder: Path, tmp_path: Path
) -> None:
    """Teachers of one folder, distilled images of another one: "Complete and whole"."""
    config = config_of(digits_config, folder, tmp_path / "run")
    files = begin(config)
    check_ready(match(config, files, "config"), files, None)
    (folder / "cat" / "0.png").write_bytes((folder / "dog" / "0.png").read_bytes())
    with pytest.raises(DataError, match=r"1 image is changed \(.*cat/0\.png\) since the run in"):
        check_ready(match(config, files, "config"), files, None)


def test_an_added_image_is_told_and_left_out(digits_config: Path, folder: Path, tmp_path: Path) -> None:
    """Two hashes in place of the name of the image, or not a word."""
    config = config_of(digits_config, folder, tmp_path / "run")
    files = begin(config)
    shutil.copy(folder / "cat" / "0.png", folder / "cat" / "new.png")
    asked = match(config, files, "config")
    assert asked.fits
    check_ready(asked, files, None)
    assert f"1 image is added since the run began ({folder}/cat/new.png)" in str(asked.changes.note)
    moved = folder.rename(tmp_path / "moved")
    data = f"data={{source: image-folder, path: {moved}, image_size: 16}}"
    words = ["--store", tmp_path / "run", "--set", data, "--set", "recover.ipc=2"]
    code, output = said("plan", digits_config, *words)
    assert code == 2
    assert f"data: 1 image is added ({moved}/cat/new.png)" in output
    assert "identity" not in output


def test_an_order_of_classes_is_kept(digits_config: Path, folder: Path, tmp_path: Path) -> None:
    """Another order of the classes after the teachers were trained: all labels exchanged."""
    files = begin(config_of(digits_config, folder, tmp_path / "run"))
    for order, code in (("[cat, dog]", 0), ("[dog, cat]", 2)):
        data = f"data={{source: image-folder, path: {folder}, image_size: 16, classes: {order}}}"
        words = ["--store", files.location, "--set", data, "--set", "recover.ipc=2"]
        found, output = said("plan", digits_config, *words)
        assert found == code, output
    assert "data.classes is not the order of the classes that the run began with: cat, dog" in output
