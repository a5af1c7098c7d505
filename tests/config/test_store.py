"""`store`: a plain place, or a section that says how images are kept."""

from pathlib import Path

import pytest

from prism_ray.config import dump_config, load_config
from prism_ray.plan.fingerprint import run_scopes
from tests.config.loading import complaint, write
from tests.plans import facts_of


def test_a_plain_store_keeps_images_in_parquet(config_path: Path) -> None:
    """Catches a default that changes what is written."""
    config = load_config(config_path)
    assert (config.store_url, config.image_files) == ("./runs/minimal", "parquet")


@pytest.mark.parametrize("way", ["option", "file"])
def test_png_is_one_key_more(config_path: Path, minimal: str, way: str) -> None:
    """Catches a store whose place is lost when one more thing is said of it."""
    if way == "file":
        section = "store:\n  url: ./runs/minimal\n  image_format: png"
        write(config_path, minimal.replace("store: ./runs/minimal", section))
    config = load_config(config_path, ["store.image_format=png"] if way == "option" else [])
    assert (config.store_url, config.image_files) == ("./runs/minimal", "png")
    moved = load_config(config_path, ["store.image_format=png"], store="s3://bucket/run")
    assert (moved.store_url, moved.image_files) == ("s3://bucket/run", "png")
    assert config.with_store("elsewhere").store_url == "elsewhere"
    assert config.with_store("elsewhere").image_files == "png"
    again = config_path.with_name("resolved.yaml")
    write(again, dump_config(config))
    assert load_config(again) == config


def test_the_way_images_are_kept_changes_no_result(config_path: Path) -> None:
    """Catches a run that cannot go on, because its images are to be kept in another way from here on."""
    plain, png = load_config(config_path), load_config(config_path, ["store.image_format=png"])
    assert run_scopes(plain, facts_of(), 1) == run_scopes(png, facts_of(), 1)


def test_a_batch_has_no_more_files_than_a_commit_can_name(config_path: Path) -> None:
    """Catches a batch that is made for hours and then cannot be committed."""
    large = ["recover.images_per_batch=10001"]
    load_config(config_path, large)
    message = complaint(config_path, *large, "store.image_format=png")
    assert (
        "recover.images_per_batch = 10001: with store.image_format = 'png' a batch has at most 10,000"
        in message
    )


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("store.image_format=jpeg", "store.image_format = 'jpeg': must be 'parquet' or 'png'"),
        ("store.image=png", "store.image = 'png': unknown key; did you mean store.image_format?"),
        (
            "store={image_format: png}",
            "store.url is missing (Folder or URL of the run's store, for example s3://bucket/run.)",
        ),
        ("store={url: true}", "store.url = True: must be text; put text in quotes"),
        ("store=null", "store = None: must be text; put text in quotes"),
        ("store=[a]", "store = ['a']: must be text; put text in quotes"),
    ],
)
def test_what_is_wrong_with_a_store_is_said_once(config_path: Path, override: str, problem: str) -> None:
    """Catches complaints of both ways to write a store, of which the user has written one."""
    assert complaint(config_path, override) == f"--set {override}: {problem}"
