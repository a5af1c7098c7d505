"""Every command that is printed works as printed, whatever the store is called; tests/s3/ has S3."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet
import pytest
import torchvision
from click.testing import CliRunner

from prism_ray.cli import main
from prism_ray.run import new_run, save_run
from prism_ray.run.dataset import how_to_read_dataset
from prism_ray.run.export import how_to_read_folder
from prism_ray.store import Failure, StoreFiles, layout, set_aside
from tests.filled import finish
from tests.plans import config_of, facts_of
from tests.printed import ODD, commands_in, in_shell, small_digits_run


def said_by(*arguments: str | Path) -> str:
    """Return what a command prints."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert isinstance(result.exception, SystemExit | None), result.exception
    return result.output


@pytest.mark.parametrize("name", [ODD, 'a::b (50%) [x] {y} *?$HOME "q".yaml', "-x"])
def test_commands_on_a_finished_store(
    name: str, digits_config: Path, small_overrides: tuple[str, ...], tmp_path: Path
) -> None:
    """Catches `Next: prism-ray show /tmp/my run`, which a shell reads as two stores."""
    files, run = small_digits_run(digits_config, str(tmp_path / name), small_overrides)
    finish(files, run)
    printed = {}
    for words in (["status"], ["show"], ["gc"], ["compact"], ["verify"], ["failures"]):
        for line in commands_in(said_by(words[0], files.location)):
            printed[line] = words
    assert {line.split()[1] for line in printed} == {"show", "verify", "gc", "status"}
    for line in printed:
        done = in_shell(line)
        assert done.exit_code == 0, (line, done.output)
        assert "error:" not in done.output


def test_commands_on_a_store_with_work_to_do(
    digits_config: Path, small_overrides: tuple[str, ...], tmp_path: Path
) -> None:
    """Catches a command to resume that names another config or another store."""
    files, run = small_digits_run(digits_config, str(tmp_path / ODD), small_overrides)
    save_run(files, run)
    set_aside(files, Failure("recover/distilled/i00000-c00000", "E", "m", "t", "h"))
    for words in (["status", files.location], ["verify", files.location], ["show", files.location]):
        (line,) = commands_in(said_by(*words))
        assert line.startswith("prism-ray distill ")
        shown = in_shell(line.replace("distill", "plan", 1))
        assert shown.exit_code == 0, shown.output
        assert f"{files.location} (nothing done yet)" in shown.stdout
        (again,) = commands_in(shown.stdout)
        assert commands_in(in_shell(again.replace("distill", "plan", 1)).output) == [again]
    (line,) = commands_in(said_by("retry", files.location, "recover/x"))
    assert "set aside: recover/distilled/i00000-c00000" in in_shell(line).stdout
    (line,) = commands_in(said_by("failures", files.location))
    assert "1 unit is pending again" in in_shell(line).stdout


def test_commands_before_there_is_a_store(digits_config: Path, tmp_path: Path) -> None:
    """Catches "run `prism-ray squeeze` first", which is no command, and a --set that is lost or cut."""
    config = tmp_path / f"-{ODD}.yaml"
    config.write_bytes(digits_config.read_bytes())
    store = str(tmp_path / ODD)
    given = ["--set", "recover.ipc=3", "--set", f"data.path={ODD}", "--set", "data.path=", "--store", store]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)  # there a relative path means the same
        text = said_by("recover", *given, "--", config.name)
        squeeze, distill = commands_in(text)
        assert squeeze.startswith("prism-ray squeeze './-my ü run")
        plan = said_by("plan", *given, "--", config.name)
        assert commands_in(plan) == [distill]
        assert commands_in(in_shell(distill.replace("distill", "plan", 1)).output) == [distill]
    (line,) = commands_in(said_by("status", store))
    assert line.startswith("prism-ray distill CONFIG --store '")


def test_a_store_that_is_called_like_a_config(
    digits_config: Path, small_overrides: tuple[str, ...], tmp_path: Path
) -> None:
    """Catches a finished run that no command takes, because of its name, and a config taken for a store."""
    files, run = small_digits_run(digits_config, str(tmp_path / "x.yaml"), small_overrides)
    finish(files, run)
    assert "Complete. Next: prism-ray show" in said_by("status", files.location)
    files.delete(layout.PLAN)
    assert "plan.json is missing, but the store has finished units" in said_by("status", files.location)
    for path in (digits_config, tmp_path / "none.yml"):
        result = CliRunner().invoke(main, ["status", str(path)])
        assert (result.exit_code, "is a config, but this command takes a store" in result.output) == (2, True)
    (tmp_path / "file").write_text("x")
    assert "is a file, but this command takes a store" in said_by("status", tmp_path / "file")


def test_rich_shows_the_name_of_a_store_as_it_is(digits_config: Path, tmp_path: Path) -> None:
    """Catches `[bold]` and `:smile:` in a name, read as style and emoji."""
    store = tmp_path / "[bold]x[/bold] :smile:"
    assert f"Store           {store} (nothing done yet)" in said_by("plan", digits_config, "--store", store)


@pytest.mark.parametrize("name", ["out", ODD, "a::b", "a?b", "[0-9]", 'q"', "$HOME"])
def test_the_hint_of_an_export_reads_it(name: str, tmp_path: Path) -> None:
    """Catches a hint for Python with a quote too many, or one for which `datasets` reads other folders."""
    files = StoreFiles(str(tmp_path / "run"))
    facts = replace(facts_of(3), channels=1)
    finish(files, new_run(config_of(1, recover__ipc=1, data__image_size=8, relabel__epochs=2), facts, 1))
    packages: dict[str, Any] = {"datasets": datasets, "pyarrow": pyarrow, "torchvision": torchvision}
    for kind, hint in (("folder", how_to_read_folder), ("dataset", how_to_read_dataset)):
        target = tmp_path / kind / name
        for neighbour in (target, tmp_path / kind / "a-b", tmp_path / kind / "0"):
            said = said_by("export", files.location, "--to", neighbour, "--as", kind)
        said = said_by("export", files.location, "--to", f"{target}2", "--as", kind)
        code = said.splitlines()[-1].strip()
        assert code == hint(StoreFiles(f"{target}2"))
        rows = eval(code, packages)
        rows = rows["train"] if isinstance(rows, dict) else rows
        assert len(rows) == 3
