"""Every command that is printed works on S3 too, and configs can be read there."""

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import fsspec
import pytest
import torchvision
from click.testing import CliRunner

from prism_ray.cli import main
from prism_ray.run import save_run
from prism_ray.store import Failure, layout, set_aside
from tests.filled import finish
from tests.printed import ODD, commands_in, in_shell, small_digits_run
from tests.s3.reach import ServerStart, fresh

s3fs = pytest.importorskip("s3fs")
pytest.importorskip("moto")
pytestmark = [pytest.mark.s3, pytest.mark.timeout(280)]


@pytest.fixture(autouse=True)
def _own_connections() -> Iterator[None]:
    """Connections are shared within a process, and those of an earlier test lead to its server."""
    s3fs.S3FileSystem.clear_instance_cache()
    yield
    s3fs.S3FileSystem.clear_instance_cache()


def call(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert isinstance(result.exception, SystemExit | None), result.exception
    return result.exit_code, result.output


def test_printed_commands_work(
    start_server: ServerStart, digits_config: Path, small_overrides: tuple[str, ...], tmp_path: Path
) -> None:
    """Catches `prism-ray distill s3://bucket/run/config.yaml`, which was printed and could not be read."""
    start_server()
    files, run = small_digits_run(digits_config, f"s3://bucket/{ODD}", small_overrides)
    save_run(files, run)
    set_aside(files, Failure("recover/distilled/i00000-c00000", "E", "m", "t", "h"))
    (line,) = commands_in(call("status", files.location)[1])
    assert f"{files.location} (nothing done yet)" in in_shell(line.replace("distill", "plan", 1)).output
    (line,) = commands_in(call("failures", files.location)[1])
    assert "1 unit is pending again" in in_shell(line).output
    finish(files, run)
    printed = {line for name in ("status", "show", "gc", "compact", "verify", "failures")
               for line in commands_in(call(name, files.location)[1])}  # fmt: skip
    assert {line.split()[1] for line in printed} == {"show", "verify", "gc", "status"}
    for line in printed:
        done = in_shell(line)
        assert done.exit_code == 0, (line, done.output)
    files.delete(layout.commit("squeeze/resnet"))
    files.create(layout.commit("squeeze/resnet"), b"{")
    (repair,) = commands_in(call("verify", files.location)[1])
    assert repair.startswith("prism-ray verify --repair ")
    assert [line.split()[1] for line in commands_in(in_shell(repair).output)] == ["distill"]
    assert commands_in(call("verify", files.location)[1])[0].startswith("prism-ray distill ")


def test_the_hints_of_an_export_fit(
    start_server: ServerStart, digits_config: Path, small_overrides: tuple[str, ...], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Catches a hint to read s3://... as a local folder."""
    start_server()
    monkeypatch.chdir(tmp_path)
    files, run = small_digits_run(digits_config, "s3://bucket/run", small_overrides)
    finish(files, run)
    packages: dict[str, Any] = {"datasets": datasets, "fsspec": fsspec, "torchvision": torchvision}
    code, said = call("export", files.location, "--to", f"s3://bucket/out/{ODD}")
    assert code == 0
    exec(
        f"import torchvision.datasets; found = {said.splitlines()[-1].strip().replace('; ', '; found = ')}",
        packages,
    )
    assert len(packages["found"]) == 40
    code, said = call("export", files.location, "--to", f"s3://bucket/set/{ODD}", "--as", "dataset")
    assert code == 0
    assert eval(said.splitlines()[-1].strip(), packages)["train"].num_rows == 40


def test_a_config_on_s3_is_read_with_the_limits_of_files(
    start_server: ServerStart, digits_config: Path, tmp_path: Path
) -> None:
    """Catches a megabyte of YAML, or a URL that `Path` makes into s3:/bucket/..."""
    start_server()
    files = fresh("s3://bucket/configs")
    files.create("ü #1.yaml", digits_config.read_bytes())
    files.create("large.yaml", b"# " + b"x" * 2**20)
    files.create("empty.yaml", b"")
    files.create("binary.yaml", b"\xff\xfe")
    store = ["--store", tmp_path / "run"]
    code, said = call("plan", "s3://bucket/configs/ü #1.yaml", *store)
    assert code == 0
    assert commands_in(said) == [f"prism-ray distill 's3://bucket/configs/ü #1.yaml' --store {tmp_path}/run"]
    for name, problem in (
        ("none", "s3://bucket/configs/none.yaml: no such file"),
        ("large", "s3://bucket/configs/large.yaml: cannot be read as text: it has more than 1,048,576 bytes"),
        ("empty", "s3://bucket/configs/empty.yaml: a config is a mapping"),
        ("binary", "s3://bucket/configs/binary.yaml: cannot be read as text"),
    ):
        code, said = call("plan", f"s3://bucket/configs/{name}.yaml", *store)
        assert (code, problem in said) == (2, True), said


def test_the_trial_of_a_store(start_server: ServerStart, digits_config: Path) -> None:
    """Catches a bucket that does not exist, which was found by an actor, and a good store that is refused."""
    start_server(before=5, after=7, taken=3)
    for _ in range(4):
        files = fresh("s3://bucket/run")
        files.check_usable()
        assert list(files.list("wip")) == []
    code, said = call("distill", digits_config, "--store", "s3://no-such-bucket/run")
    assert code == 2
    assert "store 's3://no-such-bucket/run' cannot be used" in said
    assert len(said.splitlines()) == 1


def test_show_of_a_store_that_may_only_be_read(
    start_server: ServerStart,
    digits_config: Path,
    small_overrides: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Catches a reader of somebody's bucket who gets no sheet, and a sheet that the bucket does not get."""
    url = start_server()
    files, run = small_digits_run(digits_config, "s3://bucket/run", small_overrides)
    finish(files, run)
    monkeypatch.chdir(tmp_path)
    code, output = call("show", files.location)
    assert (code, output.splitlines()[0]) == (0, f"{files.location}/{layout.SHEET}")
    assert files.read(layout.SHEET).startswith(b"\x89PNG")
    urllib.request.urlopen(f"{url}/read-only", timeout=60).close()
    code, output = call("show", files.location, "--class", "3", "--ipc-index", "1")
    assert code == 0, output
    assert "so sheet.png is in the current folder" in output
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
