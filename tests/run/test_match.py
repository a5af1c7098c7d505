"""What is asked, held against what the store has."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prism_ray.config import Config, load_config
from prism_ray.data import open_data
from prism_ray.errors import ConfigError, NewerStoreError, StoreError
from prism_ray.run import load_run, match, new_run, save_run
from prism_ray.store import StoreFiles, layout, revoke, write_part
from prism_ray.store.commits import Commit, write_commit


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of five images each."""
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        for number in range(5):
            path = tmp_path / "images" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).save(path)
    return tmp_path / "images"


def config_of(digits_config: Path, folder: Path, store: Path, *overrides: str) -> Config:
    data = f"data={{source: image-folder, path: {folder}, image_size: 16}}"
    return load_config(digits_config, [data, "recover.ipc=2", *overrides], str(store))


def begin(config: Config) -> StoreFiles:
    """Make a store with a run and one commit."""
    files = StoreFiles(config.store)
    asked = match(config, files, "config")
    run = save_run(files, new_run(config, asked.facts, 1))
    assert asked.index is not None
    files.replace(layout.DATA_INDEX, asked.index.to_parquet())
    part = write_part(files, lambda attempt: f"students/x-{attempt}.json", b"good")
    write_commit(
        files, Commit("squeeze/resnet", run.fingerprint_of("squeeze/resnet"), (part,), {}, 1.0, "host", "now")
    )
    return files


def test_another_folder_is_another_run(digits_config: Path, folder: Path, tmp_path: Path) -> None:
    """Catches a finished run that calls itself the run of whatever folder is named, even of none."""
    store = tmp_path / "run"
    files = begin(config_of(digits_config, folder, store))
    assert match(config_of(digits_config, folder, store), files, "config").fits
    moved = folder.rename(tmp_path / "moved")
    assert match(config_of(digits_config, moved, store), files, "config").fits
    (moved / "cat" / "new.png").write_bytes((moved / "cat" / "0.png").read_bytes())
    assert not match(config_of(digits_config, moved, store), files, "config").fits


def test_a_lost_plan_is_restored_from_the_listing_of_the_store(
    digits_config: Path, folder: Path, tmp_path: Path
) -> None:
    """Catches a store without plan.json that cannot be gone on with because the folder has a new image."""
    config = config_of(digits_config, folder, tmp_path / "run")
    files = begin(config)
    files.delete(layout.PLAN)
    (folder / "cat" / "new.png").write_bytes((folder / "cat" / "0.png").read_bytes())
    asked = match(config, files, "config")
    assert asked.plan_is_lost
    assert asked.num_threads == 1
    files.delete(layout.DATA_INDEX)
    with pytest.raises(StoreError, match=r"plan\.json is missing.* is not that one"):
        match(config, files, "config")


def test_weights_are_asked_for_until_the_store_has_their_teacher(digits_config: Path, tmp_path: Path) -> None:
    """Catches a run that cannot go on without a file that it no longer needs, or that starts without one."""
    path = tmp_path / "weights.pth"
    path.write_bytes(b"\x80 some weights")
    pool = f"teachers.pool=[{{name: a, arch: 'timm:test_resnet@{path}'}}]"
    config = load_config(digits_config, [pool, "recover.primary=a"], str(tmp_path / "run"))
    files = StoreFiles(config.store)
    asked = match(config, files, "config")
    run = save_run(files, new_run(config, asked.facts, 1, asked.weights))
    path.unlink()
    with pytest.raises(ConfigError, match=r"weights\.pth cannot be read"):
        match(config, files, "config")
    part = write_part(files, lambda attempt: f"teachers/a-{attempt}", b"good")
    unit = "squeeze/a"
    write_commit(files, Commit(unit, run.fingerprint_of(unit), (part,), {}, 1.0, "host", "now"))
    again = match(config, files, "config")
    assert again.weights == asked.weights
    assert again.fits
    path.write_bytes(b"\x80 other weights")
    assert not match(config, files, "config").fits


def test_free_settings_follow_the_present_call(digits_config: Path, tmp_path: Path) -> None:
    """Catches a `status` that counts the students of the first call for ever."""
    files = StoreFiles(str(tmp_path / "run"))
    for seeds in (1, 3):
        config = load_config(digits_config, [f"evaluate.num_students={seeds}"], files.location)
        save_run(files, new_run(config, open_data(config.data).facts(), 1))
        assert load_run(files).plan.num_units("evaluate") == 2 * seeds


def test_revoking_deletes_what_is_damaged_and_keeps_what_is_whole(tmp_path: Path) -> None:
    """Catches a corrupt part that stays beside its successor, where a glob over the parts finds both."""
    files = StoreFiles(str(tmp_path / "run"))
    parts = tuple(
        write_part(files, lambda attempt, name=name: f"images/part-{name}-{attempt}.parquet", b"good")
        for name in ("a", "b")
    )
    plan = write_part(files, lambda _: "plan.json", b"plan")
    commit = Commit("recover/distilled/x", "f", (*parts, plan), {}, 1.0, "host", "now")
    write_commit(files, commit)
    (tmp_path / "run" / parts[0].name).write_bytes(b"evil")
    (tmp_path / "run" / "plan.json").write_bytes(b"other")
    revoke(files, commit.unit)
    assert not files.exists(layout.commit(commit.unit))
    assert not files.exists(parts[0].name)
    assert files.exists(parts[1].name)
    assert files.exists("plan.json")
    revoke(files, commit.unit)


@pytest.mark.parametrize(
    ("version", "error", "problem"),
    [
        (5, NewerStoreError, "plan version 5, .*upgrade prism-ray"),
        (2, StoreError, "plan version 2, .*finish the"),
    ],
)
def test_a_run_of_an_unknown_plan_version_is_read_and_not_extended(
    digits_config: Path, tmp_path: Path, version: int, error: type[Exception], problem: str
) -> None:
    """Catches units added under rules that this version does not know, or a store that nobody can look at."""
    files = StoreFiles(str(tmp_path / "run"))
    config = load_config(digits_config, store=files.location)
    run = save_run(files, new_run(config, open_data(config.data).facts(), 1, version=version))
    unit = "squeeze/resnet"
    write_commit(files, Commit(unit, run.fingerprint_of(unit), (), {}, 1.0, "host", "now"))
    assert load_run(files).plan_version == version
    with pytest.raises(error, match=problem):
        match(config, files, "config")


def test_a_new_run_is_asked_for_with_its_controls(digits_config: Path, tmp_path: Path) -> None:
    """Catches a default that `plan` and `distill` do not share, because one of them reads the bare config."""
    config = load_config(digits_config, store=str(tmp_path / "run"))
    asked = match(config, StoreFiles(str(tmp_path / "run")), "config")
    assert list(asked.config.evaluations) == ["student", "student-hard-labels"]
    assert list(config.evaluations) == ["student"]
