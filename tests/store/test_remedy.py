"""One remedy per fault: the command that an error names repairs the fault."""

import io
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from prism_ray.cli import main
from prism_ray.config import load_config
from prism_ray.errors import StoreError
from prism_ray.run import load_run, match, new_run, save_run
from prism_ray.store import Failure, StoreFiles, layout, record_failure, set_aside
from prism_ray.store.remedy import damaged, resume_command, unfit
from tests.filled import finish

BATCH = "recover/distilled/i00000-c00000"


@pytest.fixture
def files(tmp_path: Path, digits_config: Path) -> StoreFiles:
    """A finished run on a folder of images, with the record of a failure. The store's name has a space."""
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        for number in range(5):
            path = tmp_path / "images" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).save(path)
    data = f"data={{source: image-folder, path: {tmp_path / 'images'}, image_size: 16}}"
    config = load_config(digits_config, [data, "recover.ipc=2"], str(tmp_path / "my run"))
    files = StoreFiles(config.store_url)
    asked = match(config, files, "config")
    assert asked.index is not None
    finish(files, new_run(config, asked.facts, 1))
    files.replace(layout.DATA_INDEX, asked.index.to_parquet())
    failure = Failure(BATCH, "EngineError", "not finite", "tb", "here")
    record_failure(files, failure)
    return files


def call(*arguments: str) -> str:
    result = CliRunner().invoke(main, arguments)
    assert isinstance(result.exception, SystemExit | None), result.exception
    return result.stdout + result.stderr


def part_of(files: StoreFiles, unit_id: str) -> str:
    name: str = json.loads(files.read(layout.commit(unit_id)))["files"][0]["name"]
    return name


def spoil(files: StoreFiles, name: str) -> None:
    files.replace(name, b"x" * len(files.read(name)))


FAULTS: dict[str, tuple[Callable[[StoreFiles], None], list[str]]] = {
    # how it comes about; the command that finds it
    "a part of images": (lambda files: spoil(files, part_of(files, BATCH)), ["show"]),
    "a part that is gone": (lambda files: files.delete(part_of(files, BATCH)), ["export", "--to", "out"]),
    "a commit": (lambda files: files.replace(layout.commit(BATCH), b"{"), ["gc", "--older-than", "0"]),
    "the listing of the images": (
        lambda files: files.replace(layout.DATA_INDEX, b"PAR1"),
        ["plan"],
    ),
    "the record of a failure": (lambda files: spoil(files, layout.failure(BATCH, 1)), ["failures"]),
    "a commit without figures": (
        lambda files: files.replace(
            layout.commit("squeeze/resnet"),
            files.read(layout.commit("squeeze/resnet")).replace(b'"test_accuracy"', b'"other"'),
        ),
        ["status"],
    ),
}


@pytest.mark.parametrize(("harm", "command"), FAULTS.values(), ids=FAULTS.keys())
def test_the_command_that_is_named_repairs_the_fault(
    files: StoreFiles, harm: Callable[[StoreFiles], None], command: list[str], tmp_path: Path
) -> None:
    """Catches a remedy that leaves the fault where it is, or that a shell cannot read."""
    config = f"{files.location}/{layout.CONFIG}"
    name, *options = command
    target = [config, "--store", files.location] if name == "plan" else [files.location]
    options = [str(tmp_path / "out") if option == "out" else option for option in options]
    harm(files)
    said = call(name, *target, *options)
    (remedy, again) = re.findall(r"`prism-ray ([^`]+)`", said)
    assert shlex.split(again) == ["distill", config, "--store", files.location]
    assert shlex.split(remedy)[0] in ("verify", "retry")
    call(*shlex.split(remedy))
    run = load_run(files)
    save_run(files, run)
    finish(files, run)  # as `distill` does the units that are pending again
    assert "prism-ray verify --repair" not in call("verify", files.location)
    after = call(name, *target, *options)
    assert "damaged" not in after
    assert "cannot be used" not in after


def test_a_lost_plan_names_the_command_that_writes_it_anew(files: StoreFiles) -> None:
    """Catches a user who is told to find a config that the store has."""
    files.replace(layout.PLAN, b"{")
    said = call("status", files.location)
    (again,) = re.findall(r"`prism-ray ([^`]+)`", said)
    assert call(*shlex.split(again)).startswith("Verdict: ")
    assert "damaged" not in call("status", files.location)


def test_the_sentences(files: StoreFiles) -> None:
    """Catches a sentence without file, problem or command, or a list that repeats the remedy."""
    again = f"`{resume_command(files)}`"
    for error, what in (
        (damaged(files, "images/a", "it is short"), f"{files.location}/images/a is damaged: it is short"),
        (unfit(files, BATCH, "NaN"), f"{files.location}: the result of {BATCH} cannot be used: NaN"),
    ):
        assert isinstance(error, StoreError)
        assert error.problem == what
        assert str(error).startswith(f"{what}; run `prism-ray ")
        assert str(error).endswith(f"`, then {again}")


def test_records_that_are_damaged_are_found_and_deleted_by_verify(files: StoreFiles) -> None:
    """Catches a `failures` that ends in an error for ever because one record is cut short."""
    set_aside(files, Failure("relabel/x", "E", "m", "t", "h"))
    spoil(files, layout.aside("relabel/x"))
    said = call("verify", files.location)
    assert f"damaged: {layout.aside('relabel/x')}: " in said
    call("verify", "--repair", files.location)
    assert not files.exists(layout.aside("relabel/x"))
    assert io.StringIO(call("failures", files.location)).readline().strip()
