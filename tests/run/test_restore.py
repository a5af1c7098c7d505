"""A store whose plan.json is lost: gone on with by the config it was made with, and by no other."""

from pathlib import Path

import pytest

from prism_ray.config import Config, load_config
from prism_ray.data import open_data
from prism_ray.errors import StoreError
from prism_ray.run import load_run, match, new_run, save_run
from prism_ray.store import Commit, StoreFiles, layout, write_commit

Lost = bytes | None  # what is in place of plan.json


def config_of(digits_config: Path, store: Path, *overrides: str) -> Config:
    return load_config(digits_config, ["orchestrate.threads_per_actor=auto", *overrides], str(store))


def begin(config: Config, lost: Lost, num_threads: int = 3) -> StoreFiles:
    """Make a store with commits of two scopes and without a plan.json that could be read."""
    files = StoreFiles(config.store_url)
    run = save_run(files, new_run(config, open_data(config.data).facts(), num_threads))
    for unit in ("squeeze/resnet", next(iter(run.plan.unit_ids("recover", "distilled")))):
        write_commit(files, Commit(unit, run.fingerprint_of(unit), (), {}, 1.0, "host", "now"))
    if lost is None:
        files.delete(layout.PLAN)
    else:
        files.replace(layout.PLAN, lost)
    return files


@pytest.mark.parametrize("lost", [None, b"", b"{}", b"garbage"])
def test_the_commits_prove_the_config_and_its_threads(
    digits_config: Path, tmp_path: Path, lost: Lost
) -> None:
    """Catches a month of work lost with one small file, or gone on with other threads, to other bytes."""
    config = config_of(digits_config, tmp_path / "run")
    files = begin(config, lost)
    with pytest.raises(StoreError, match="checked against the commits") as caught:
        load_run(files)
    resume = f"`prism-ray distill {files.location}/config.yaml --store {files.location}`"
    assert resume in str(caught.value)
    copy = load_config(Path(files.location) / layout.CONFIG, (), files.location)
    for asked_for in (config, copy):
        asked = match(asked_for, files, "config")
        assert asked.plan_is_lost
        assert asked.fits
        assert asked.num_threads == 3
    again = match(config_of(digits_config, tmp_path / "run", "evaluate.num_students=5"), files, "config")
    assert again.fits  # what cannot change a result may be another


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "recover.iterations=70",
        "teachers.squeeze.epochs=1",
        "data.image_size=16",
        "orchestrate.threads_per_actor=2",
        "image_sets={other: {method: sre2l}}",  # the set that has commits is not among them
    ],
)
def test_another_config_is_refused(digits_config: Path, tmp_path: Path, override: str) -> None:
    """Catches the work of one run taken for another's, and thrown away unit by unit."""
    files = begin(config_of(digits_config, tmp_path / "run"), None)
    problem = "does not name all .*: recover/distilled" if "image_sets" in override else "is not that one"
    with pytest.raises(StoreError, match=rf"plan\.json is missing.* {problem}"):
        match(config_of(digits_config, tmp_path / "run", override), files, "config")


def test_a_damaged_commit_proves_nothing(digits_config: Path, tmp_path: Path) -> None:
    """Catches a config that is refused, or taken on trust, because the first commit was hit too."""
    config = config_of(digits_config, tmp_path / "run")
    files = begin(config, None)
    (recover,) = (Path(files.location) / "commits" / "recover").rglob("*.json")
    recover.write_bytes(b"x")
    assert match(config, files, "config").fits
    files.replace(layout.commit("squeeze/resnet"), b"x")
    with pytest.raises(StoreError, match=r"plan\.json is missing"):
        match(config, files, "config")
