"""What commands print with --json, and the schemas of it."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

from prism_ray.analyze.results import ResultRow, to_plain
from prism_ray.cli import main
from prism_ray.cli.outputs import COMMANDS, _comments, output_schema
from prism_ray.run import save_run
from prism_ray.run.live import ActorNow, Live, StageNow, UnitNow
from prism_ray.store import Failure, Lease, StoreFiles, layout, record_failure, set_aside
from prism_ray.store.sweeps import SweepRecord, write_sweep
from tests.filled import finish
from tests.printed import small_digits_run

DOCUMENT = Path(__file__).parents[2] / "docs" / "json.md"


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield the schemas of objects with named keys."""
    if isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict) and "type" in schema:
            yield schema
        for value in schema.values():
            yield from objects(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from objects(value)


def printed_schema_loads(command: str) -> str:
    """Print a schema in a process of its own; return the heavy packages that it loaded, as text."""
    code = (
        "import sys; from click.testing import CliRunner; from prism_ray.cli import main; "
        f"assert CliRunner().invoke(main, ['schema', {command!r}]).exit_code == 0; "
        "print([name for name in ('torch', 'ray') if name in sys.modules])"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def check(command: str, values: Any) -> None:
    """Validate plain data; keys that the schema does not list are errors here."""
    schema = output_schema(command)
    jsonschema.Draft202012Validator.check_schema(schema)
    for each in objects(schema):
        each["additionalProperties"] = False
    jsonschema.validate(values, schema, jsonschema.Draft202012Validator)


def printed(*words: object) -> tuple[int, Any]:
    """Run a command with --json in this process; return its exit code and the object."""
    result = CliRunner().invoke(main, [*map(str, words), "--json"])
    assert isinstance(result.exception, SystemExit | None), result.exception
    return result.exit_code, json.loads(result.stdout)


@pytest.mark.ray
def test_a_real_run_fits_the_schemas(calm: Path, small_options: list[str], digits_config: Path) -> None:
    """Catches a key that no schema lists, one that is missing, and a value of another type."""
    config = [digits_config, *small_options, "--store", calm]
    for words in (
        ("status", calm),
        ("verify", calm),
        ("failures", calm),
        ("compare", calm),
        ("plan", *config),
        ("teachers", *config, "--batch-size", 1),
    ):
        code, values = printed(*words)
        assert code == 0, words
        check(str(words[0]), values)


def test_runs_with_controls_and_failures_fit(
    digits_config: Path, small_overrides: tuple[str, ...], tmp_path: Path
) -> None:
    """Catches figures that only some runs have: gains, intervals, fair scores, failed attempts, damage."""
    stores = []
    for seed in (1, 2):
        overrides = (
            *small_overrides,
            f"seed={seed}",
            "evaluate.num_students=2",
            "evaluate.controls=[hard-labels, no-augmentation, full-data]",
        )
        files, run = small_digits_run(digits_config, str(tmp_path / f"run{seed}"), overrides)
        finish(files, run)
        stores.append(files)
    code, values = printed("compare", *(files.location for files in stores))
    assert code == 0
    assert values["verdict"]["gains"][0]["interval"] is not None
    check("compare", values)
    files = stores[0]
    failure = Failure("recover/a/b", "EngineError", "not finite", "Traceback", "node-7")
    record_failure(files, failure)
    set_aside(files, failure)
    check("failures", printed("failures", files.location)[1])
    part = next(Path(files.location).glob("images/**/*.parquet"))
    part.write_bytes(b"broken")
    for command in ("status", "verify"):
        code, values = printed(command, files.location)
        assert (code, bool(values["damaged"])) == (3, True)
        check(command, values)


def test_a_run_at_work_fits(digits_config: Path, small_overrides: tuple[str, ...], tmp_path: Path) -> None:
    """Catches a schema of finished runs alone: a driver, its actors, and students that are not there yet."""
    files, run = small_digits_run(digits_config, str(tmp_path / "run"), small_overrides)
    finish(files, run)
    for path in tmp_path.glob("run/commits/evaluate/**/*.json"):
        path.unlink()
    unit = UnitNow("recover/a/b", 2, 12, 4.0, {"ce": 1.0})
    live = Live(
        5.0,
        (StageNow("recover", 1, 4, 0, 2.5, 0.3, None),),
        (ActorNow("a", "node-1", 7, "cpu", (unit,), ("resnet",)),),
        ("squeeze/resnet",),
    )
    with Lease(files, 20.0, lambda text: None):
        files.replace(layout.LIVE, live.to_json())
        code, values = printed("status", files.location)
    assert code == 3
    assert values["driver"]["alive"]
    assert values["live"]["actors"][0]["units"][0]["values"] == {"ce": 1.0}
    assert values["results"]["rows"] == []
    check("status", values)


def test_a_run_that_has_not_begun_fits(
    digits_config: Path, small_overrides: tuple[str, ...], tmp_path: Path
) -> None:
    """Catches keys that are None, or lists that are empty, before the first unit."""
    files, run = small_digits_run(digits_config, str(tmp_path / "run"), small_overrides)
    save_run(files, run)
    for command, expected in (("status", 3), ("verify", 3), ("failures", 0)):
        code, values = printed(command, files.location)
        assert code == expected
        check(command, values)


def test_the_folder_of_a_sweep_fits(
    digits_config: Path, small_overrides: tuple[str, ...], tmp_path: Path
) -> None:
    """Catches `status` of a sweep, or of one of its points, that the schema of `status` refuses."""
    points: dict[str, dict[str, Any]] = {"s.seed=1": {"seed": 1}, "s.seed=2": {"seed": 2}}
    write_sweep(StoreFiles(str(tmp_path)), SweepRecord("s", points, has_seeds=True))
    location = str(tmp_path / "s.seed=1")
    finish(*small_digits_run(digits_config, location, (*small_overrides, "seed=1")))
    code, values = printed("status", tmp_path)
    assert code == 3
    assert [point["state"] for point in values["sweeps"][0]["points"]] == ["complete", "not begun"]
    assert values["sweeps"][0]["rows"][0]["mean"] == 0.5
    check("status", values)
    code, values = printed("status", location)
    assert code == 0
    check("status", values)


def test_a_forecast_of_a_sweep_fits(tmp_path: Path) -> None:
    """Catches a forecast whose keys no schema lists, or that is not one object."""
    file = Path(__file__).parents[2] / "jobs" / "sweeps" / "init.yaml"
    code, values = printed("sweep", file, "--dry-run", "--store", tmp_path / "sweep")
    assert code == 0
    assert values["points"][0]["units"]["recover"] > 0
    check("sweep", values)


@pytest.mark.parametrize("number", [0, 1])
def test_the_examples_of_the_document_run(
    number: int, digits_config: Path, small_overrides: tuple[str, ...], tmp_path: Path
) -> None:
    """Catches an example with a key that is gone. It is run as it stands, on a store where it looks."""
    finish(*small_digits_run(digits_config, str(tmp_path / "runs" / "digits"), small_overrides))
    text = DOCUMENT.read_text()
    example = re.findall(r"```(sh|python)\n(.*?)```", text, re.DOTALL)[number]
    assert example[0] == ("sh", "python")[number]
    if number == 0 and shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    words = ["sh", "-ec", example[1]] if number == 0 else [sys.executable, "-c", example[1]]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path}
    done = subprocess.run(
        words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    if number == 0:
        assert "random real images" in done.stdout
        schema = json.loads((tmp_path / "status.schema.json").read_text())
        assert schema == output_schema("status")
    else:
        assert re.search(r"^distilled\s+student\s+50\.0 %$", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_schemas_are_printed_and_documented(command: str) -> None:
    """Catches a key that docs/json.md does not list, or lists and that is gone."""
    result = CliRunner().invoke(main, ["schema", command])
    assert result.exit_code == 0, result.output
    schema = json.loads(result.output)
    names = [each["$ref"].rpartition("/")[2] for each in schema.get("anyOf", ())]
    tops = [schema["$defs"][name] for name in names] or [schema]
    found = re.findall(rf"^\| `{command}[` ].*?\| (.*) \|$", DOCUMENT.read_text(), re.MULTILINE)
    assert [re.findall(r"`(\w+)`", line) for line in found] == [list(top["properties"]) for top in tops]


def test_comments_describe_keys() -> None:
    """Catches descriptions of other keys, or of keys that a class has from its base or as properties."""
    gain = output_schema("compare")["$defs"]["Gain"]["properties"]
    assert gain["mean"]["description"] == "accuracy of the image set"
    assert gain["is_sure"] == {"type": "boolean", "description": "Whether the interval does not contain 0."}
    assert gain["control"]["description"] == "name of the random real images"
    compare = output_schema("compare")["properties"]
    assert compare["missing_controls"]["description"].startswith("a sentence")
    row = ResultRow("a", "b", "soft", "test", (0.5, 0.7))
    assert to_plain(row).keys() - asdict(row).keys() == {"mean", "spread", "test_error"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_key_is_described(command: str) -> None:
    """Catches a key that is added without a comment beside it, or a docstring if it is a property."""
    missing = [
        f"{each.get('title', command)}.{name}"
        for each in objects(output_schema(command))
        for name, value in each["properties"].items()
        if not value.get("description")
    ]
    assert missing == []


def test_a_key_without_a_comment_is_found() -> None:
    """Catches descriptions that come from anywhere but the key's own line."""

    @dataclass(frozen=True)
    class Some:
        told: int  # bytes
        bare: int
        # a comment on a line of its own
        last: int

    assert _comments(Some) == {"told": "bytes"}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_schema_is_printed_without_torch_and_ray(command: str) -> None:
    """Catches seconds of waiting because a dataclass lies beside code that computes."""
    assert printed_schema_loads(command).strip() == "[]"


def test_a_command_without_schema_is_refused() -> None:
    """Catches a traceback, and an error that does not name the commands."""
    result = CliRunner().invoke(main, ["schema", "statsu"])
    assert result.exit_code == 2
    assert "did you mean 'status'?" in result.output
